//! The JSON schema of the manifest, for editors.

use schemars::generate::SchemaSettings;

use super::table::ManifestTable;

/// The JSON schema of `wharf.toml`, in draft 7, which is what TOML editors read.
pub fn manifest_schema() -> serde_json::Value {
    SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<ManifestTable>()
        .to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wharf.schema.json");
    const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifest.md");

    #[test]
    fn the_committed_schema_is_the_one_the_manifest_is_read_by() {
        let current = format!("{:#}\n", manifest_schema());
        if std::env::var_os("WHARF_BLESS").is_some() {
            std::fs::write(PATH, &current).unwrap();
        }
        let committed = std::fs::read_to_string(PATH).unwrap();
        assert!(
            committed == current,
            "docs/wharf.schema.json is old: run `WHARF_BLESS=1 cargo test --lib schema`"
        );
    }

    #[test]
    fn the_guide_tells_of_every_key() {
        let guide = std::fs::read_to_string(GUIDE).unwrap();
        let schema = manifest_schema();
        let tables = schema["definitions"].as_object().unwrap().values();
        for table in tables.chain([&schema]) {
            let keys = table["properties"].as_object();
            for key in keys.into_iter().flat_map(|keys| keys.keys()) {
                assert!(guide.contains(&format!("`{key}")), "{key}");
            }
        }
    }
}

//! `wharf new`: a project to start from.
//!
//! The templates are whole projects, embedded in the program. `{{name}}` in them is the function's name and `{{sdk}}`
//! the dependency on the guest crate.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::output::Output;
use crate::model::FunctionName;

/// Make a function in a new folder
///
/// It is a Rust project with a manifest and a test. `cargo test` runs the test, `wharf build` makes the component.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf new hello                          a function that answers HTTP, in ./hello
  wharf new thumbnails --template event    a function that takes JSON events
  wharf new harden --template hook         a hook on the way of a distribution's requests")]
pub(crate) struct NewArgs {
    /// The name of the function: letters, digits, `-` or `_`, a letter first
    #[arg(value_parser = package_name)]
    name: FunctionName,

    /// What to start from
    #[arg(long, short, value_enum, default_value_t)]
    template: Template,

    /// The folder to make [default: the name]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// The guest crate's folder [default: sdk/rust of the checkout around the new folder or of this program; without one,
    /// the crate on crates.io]
    #[arg(long, env = "WHARF_SDK", hide_env_values = true, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

/// What a project starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Template {
    /// A function that answers HTTP requests
    #[default]
    Http,
    /// A function that takes a JSON event and answers with JSON
    Event,
    /// A hook that sees requests before the cache
    Hook,
}

/// A name that cargo takes too.
fn package_name(text: &str) -> Result<FunctionName, String> {
    let name: FunctionName = text
        .parse()
        .map_err(|error: crate::model::InvalidName| error.to_string())?;
    if text.starts_with(|first: char| !first.is_ascii_alphabetic()) {
        return Err("the name of a Rust package begins with a letter".to_owned());
    }
    Ok(name)
}

impl Template {
    /// The paths and texts of its files.
    fn files(self) -> [(&'static str, &'static str); 5] {
        macro_rules! files {
            ($template:literal) => {
                [
                    // Not named Cargo.toml here, lest cargo takes it for a package of ours.
                    (
                        "Cargo.toml",
                        include_str!(concat!("templates/", $template, "/Cargo.toml.template")),
                    ),
                    (
                        "src/lib.rs",
                        include_str!(concat!("templates/", $template, "/lib.rs.template")),
                    ),
                    (
                        "wharf.toml",
                        include_str!(concat!("templates/", $template, "/wharf.toml")),
                    ),
                    (
                        "README.md",
                        include_str!(concat!("templates/", $template, "/README.md")),
                    ),
                    (".gitignore", include_str!("templates/gitignore")),
                ]
            };
        }
        match self {
            Self::Http => files!("http"),
            Self::Event => files!("event"),
            Self::Hook => files!("hook"),
        }
    }
}

/// What was made.
#[derive(Serialize)]
struct Made {
    name: FunctionName,
    template: Template,
    folder: PathBuf,
    files: Vec<&'static str>,
}

impl fmt::Display for Made {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display();
        write!(
            formatter,
            "made {folder}\n\n  cd {folder}\n  cargo test     # run its test\n  wharf build    # make its component"
        )
    }
}

pub(crate) async fn run(args: NewArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.dir.unwrap_or_else(|| args.name.as_str().into());
    let sdk = sdk_dependency(args.sdk.as_deref(), &folder)?;
    make_folder(&folder)?;
    let files = args.template.files();
    for (path, text) in files {
        let path = folder.join(path);
        let text = text
            .replace("{{name}}", args.name.as_str())
            .replace("{{sdk}}", &sdk);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    output.result(&Made {
        name: args.name,
        template: args.template,
        folder,
        files: files.map(|(path, _)| path).to_vec(),
    })
}

/// Makes the folder, unless something is in it: nobody's files are overwritten.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!(
                    "{} has files: name another folder with `--dir`",
                    folder.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
        }
        Err(error) => Err(error).with_context(|| format!("make {}", folder.display())),
    }
}

/// The value of the dependency in `Cargo.toml`: where the guest crate is, or its version.
fn sdk_dependency(given: Option<&Path>, folder: &Path) -> anyhow::Result<String> {
    let is_sdk = |path: &Path| path.join("Cargo.toml").is_file();
    let folder = std::path::absolute(folder).context("find the current folder")?;
    if let Some(given) = given {
        if !is_sdk(given) {
            bail!(
                "{} has no Cargo.toml: it is not the guest crate",
                given.display()
            );
        }
        return Ok(path_dependency(
            &std::path::absolute(given).context("find the current folder")?,
        ));
    }
    // Inside a checkout the way is relative, so that it can be committed.
    for (depth, above) in folder.ancestors().enumerate().skip(1) {
        if is_sdk(&above.join("sdk/rust")) {
            let up: PathBuf = std::iter::repeat_n("..", depth).collect();
            return Ok(path_dependency(&up.join("sdk/rust")));
        }
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/rust");
    if is_sdk(&own) {
        return Ok(path_dependency(&own));
    }
    Ok(concat!("\"", env!("CARGO_PKG_VERSION"), "\"").to_owned())
}

fn path_dependency(path: &Path) -> String {
    let path = toml::Value::String(path.to_string_lossy().into_owned());
    format!("{{ path = {path} }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Manifest;

    #[test]
    fn every_template_is_a_package_with_a_right_manifest() {
        for template in Template::value_variants() {
            for (path, text) in template.files() {
                let text = text
                    .replace("{{name}}", "my-function")
                    .replace("{{sdk}}", "\"1\"");
                assert!(!text.contains("{{"), "{template:?} {path}");
                match path {
                    "Cargo.toml" => {
                        let package: toml::Table = text.parse().unwrap();
                        assert_eq!(package["package"]["name"].as_str(), Some("my-function"));
                    }
                    "wharf.toml" => {
                        let manifest =
                            Manifest::parse(&text, Path::new(path), Path::new("/app")).unwrap();
                        assert!(manifest.functions.contains_key("my-function"));
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_checkout_around_the_folder_is_the_first_place_to_look() {
        let checkout = tempfile::tempdir().unwrap();
        let sdk = checkout.path().join("sdk/rust");
        fs::create_dir_all(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "").unwrap();
        let new = checkout.path().join("examples/hello");
        assert_eq!(
            sdk_dependency(None, &new).unwrap(),
            r#"{ path = "../../sdk/rust" }"#
        );
        assert_eq!(
            sdk_dependency(Some(&sdk), &new).unwrap(),
            format!("{{ path = {:?} }}", sdk.to_string_lossy())
        );
        assert!(sdk_dependency(Some(checkout.path()), &new).is_err());
    }
}

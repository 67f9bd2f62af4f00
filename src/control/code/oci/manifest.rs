//! What registries say of an image, as far as it matters here (OCI Image Specification 1.1; "Wasm OCI Artifact layout" of
//! the CNCF's WebAssembly working group).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::Digest;

/// The types of manifests that are asked for.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// The types of layers that are WebAssembly: what `wkg` pushes, and what was used before.
const WASM: &[&str] = &[
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// Where ORAS and others put a file's name.
const TITLE: &str = "org.opencontainers.image.title";

/// A manifest, or an index of some.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// What a manifest refers to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    /// As in `sha256:…`.
    digest: String,
    pub(super) size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

impl Descriptor {
    /// Its digest. None if it is one of another kind.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest.strip_prefix("sha256:")?.parse().ok()
    }

    fn is_wasm(&self) -> bool {
        let kind = self.media_type.split(';').next().unwrap_or_default().trim();
        let named = self.annotations.get(TITLE);
        WASM.contains(&kind) || named.is_some_and(|name| name.ends_with(".wasm"))
    }
}

/// What a manifest leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A manifest for WebAssembly.
    Manifest(Descriptor),
    /// The component.
    Component(Descriptor),
}

impl Manifest {
    /// What to get next. Fails in words that go on after "the image".
    pub(super) fn next(&self) -> Result<Next, String> {
        if !self.manifests.is_empty() {
            let is_wasm = |entry: &&Descriptor| {
                let platform = entry.platform.as_ref();
                platform.is_some_and(|platform| platform.architecture.starts_with("wasm"))
            };
            let mut wasm = self.manifests.iter().filter(is_wasm);
            return match (wasm.next(), wasm.next(), self.manifests.as_slice()) {
                (Some(only), None, _) | (None, None, [only]) => Ok(Next::Manifest(only.clone())),
                _ => Err("is an index with no one entry for WebAssembly".to_owned()),
            };
        }
        let mut wasm = self.layers.iter().filter(|layer| layer.is_wasm());
        match (wasm.next(), wasm.next()) {
            (Some(only), None) => Ok(Next::Component(only.clone())),
            (Some(_), Some(_)) => Err("holds more than one file of WebAssembly".to_owned()),
            (None, _) => {
                let kinds: Vec<&str> = self
                    .layers
                    .iter()
                    .map(|layer| layer.media_type.as_str())
                    .take(5)
                    .collect();
                Err(format!(
                    "holds no WebAssembly (application/wasm) but [{}]; push a component with `wkg oci push` or `oras push`",
                    kinds.join(", ")
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(json: serde_json::Value) -> Result<String, String> {
        let manifest: Manifest = serde_json::from_value(json).unwrap();
        manifest.next().map(|next| match next {
            Next::Manifest(found) => format!("manifest {}", found.digest),
            Next::Component(found) => format!("component {}", found.digest),
        })
    }

    #[test]
    fn the_one_file_of_webassembly_is_found() {
        let layer = |kind: &str, title: &str, digest: &str| serde_json::json!({"mediaType": kind, "digest": digest, "size": 1, "annotations": {TITLE: title}});
        let tar = "application/vnd.oci.image.layer.v1.tar";
        for (layers, expected) in [
            (vec![layer(WASM[0], "", "a")], Ok("component a")),
            (
                vec![layer(WASM[1], "", "a"), layer(tar, "README.md", "b")],
                Ok("component a"),
            ),
            (vec![layer(tar, "hello.wasm", "a")], Ok("component a")),
            (
                vec![layer(WASM[0], "", "a"), layer(WASM[0], "", "b")],
                Err("more than one"),
            ),
            (vec![layer(tar, "", "a")], Err("layer.v1.tar")),
            (vec![], Err("holds no WebAssembly")),
        ] {
            match (next(serde_json::json!({ "layers": layers })), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn an_index_leads_to_its_entry_for_webassembly() {
        let entry = |architecture: &str, digest: &str| serde_json::json!({"digest": digest, "size": 1, "platform": {"architecture": architecture, "os": "x"}});
        let index =
            |entries: Vec<serde_json::Value>| next(serde_json::json!({ "manifests": entries }));
        assert_eq!(
            index(vec![entry("amd64", "a"), entry("wasm", "b")]).unwrap(),
            "manifest b"
        );
        assert_eq!(index(vec![entry("", "a")]).unwrap(), "manifest a");
        index(vec![entry("amd64", "a"), entry("arm64", "b")]).unwrap_err();
    }
}

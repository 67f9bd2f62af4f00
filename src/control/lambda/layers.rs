//! Layers: what is published once and used by many functions.

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    code::code_error,
    layer_permissions::LayerPermissions,
    members::{base64, time},
    reference::{invalid, not_found},
};
use crate::{
    control::{
        aws::{Call, Error},
        code::{LayerContent, Package, PackageError},
        verbs::now_ms,
    },
    model::{Arns, Digest},
    store::{Change, Resource, Stored},
};

/// How often it is tried to be the next version, where others publish too.
const TRIES: usize = 10;

/// A layer: what holds for all its versions. It outlives them, so that no number is used twice.
#[derive(Debug, Serialize, Deserialize)]
struct Layer {
    name: String,
    last_version: u64,
}

impl Resource for Layer {
    const KIND: &'static str = "layer";

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// A published version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerVersion {
    name: String,
    version: u64,
    pub(super) content: LayerContent,
    description: Option<String>,
    license: Option<String>,
    runtimes: Vec<String>,
    architectures: Vec<String>,
    created_ms: u64,
    /// What it refers to among the blobs: its zip.
    blobs: [Digest; 1],
}

impl Resource for LayerVersion {
    const KIND: &'static str = "layer-version";

    fn key(&self) -> String {
        version_key(&self.name, self.version)
    }
}

/// Keys are in the order of versions.
pub(super) fn version_key(name: &str, version: u64) -> String {
    format!("{name}/{version:020}")
}

/// A layer by its name or ARN, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerReference {
    pub(super) name: String,
    pub(super) version: u64,
}

impl LayerReference {
    /// Reads `NAME` or `arn:aws:lambda:REGION:ACCOUNT:layer:NAME`, which the model made sure of.
    fn name(text: &str, arns: &Arns) -> Result<String, Error> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [name] => Ok(name.to_owned()),
            [_, _, _, region, account, "layer", name]
                if region == arns.region && account == arns.account =>
            {
                Ok(name.to_owned())
            }
            _ => Err(elsewhere(text)),
        }
    }

    /// Reads `arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION`.
    pub(super) fn version_of(arn: &str, arns: &Arns) -> Result<Self, Error> {
        let parts: Vec<&str> = arn.split(':').collect();
        let [_, _, _, region, account, "layer", name, version] = parts[..] else {
            return Err(invalid(format!(
                "{arn} is no version of a layer: give arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION"
            )));
        };
        if region != arns.region {
            return Err(invalid(format!(
                "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                arns.region
            )));
        }
        if account != arns.account {
            return Err(elsewhere(arn));
        }
        let version = version.parse();
        Ok(Self {
            name: name.to_owned(),
            version: version
                .map_err(|_| invalid(format!("Layer version {arn} does not exist.")))?,
        })
    }

    pub(super) fn arn(&self, arns: &Arns) -> String {
        let Self { name, version } = self;
        arns.of("lambda", format_args!("layer:{name}:{version}"))
    }

    pub(super) fn key(&self) -> String {
        version_key(&self.name, self.version)
    }
}

/// Layers of other accounts and regions are not on this node.
fn elsewhere(arn: &str) -> Error {
    Error::new(
        "AccessDeniedException",
        format!(
            "User is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource-based policy \
             allows the lambda:GetLayerVersion action"
        ),
    )
    .with("Type", "User")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    layer_name: String,
    content: Content,
    description: Option<String>,
    license_info: Option<String>,
    #[serde(default)]
    compatible_runtimes: Vec<String>,
    #[serde(default)]
    compatible_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    zip_file: Option<String>,
    s3_bucket: Option<String>,
    s3_key: Option<String>,
    s3_object_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    layer_name: Option<String>,
    version_number: Option<i64>,
    arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    layer_name: Option<String>,
    compatible_runtime: Option<String>,
    compatible_architecture: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl List {
    /// Whether a version is for what is asked for.
    fn matches(&self, version: &LayerVersion) -> bool {
        let among = |wanted: &Option<String>, given: &[String]| {
            wanted.as_ref().is_none_or(|wanted| given.contains(wanted))
        };
        among(&self.compatible_runtime, &version.runtimes)
            && among(&self.compatible_architecture, &version.architectures)
    }
}

impl Lambda {
    /// PublishLayerVersion.
    pub(super) async fn publish_layer_version(&self, call: Call) -> Result<Value, Error> {
        let authority = call.authority.clone();
        let publish: Publish = call.read()?;
        let arns = &self.control.arns;
        let name = LayerReference::name(&publish.layer_name, arns)?;
        let zip = self.layer_zip(publish.content).await?;
        let content = self.control.sources.layers.publish(zip).await;
        let content = content.map_err(|error| code_error(&error))?;
        let mut version = LayerVersion {
            name: name.clone(),
            version: 0,
            blobs: [content.digest],
            content,
            description: publish.description,
            license: publish.license_info,
            runtimes: publish.compatible_runtimes,
            architectures: publish.compatible_architectures,
            created_ms: now_ms(),
        };
        let catalog = &self.control.catalog;
        for _ in 0..TRIES {
            let layer = catalog.get::<Layer>(&name).await?;
            let (expected, last) =
                layer.map_or((0, 0), |layer| (layer.revision, layer.value.last_version));
            version.version = last + 1;
            let layer = Layer {
                name: name.clone(),
                last_version: version.version,
            };
            let changes = vec![
                Change::put_expecting(&layer, expected)?,
                Change::put_expecting(&version, 0)?,
            ];
            match catalog.apply(changes.into()).await {
                Ok(_) => return Ok(self.whole_layer(&version, &authority)),
                Err(crate::store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            "TooManyRequestsException",
            "Others publish this layer at the same time. Try again.",
        )
        .with("Type", "User"))
    }

    async fn layer_zip(&self, content: Content) -> Result<bytes::Bytes, Error> {
        let from_s3 = content.s3_bucket.is_some() || content.s3_key.is_some();
        let zip = match (content.zip_file, from_s3) {
            (Some(zip), false) => {
                let bytes = BASE64_STANDARD
                    .decode(zip)
                    .map_err(|_| Error::new("SerializationException", "ZipFile is not base64."))?;
                Package::check_upload(&bytes, "PublishLayerVersion")
                    .map_err(|error| code_error(&error.into()))?;
                bytes.into()
            }
            (None, true) => {
                let bucket = content.s3_bucket.unwrap_or_default();
                let key = content.s3_key.unwrap_or_default();
                self.fetch_from_s3(&bucket, &key, content.s3_object_version.as_deref())
                    .await?
            }
            (Some(_), true) | (None, false) => {
                return Err(invalid(
                    "Please provide a source for the layer's content: either ZipFile, or S3Bucket and S3Key.",
                ));
            }
        };
        match zip.is_empty() {
            true => Err(code_error(&PackageError::Empty.into())),
            false => Ok(zip),
        }
    }

    /// GetLayerVersion, GetLayerVersionByArn.
    pub(super) async fn get_layer_version(&self, call: Call) -> Result<Value, Error> {
        let authority = call.authority.clone();
        let reference = self.layer_reference(call.read()?)?;
        let found = self.layer_version(&reference).await?;
        let found = found.ok_or_else(|| not_found("The resource you requested does not exist."))?;
        Ok(self.whole_layer(&found.value, &authority))
    }

    fn layer_reference(&self, named: Named) -> Result<LayerReference, Error> {
        let arns = &self.control.arns;
        if let Some(arn) = named.arn {
            return LayerReference::version_of(&arn, arns);
        }
        self.layer_number(
            &named.layer_name.unwrap_or_default(),
            named.version_number.unwrap_or_default(),
        )
    }

    /// A version by its layer and its number.
    pub(super) fn layer_number(&self, layer: &str, number: i64) -> Result<LayerReference, Error> {
        let name = LayerReference::name(layer, &self.control.arns)?;
        match u64::try_from(number) {
            Ok(version) if version > 0 => Ok(LayerReference { name, version }),
            _ => Err(invalid("Layer Version Cannot be less than 1.")),
        }
    }

    /// A published version. None if it never was, or was deleted.
    pub(super) async fn layer_version(
        &self,
        reference: &LayerReference,
    ) -> Result<Option<Stored<LayerVersion>>, Error> {
        Ok(self.control.catalog.get(&reference.key()).await?)
    }

    /// ListLayerVersions. The newest comes first.
    pub(super) async fn list_layer_versions(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let layer = list.layer_name.as_deref().unwrap_or_default();
        let name = LayerReference::name(layer, &self.control.arns)?;
        let versions = self.layer_versions(&format!("{name}/"), &list).await?;
        let before = page.after.as_deref();
        let mut versions = versions
            .iter()
            .rev()
            .filter(|version| before.is_none_or(|before| version.key().as_str() < before));
        let shown: Vec<&LayerVersion> = versions.by_ref().take(page.limit).collect();
        let next = versions.next().and(shown.last());
        let next = next.map(|last| last.key());
        let items = shown.iter().map(|version| self.layer_item(version));
        Ok(page.document("LayerVersions", items.collect(), next))
    }

    /// ListLayers. Each with the newest of the versions that are asked for.
    pub(super) async fn list_layers(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let versions = self.layer_versions("", &list).await?;
        let after = page.after.as_deref();
        // Versions come by layer, each layer's last one last.
        let mut newest = versions
            .chunk_by(|one, other| one.name == other.name)
            .filter_map(<[LayerVersion]>::last)
            .filter(|version| after.is_none_or(|after| version.name.as_str() > after));
        let shown: Vec<&LayerVersion> = newest.by_ref().take(page.limit).collect();
        let next = newest.next().and(shown.last());
        let next = next.map(|last| last.name.clone());
        let items = shown.iter().map(|version| {
            json!({
                "LayerName": version.name,
                "LayerArn": self.layer_arn(&version.name),
                "LatestMatchingVersion": self.layer_item(version),
            })
        });
        Ok(page.document("Layers", items.collect(), next))
    }

    /// The versions whose keys begin with `prefix` and that are asked for, by layer and version.
    async fn layer_versions(&self, prefix: &str, list: &List) -> Result<Vec<LayerVersion>, Error> {
        let catalog = &self.control.catalog;
        let stored = catalog
            .list::<LayerVersion>(prefix, None, usize::MAX)
            .await?;
        let versions = stored.into_iter().map(|stored| stored.value);
        let mut versions: Vec<_> = versions.filter(|version| list.matches(version)).collect();
        // A name that begins with another and goes on with `-` stands before it among the keys, and within it here.
        versions.sort_by(|one, other| (&one.name, one.version).cmp(&(&other.name, other.version)));
        Ok(versions)
    }

    /// DeleteLayerVersion. Functions that have it keep it. To delete what is not there is no error.
    pub(super) async fn delete_layer_version(&self, call: Call) -> Result<Value, Error> {
        let reference = self.layer_reference(call.read()?)?;
        let kinds = [LayerVersion::KIND, LayerPermissions::KIND];
        let changes = kinds.map(|kind| Change::Delete {
            kind,
            key: reference.key(),
            expected: None,
        });
        self.control.catalog.apply(changes.to_vec().into()).await?;
        Ok(Value::Null)
    }

    fn layer_arn(&self, name: &str) -> String {
        self.control.arns.of("lambda", format_args!("layer:{name}"))
    }

    /// As `LayerVersionsListItem` of the model.
    fn layer_item(&self, version: &LayerVersion) -> Value {
        let reference = LayerReference {
            name: version.name.clone(),
            version: version.version,
        };
        let mut document = json!({
            "LayerVersionArn": reference.arn(&self.control.arns),
            "Version": version.version,
            "Description": version.description.as_deref().unwrap_or_default(),
            "CreatedDate": time(version.created_ms),
        });
        if let Some(license) = &version.license {
            document["LicenseInfo"] = license.as_str().into();
        }
        for (member, values) in [
            ("CompatibleRuntimes", &version.runtimes),
            ("CompatibleArchitectures", &version.architectures),
        ] {
            if !values.is_empty() {
                document[member] = json!(values);
            }
        }
        document
    }

    /// With its content, as PublishLayerVersion and GetLayerVersion answer.
    fn whole_layer(&self, version: &LayerVersion, authority: &str) -> Value {
        let LayerContent { digest, size, .. } = &version.content;
        let mut document = self.layer_item(version);
        document["LayerArn"] = self.layer_arn(&version.name).into();
        document["Content"] = json!({
            "Location": self.downloads.link(authority, digest),
            "CodeSha256": base64(digest),
            "CodeSize": size,
        });
        document
    }
}

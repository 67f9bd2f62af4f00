//! Tags of functions, event source mappings and code signing configurations.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda,
    code_signing::CodeSigningConfig,
    mappings::Mapping,
    reference::{Reference, invalid},
};
use crate::{
    control::aws::{Call, Error},
    store::{Change, Resource, Stored},
};

/// The most tags of one thing.
const MOST: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    resource: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

/// What has tags.
enum Tagged {
    /// A function, whose tags are among its settings.
    Function(Reference),
    Mapping(Stored<Mapping>),
    CodeSigning(Stored<CodeSigningConfig>),
}

impl Members {
    /// The tags with those that the call gives, without those that it names.
    fn apply(&self, tags: &mut BTreeMap<String, String>) {
        tags.extend(self.tags.clone());
        tags.retain(|key, _| !self.tag_keys.contains(key));
    }
}

impl Lambda {
    /// TagResource.
    pub(super) async fn tag(&self, call: Call) -> Result<Value, Error> {
        let members: Members = call.read()?;
        if let Some(key) = members.tags.keys().find(|key| key.starts_with("aws:")) {
            return Err(invalid(format!(
                "The tag key {key} begins with aws:, which is kept for AWS."
            )));
        }
        self.change_tags(&members).await
    }

    /// UntagResource.
    pub(super) async fn untag(&self, call: Call) -> Result<Value, Error> {
        self.change_tags(&call.read()?).await
    }

    /// ListTags.
    pub(super) async fn list_tags(&self, call: Call) -> Result<Value, Error> {
        let members: Members = call.read()?;
        let tags = match self.tagged(&members.resource).await? {
            Tagged::Function(reference) => self.settings(&reference.name).await?.tags,
            Tagged::Mapping(stored) => stored.value.tags,
            Tagged::CodeSigning(stored) => stored.value.tags,
        };
        Ok(json!({"Tags": tags}))
    }

    async fn change_tags(&self, members: &Members) -> Result<Value, Error> {
        match self.tagged(&members.resource).await? {
            Tagged::Function(reference) => {
                let mut settings = self.settings(&reference.name).await?;
                members.apply(&mut settings.tags);
                check(&settings.tags)?;
                self.update_settings(&reference, |settings| members.apply(&mut settings.tags))
                    .await?;
            }
            Tagged::Mapping(mut stored) => {
                members.apply(&mut stored.value.tags);
                self.write_tags(&stored, &stored.value.tags).await?;
            }
            Tagged::CodeSigning(mut stored) => {
                members.apply(&mut stored.value.tags);
                self.write_tags(&stored, &stored.value.tags).await?;
            }
        }
        Ok(Value::Null)
    }

    async fn write_tags<R: Resource>(
        &self,
        stored: &Stored<R>,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        check(tags)?;
        let change = Change::put_expecting(&stored.value, stored.revision)?;
        self.apply(vec![change]).await
    }

    async fn tagged(&self, arn: &str) -> Result<Tagged, Error> {
        let of_kind = |kind: &str| arn.split_once(kind).map(|(_, id)| id);
        if let Some(uuid) = of_kind(":event-source-mapping:") {
            return self.mapping(Some(uuid)).await.map(Tagged::Mapping);
        }
        if arn.contains(":code-signing-config:") {
            return self.code_signing(arn).await.map(Tagged::CodeSigning);
        }
        if !arn.contains(":function:") {
            return Err(invalid(format!(
                "Wharf keeps tags of functions, event source mappings and code signing configurations, and not of {arn}."
            )));
        }
        let reference = self.reference(arn, None)?;
        if reference.qualifier.is_some() {
            return Err(invalid(
                "Tags on function aliases and versions are not supported. Please specify either a function ARN or an event \
                 source mapping ARN.",
            ));
        }
        self.existing(&reference).await?;
        Ok(Tagged::Function(reference))
    }
}

/// Whether there are no more tags than there may be.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    match tags.len() {
        0..=MOST => Ok(()),
        count => Err(invalid(format!(
            "A resource has at most {MOST} tags, and not {count}."
        ))),
    }
}

//! Tags of functions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda,
    functions::check_tags,
    reference::{Reference, invalid},
};
use crate::control::aws::{Call, Error};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    resource: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl Lambda {
    /// TagResource.
    pub(super) async fn tag(&self, call: Call) -> Result<Value, Error> {
        let members: Members = call.read()?;
        let reference = self.tagged(&members.resource).await?;
        if let Some(key) = members.tags.keys().find(|key| key.starts_with("aws:")) {
            return Err(invalid(format!(
                "The tag key {key} begins with aws:, which is kept for AWS."
            )));
        }
        let mut settings = self.settings(&reference.name).await?;
        settings.tags.extend(members.tags.clone());
        check_tags(&settings)?;
        self.update_settings(&reference, |settings| {
            settings.tags.extend(members.tags.clone());
        })
        .await?;
        Ok(Value::Null)
    }

    /// UntagResource.
    pub(super) async fn untag(&self, call: Call) -> Result<Value, Error> {
        let members: Members = call.read()?;
        let reference = self.tagged(&members.resource).await?;
        self.update_settings(&reference, |settings| {
            settings
                .tags
                .retain(|key, _| !members.tag_keys.contains(key));
        })
        .await?;
        Ok(Value::Null)
    }

    /// ListTags.
    pub(super) async fn list_tags(&self, call: Call) -> Result<Value, Error> {
        let members: Members = call.read()?;
        let reference = self.tagged(&members.resource).await?;
        let settings = self.settings(&reference.name).await?;
        Ok(json!({"Tags": settings.tags}))
    }

    async fn tagged(&self, arn: &str) -> Result<Reference, Error> {
        if !arn.contains(":function:") {
            return Err(invalid(format!(
                "Wharf keeps tags of functions, and not of {arn}."
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
        Ok(reference)
    }
}

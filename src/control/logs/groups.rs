//! Groups: made, listed, deleted; how long their events are kept; their tags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{CloudWatchLogs, after, bad_token, invalid, name_of, token};
use crate::{
    control::aws::{Call, Error},
    model::LogGroupName,
    telemetry::logs::GroupSummary,
};

/// How many days events may be kept (CloudWatch Logs API, PutRetentionPolicy).
const RETENTIONS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// The most tags of a group.
const MAX_TAGS: usize = 50;

/// The most groups of a page.
const MAX_GROUPS: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    log_group_name: String,
    kms_key_id: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log_group_class: Option<String>,
    #[serde(default)]
    deletion_protection_enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    #[serde(default)]
    account_identifiers: Vec<String>,
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    log_group_class: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    log_group_name: String,
    retention_in_days: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tag {
    tags: BTreeMap<String, String>,
}

impl CloudWatchLogs {
    pub(super) async fn create_group(&self, call: Call) -> Result<Value, Error> {
        let create: Create = call.read()?;
        let unsupported = |what: &str| Err(invalid(format!("Wharf does not support {what}.")));
        if create.kms_key_id.is_some() {
            return unsupported("kmsKeyId: the node has no keys of AWS KMS");
        }
        if let Some(class) = create.log_group_class
            && class != "STANDARD"
        {
            return unsupported("other values of logGroupClass than STANDARD");
        }
        if create.deletion_protection_enabled {
            return unsupported("deletionProtectionEnabled");
        }
        check_tags(&create.tags)?;
        let name = name_of(&create.log_group_name)?;
        self.run(move |logs| logs.create_group(&name, create.tags))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn delete_group(&self, call: Call) -> Result<Value, Error> {
        let name = named(&call)?;
        self.run(move |logs| logs.delete_group(&name)).await?;
        Ok(Value::Null)
    }

    pub(super) async fn describe_groups(&self, call: Call) -> Result<Value, Error> {
        let describe: Describe = call.read()?;
        if describe.log_group_name_prefix.is_some() && describe.log_group_name_pattern.is_some() {
            return Err(invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        let identified: Option<Vec<LogGroupName>> = describe
            .log_group_identifiers
            .map(|identifiers| {
                let identifiers = identifiers.into_iter();
                identifiers
                    .map(|identifier| self.group(None, Some(identifier)))
                    .collect()
            })
            .transpose()?;
        let after = after(describe.next_token.as_deref())?;
        if after.as_ref().is_some_and(|name| name_of(name).is_err()) {
            return Err(bad_token());
        }
        let here = describe.account_identifiers.is_empty()
            || describe
                .account_identifiers
                .iter()
                .any(|account| **account == *self.account);
        let standard = describe
            .log_group_class
            .is_none_or(|class| class == "STANDARD");
        let groups = match here && standard {
            true => self.run(|logs| Ok(logs.groups())).await?,
            false => Vec::new(),
        };
        let wanted = |group: &GroupSummary| {
            let name = group.name.as_str();
            let prefix = describe.log_group_name_prefix.as_deref().unwrap_or("");
            let pattern = describe.log_group_name_pattern.as_deref().unwrap_or("");
            name.starts_with(prefix)
                && name.contains(pattern)
                && identified
                    .as_ref()
                    .is_none_or(|identified| identified.contains(&group.name))
                && after.as_deref().is_none_or(|after| name > after)
        };
        let limit = describe.limit.unwrap_or(MAX_GROUPS);
        let mut wanted = groups.into_iter().filter(wanted);
        let page: Vec<GroupSummary> = wanted.by_ref().take(limit).collect();
        let next = wanted
            .next()
            .and(page.last())
            .map(|last| token(last.name.as_str()));
        let page: Vec<Value> = page
            .iter()
            .map(|group| self.group_document(group))
            .collect();
        let mut answer = json!({ "logGroups": page });
        if let Some(next) = next {
            answer["nextToken"] = next.into();
        }
        Ok(answer)
    }

    fn group_document(&self, group: &GroupSummary) -> Value {
        let arn = format!("{}{}", self.arn, group.name);
        let mut document = json!({
            "logGroupName": group.name,
            "creationTime": group.created_ms,
            "metricFilterCount": 0,
            "arn": format!("{arn}:*"),
            "storedBytes": group.bytes,
            "logGroupClass": "STANDARD",
            "logGroupArn": arn,
        });
        if let Some(days) = group.retention_days {
            document["retentionInDays"] = days.into();
        }
        document
    }

    pub(super) async fn put_retention(&self, call: Call) -> Result<Value, Error> {
        let retention: Retention = call.read()?;
        let days = retention.retention_in_days;
        if !RETENTIONS.contains(&days) {
            let known: Vec<String> = RETENTIONS.iter().map(u32::to_string).collect();
            return Err(invalid(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member \
                 must satisfy enum value set: [{}]",
                known.join(", ")
            )));
        }
        let name = name_of(&retention.log_group_name)?;
        self.run(move |logs| logs.set_retention(&name, Some(days)))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn delete_retention(&self, call: Call) -> Result<Value, Error> {
        let name = named(&call)?;
        self.run(move |logs| logs.set_retention(&name, None))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn tag_resource(&self, call: Call) -> Result<Value, Error> {
        let name = self.resource(&call)?;
        self.tag(name, call, "TooManyTagsException").await
    }

    pub(super) async fn tag_group(&self, call: Call) -> Result<Value, Error> {
        let name = named(&call)?;
        self.tag(name, call, super::INVALID).await
    }

    async fn tag(
        &self,
        name: LogGroupName,
        call: Call,
        too_many: &'static str,
    ) -> Result<Value, Error> {
        let tag: Tag = call.read()?;
        check_tags(&tag.tags)?;
        self.edit_tags(name, move |tags| {
            tags.extend(tag.tags);
            match tags.len() > MAX_TAGS {
                true => Err(Error::new(
                    too_many,
                    format!("A log group can have no more than {MAX_TAGS} tags."),
                )),
                false => Ok(()),
            }
        })
        .await
    }

    pub(super) async fn untag_resource(&self, call: Call) -> Result<Value, Error> {
        let name = self.resource(&call)?;
        self.untag(name, call.input.get("tagKeys")).await
    }

    pub(super) async fn untag_group(&self, call: Call) -> Result<Value, Error> {
        let name = named(&call)?;
        self.untag(name, call.input.get("tags")).await
    }

    async fn untag(&self, name: LogGroupName, keys: Option<&Value>) -> Result<Value, Error> {
        let keys = keys.and_then(Value::as_array).cloned().unwrap_or_default();
        self.edit_tags(name, move |tags| {
            for key in keys.iter().filter_map(Value::as_str) {
                tags.remove(key);
            }
            Ok(())
        })
        .await
    }

    async fn edit_tags(
        &self,
        name: LogGroupName,
        edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Value, Error> {
        self.run(move |logs| Ok(logs.set_tags(&name, edit)))
            .await??;
        Ok(Value::Null)
    }

    pub(super) async fn list_tags_for_resource(&self, call: Call) -> Result<Value, Error> {
        let name = self.resource(&call)?;
        self.list_tags(name).await
    }

    pub(super) async fn list_tags_of_group(&self, call: Call) -> Result<Value, Error> {
        let name = named(&call)?;
        self.list_tags(name).await
    }

    async fn list_tags(&self, name: LogGroupName) -> Result<Value, Error> {
        let tags = self.run(move |logs| logs.tags(&name)).await?;
        let tags: Map<String, Value> = tags
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
        Ok(json!({ "tags": tags }))
    }

    /// The group that `resourceArn` names. Nothing else has tags here.
    fn resource(&self, call: &Call) -> Result<LogGroupName, Error> {
        self.group_of_arn(call.text("resourceArn").unwrap_or_default())
    }
}

/// The group that `logGroupName`, which must be there, names.
pub(super) fn named(call: &Call) -> Result<LogGroupName, Error> {
    name_of(call.text("logGroupName").unwrap_or_default())
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    match tags.keys().find(|key| key.starts_with("aws:")) {
        Some(key) => Err(invalid(format!(
            "The tag `{key}` begins with `aws:`, which is reserved."
        ))),
        None => Ok(()),
    }
}

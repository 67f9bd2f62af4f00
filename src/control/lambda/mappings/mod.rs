//! Event source mappings: stored, listed, and held against what Lambda says of each kind of source.
//!
//! Wharf does not poll any source yet, and a mapping says so: its `State` is `Disabled`, with the reason beside it, whatever
//! `Enabled` says. What `Enabled` said is kept for the day when there are pollers.

mod filter;
mod source;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Lambda, Page,
    event_invoke::epoch_seconds,
    reference::{Reference, conflict, invalid, not_found},
    tags,
};
use crate::{
    control::{
        aws::{Call, Error},
        verbs::now_ms,
    },
    model::{EventTarget, RequestId},
    store::{Change, Resource, Stored},
};
use source::Source;

/// Items on a page, where the caller does not say, and at most (Lambda API, ListEventSourceMappings).
const PAGE: usize = 100;

/// A mapping as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mapping {
    uuid: String,
    function: EventTarget,
    /// What the caller wants.
    enabled: bool,
    modified_ms: u64,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    /// The other members, as the model has them.
    members: Map<String, Value>,
}

impl Resource for Mapping {
    const KIND: &'static str = "event-source-mapping";

    fn key(&self) -> String {
        self.uuid.clone()
    }
}

/// Says which mapping a source and a function have: two cannot have the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Claim {
    /// The function and the source.
    of: String,
    uuid: String,
}

impl Resource for Claim {
    const KIND: &'static str = "event-source-claim";

    fn key(&self) -> String {
        self.of.clone()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    event_source_arn: Option<String>,
    function_name: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Mapping {
    fn claim(&self) -> Result<Claim, Error> {
        let source = Source::of(&self.members)?.identity(&self.members);
        Ok(Claim {
            of: format!("{}\n{source}", self.function),
            uuid: self.uuid.clone(),
        })
    }
}

impl Lambda {
    /// CreateEventSourceMapping.
    pub(super) async fn create_mapping(&self, call: Call) -> Result<Value, Error> {
        let mut members = call.input;
        let name = take_text(&mut members, "FunctionName");
        let enabled = take_bool(&mut members, "Enabled").unwrap_or(true);
        let tags = members.remove("Tags").map(serde_json::from_value);
        let tags = tags.transpose().map_err(|error| Error::internal(&error))?;
        let source = Source::of(&members)?;
        source.check(&members, now_ms())?;
        source.complete(&mut members);
        let mapping = Mapping {
            uuid: RequestId::generate().to_string(),
            function: self.mapped(name.as_deref()).await?,
            enabled,
            modified_ms: now_ms(),
            tags: tags.unwrap_or_default(),
            members,
        };
        tags::check(&mapping.tags)?;
        let claim = mapping.claim()?;
        self.unclaimed(&mapping, &claim).await?;
        let changes = vec![Change::put(&mapping)?, Change::put_expecting(&claim, 0)?];
        self.apply(changes).await?;
        self.mapping_document(&mapping).await
    }

    /// GetEventSourceMapping.
    pub(super) async fn get_mapping(&self, call: Call) -> Result<Value, Error> {
        let mapping = self.mapping(call.text("UUID")).await?.value;
        self.mapping_document(&mapping).await
    }

    /// UpdateEventSourceMapping: what the call does not say stays as it is.
    pub(super) async fn update_mapping(&self, call: Call) -> Result<Value, Error> {
        let Stored { revision, value } = self.mapping(call.text("UUID")).await?;
        let mut changes = call.input;
        changes.remove("UUID");
        let before = value.claim()?;
        let mut mapping = value;
        if let Some(name) = take_text(&mut changes, "FunctionName") {
            mapping.function = self.mapped(Some(&name)).await?;
        }
        mapping.enabled = take_bool(&mut changes, "Enabled").unwrap_or(mapping.enabled);
        let source = Source::of(&mapping.members)?;
        for (name, value) in changes {
            mapping.members.insert(name, value);
        }
        source.check(&mapping.members, now_ms())?;
        mapping.modified_ms = now_ms();
        let mut changes = vec![Change::put_expecting(&mapping, revision)?];
        let claim = mapping.claim()?;
        if claim != before {
            self.unclaimed(&mapping, &claim).await?;
            changes.push(Change::delete::<Claim>(before.key()));
            changes.push(Change::put_expecting(&claim, 0)?);
        }
        self.apply(changes).await?;
        self.mapping_document(&mapping).await
    }

    /// DeleteEventSourceMapping.
    pub(super) async fn delete_mapping(&self, call: Call) -> Result<Value, Error> {
        let Stored { revision, value } = self.mapping(call.text("UUID")).await?;
        let changes = vec![
            Change::Delete {
                kind: Mapping::KIND,
                key: value.key(),
                expected: Some(revision),
            },
            Change::delete::<Claim>(value.claim()?.key()),
        ];
        self.apply(changes).await?;
        let mut document = self.mapping_document(&value).await?;
        document["State"] = "Deleting".into();
        document["StateTransitionReason"] = "User action".into();
        Ok(document)
    }

    /// ListEventSourceMappings.
    pub(super) async fn list_mappings(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let page = Page {
            limit: list.max_items.unwrap_or(PAGE).clamp(1, PAGE),
            ..Page::new(list.marker.as_deref(), list.max_items)?
        };
        let function = match &list.function_name {
            Some(name) => Some(target(self.reference(name, None)?)),
            None => None,
        };
        let source = list.event_source_arn.as_deref();
        let catalog = &self.control.catalog;
        let all = catalog
            .list::<Mapping>("", page.after.as_deref(), usize::MAX)
            .await?;
        let mut shown: Vec<Mapping> = all
            .into_iter()
            .map(|stored| stored.value)
            .filter(|mapping| {
                let arn = mapping.members.get("EventSourceArn");
                function
                    .as_ref()
                    .is_none_or(|function| mapping.function == *function)
                    && (source.is_none() || arn.and_then(Value::as_str) == source)
            })
            .take(page.limit + 1)
            .collect();
        let more = shown.len() > page.limit;
        shown.truncate(page.limit);
        let mut documents = Vec::new();
        for mapping in &shown {
            documents.push(self.mapping_document(mapping).await?);
        }
        let last = shown.pop().map(|mapping| mapping.uuid);
        Ok(page.document(
            "EventSourceMappings",
            documents,
            more.then_some(last).flatten(),
        ))
    }

    pub(super) async fn mapping(&self, uuid: Option<&str>) -> Result<Stored<Mapping>, Error> {
        let uuid = uuid.unwrap_or_default();
        let stored = self.control.catalog.get::<Mapping>(uuid).await?;
        stored.ok_or_else(|| not_found("The resource you requested does not exist."))
    }

    /// The function that a mapping is for. It has to be there.
    async fn mapped(&self, name: Option<&str>) -> Result<EventTarget, Error> {
        let reference = self.reference(name.unwrap_or_default(), None)?;
        match self.is_invocable(&reference).await? {
            true => Ok(target(reference)),
            false => Err(invalid("Function does not exist")),
        }
    }

    async fn unclaimed(&self, mapping: &Mapping, claim: &Claim) -> Result<(), Error> {
        let present = self.control.catalog.get::<Claim>(&claim.key()).await?;
        let Some(Stored { value, .. }) = present else {
            return Ok(());
        };
        let source = Source::of(&mapping.members)?;
        let message = source.taken(&mapping.members, &mapping.function, &value.uuid);
        Err(conflict(message))
    }

    async fn mapping_document(&self, mapping: &Mapping) -> Result<Value, Error> {
        let arns = &self.control.arns;
        let source = Source::of(&mapping.members)?;
        let reference = Reference {
            name: mapping.function.function.clone(),
            qualifier: mapping.function.qualifier.clone(),
        };
        let reason = match mapping.enabled {
            true => format!("Wharf does not poll {source} yet; the mapping is stored and not run."),
            false => "User action".to_owned(),
        };
        // A mapping stays when its function is deleted, as with Lambda.
        let result = match self.is_there(&reference).await? {
            true => "No records processed",
            false => "PROBLEM: Function not found",
        };
        let mut document = mapping.members.clone();
        let arn = arns.of(
            "lambda",
            format_args!("event-source-mapping:{}", mapping.uuid),
        );
        let Value::Object(said) = json!({
            "UUID": mapping.uuid,
            "EventSourceMappingArn": arn,
            "FunctionArn": mapping.function.arn(&arns.lambda()),
            "LastModified": epoch_seconds(mapping.modified_ms),
            "LastProcessingResult": result,
            "State": "Disabled",
            "StateTransitionReason": reason,
        }) else {
            return Ok(Value::Null);
        };
        document.extend(said);
        Ok(document.into())
    }
}

fn target(reference: Reference) -> EventTarget {
    EventTarget {
        function: reference.name,
        qualifier: reference.qualifier,
    }
}

fn take_text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn take_bool(members: &mut Map<String, Value>, name: &str) -> Option<bool> {
    members.remove(name).and_then(|value| value.as_bool())
}

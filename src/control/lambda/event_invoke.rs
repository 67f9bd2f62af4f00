//! What becomes of a function's events: retries, age and destinations, for each version and alias.
//!
//! Destinations are functions of this node. Lambda's others (SQS, SNS, EventBridge, S3) are refused when they are configured,
//! so that no record is lost later.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Lambda, Page,
    reference::{Reference, invalid, not_found},
};
use crate::{
    control::{
        aws::{Call, Error},
        verbs::now_ms,
    },
    model::{EventInvokeConfig, EventTarget, Qualifier},
    store::{Change, Stored, of_function},
};

/// What destinations there are here.
const DESTINATIONS: &str = "Wharf sends invocation records to functions of this node (arn:aws:lambda:REGION:ACCOUNT:function:NAME), and \
     not to SQS, SNS, EventBridge or S3 yet.";

/// Put and Update.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    function_name: String,
    qualifier: Option<String>,
    maximum_retry_attempts: Option<u32>,
    maximum_event_age_in_seconds: Option<u32>,
    destination_config: Option<Destinations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destinations {
    on_success: Option<Destination>,
    on_failure: Option<Destination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    destination: Option<String>,
}

/// Get and Delete.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    function_name: String,
    qualifier: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Wanted {
    fn says_nothing(&self) -> bool {
        self.maximum_retry_attempts.is_none()
            && self.maximum_event_age_in_seconds.is_none()
            && self.destination_config.is_none()
    }
}

impl Destinations {
    /// The ARN of one of them. An empty one says that there is none.
    fn arn(destination: Option<&Destination>) -> Option<&str> {
        let arn = destination?.destination.as_deref()?;
        (!arn.is_empty()).then_some(arn)
    }

    /// The error where one of them is none that is possible here.
    fn refused(&self) -> Error {
        let part = |name: &str, destination: Option<&Destination>| match Self::arn(destination) {
            Some(arn) => format!("{name}(destination={arn})"),
            None => "null".to_owned(),
        };
        invalid(format!(
            "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid. {DESTINATIONS}",
            part("OnSuccess", self.on_success.as_ref()),
            part("OnFailure", self.on_failure.as_ref()),
        ))
    }
}

impl Lambda {
    /// PutFunctionEventInvokeConfig: what the call does not say is as without a configuration.
    pub(super) async fn put_event_invoke(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let (function, qualifier) = self.event_invoke_of(&wanted).await?;
        let config = EventInvokeConfig {
            function,
            qualifier,
            retries: None,
            max_age_seconds: None,
            on_success: None,
            on_failure: None,
            modified_ms: 0,
        };
        self.write_event_invoke(config, wanted, None).await
    }

    /// UpdateFunctionEventInvokeConfig: what the call does not say stays as it is.
    pub(super) async fn update_event_invoke(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let (name, qualifier) = self.event_invoke_of(&wanted).await?;
        let reference = Reference {
            name,
            qualifier: Some(qualifier),
        };
        let Stored { revision, value } = self.event_invoke(&reference).await?;
        self.write_event_invoke(value, wanted, Some(revision)).await
    }

    /// GetFunctionEventInvokeConfig.
    pub(super) async fn get_event_invoke(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.reference(&named.function_name, named.qualifier.as_deref())?;
        let stored = self.event_invoke(&reference).await?;
        Ok(self.event_invoke_document(&stored.value))
    }

    /// DeleteFunctionEventInvokeConfig.
    pub(super) async fn delete_event_invoke(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.reference(&named.function_name, named.qualifier.as_deref())?;
        let stored = self.event_invoke(&reference).await?;
        let key = event_invoke_key(&reference);
        self.apply(vec![Change::Delete {
            kind: <EventInvokeConfig as crate::store::Resource>::KIND,
            key,
            expected: Some(stored.revision),
        }])
        .await?;
        Ok(Value::Null)
    }

    /// ListFunctionEventInvokeConfigs.
    pub(super) async fn list_event_invoke(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let reference = self.reference(&list.function_name, None)?;
        if !self.is_there(&reference).await? {
            return Err(not_found("The function doesn't exist."));
        }
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let prefix = of_function(&reference.name);
        let after = page.after.as_ref().map(|after| format!("{prefix}{after}"));
        let catalog = &self.control.catalog;
        let mut configs = catalog
            .list::<EventInvokeConfig>(&prefix, after.as_deref(), page.limit + 1)
            .await?;
        let more = configs.len() > page.limit;
        configs.truncate(page.limit);
        let last = configs
            .last()
            .map(|config| config.value.qualifier.to_string());
        let documents = configs
            .iter()
            .map(|config| self.event_invoke_document(&config.value));
        Ok(page.document(
            "FunctionEventInvokeConfigs",
            documents.collect(),
            more.then_some(last).flatten(),
        ))
    }

    /// For whom a configuration is to be written: a function that is there, and `$LATEST` where nothing is said.
    async fn event_invoke_of(
        &self,
        wanted: &Wanted,
    ) -> Result<(crate::model::FunctionName, Qualifier), Error> {
        if wanted.says_nothing() {
            return Err(invalid(
                "You must specify at least one of error handling or destination setting.",
            ));
        }
        let reference = self.reference(&wanted.function_name, wanted.qualifier.as_deref())?;
        if !self.is_invocable(&reference).await? {
            return Err(not_found("The function doesn't exist."));
        }
        Ok((reference.name, reference.qualifier.unwrap_or_default()))
    }

    async fn write_event_invoke(
        &self,
        mut config: EventInvokeConfig,
        wanted: Wanted,
        expected: Option<u64>,
    ) -> Result<Value, Error> {
        config.retries = wanted.maximum_retry_attempts.or(config.retries);
        config.max_age_seconds = wanted
            .maximum_event_age_in_seconds
            .or(config.max_age_seconds);
        if let Some(destinations) = &wanted.destination_config {
            if let Some(on_success) = &destinations.on_success {
                config.on_success = self.destination(&config, destinations, on_success).await?;
            }
            if let Some(on_failure) = &destinations.on_failure {
                config.on_failure = self.destination(&config, destinations, on_failure).await?;
            }
        }
        config.modified_ms = now_ms();
        let change = match expected {
            Some(revision) => Change::put_expecting(&config, revision)?,
            None => Change::put(&config)?,
        };
        self.apply(vec![change]).await?;
        Ok(self.event_invoke_document(&config))
    }

    /// The function that a destination is. It has to be there, and another than the one that it is configured for.
    async fn destination(
        &self,
        config: &EventInvokeConfig,
        all: &Destinations,
        one: &Destination,
    ) -> Result<Option<EventTarget>, Error> {
        let Some(arn) = Destinations::arn(Some(one)) else {
            return Ok(None);
        };
        let target = EventTarget::from_arn(&self.control.arns.lambda(), arn);
        let target = target.ok_or_else(|| all.refused())?;
        let reference = Reference {
            name: target.function.clone(),
            qualifier: target.qualifier.clone(),
        };
        if !self.is_invocable(&reference).await? {
            return Err(invalid(format!("The destination ARN {arn} is invalid.")));
        }
        if target.function == config.function {
            return Err(invalid(
                "You can't specify the function as a destination for itself.",
            ));
        }
        Ok(Some(target))
    }

    /// Whether a function is there, and the version or alias that is meant.
    pub(super) async fn is_there(&self, reference: &Reference) -> Result<bool, Error> {
        match self.resolve(reference).await {
            Ok(_) => Ok(true),
            Err(error) if error.name == "ResourceNotFoundException" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a function is there to be invoked. One that only distributions may have is an error.
    pub(super) async fn is_invocable(&self, reference: &Reference) -> Result<bool, Error> {
        match self.resolve(reference).await {
            Ok(found) => found.check_invocable().map(|()| true),
            Err(error) if error.name == "ResourceNotFoundException" => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn event_invoke(
        &self,
        reference: &Reference,
    ) -> Result<Stored<EventInvokeConfig>, Error> {
        let key = event_invoke_key(reference);
        let stored = self.control.catalog.get::<EventInvokeConfig>(&key).await?;
        stored.ok_or_else(|| {
            let arn = event_target(reference).qualified_arn(&self.control.arns.lambda());
            not_found(format!(
                "The function {arn} doesn't have an EventInvokeConfig"
            ))
        })
    }

    fn event_invoke_document(&self, config: &EventInvokeConfig) -> Value {
        let node = self.control.arns.lambda();
        let destination = |target: &Option<EventTarget>| match target {
            Some(target) => json!({"Destination": target.arn(&node)}),
            None => json!({}),
        };
        let target = EventTarget {
            function: config.function.clone(),
            qualifier: Some(config.qualifier.clone()),
        };
        let mut document = Map::from_iter([
            ("LastModified".to_owned(), epoch_seconds(config.modified_ms)),
            ("FunctionArn".to_owned(), target.arn(&node).into()),
            (
                "DestinationConfig".to_owned(),
                json!({
                    "OnSuccess": destination(&config.on_success),
                    "OnFailure": destination(&config.on_failure),
                }),
            ),
        ]);
        if let Some(retries) = config.retries {
            document.insert("MaximumRetryAttempts".to_owned(), retries.into());
        }
        if let Some(seconds) = config.max_age_seconds {
            document.insert("MaximumEventAgeInSeconds".to_owned(), seconds.into());
        }
        document.into()
    }
}

fn event_target(reference: &Reference) -> EventTarget {
    EventTarget {
        function: reference.name.clone(),
        qualifier: reference.qualifier.clone(),
    }
}

fn event_invoke_key(reference: &Reference) -> String {
    let qualifier = reference.qualifier.clone().unwrap_or_default();
    format!("{}/{qualifier}", reference.name)
}

/// A time as the protocol has it: seconds, with milliseconds behind the point.
pub(super) fn epoch_seconds(milliseconds: u64) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds are far below 2 to the 52 for thousands of years"
    )]
    let seconds = milliseconds as f64 / 1000.0;
    seconds.into()
}

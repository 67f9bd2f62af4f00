//! The functions that a node serves, as the worker sees them.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    Bounds, Functions, Ran,
    ending::{Ending, MAX_HOPS, Receiver, Undelivered},
    retry::Verdict,
};
use crate::{
    invoke::{Invoke, error_document, stopped_document},
    model::{
        Alias, AsyncEvent, EventInvokeConfig, EventTarget, Outcome, Qualifier, RequestId, Version,
    },
    store::{Catalog, Error, Resource as _},
    telemetry::logs::Level,
};

/// The functions that a node serves.
pub struct Served {
    /// What runs them.
    pub invoke: Arc<Invoke>,
    /// What is deployed, be it served or not.
    pub catalog: Arc<dyn Catalog>,
}

impl Served {
    /// The version of a target that is deployed, be it served or not.
    async fn deployed(&self, target: &EventTarget) -> Result<Option<Version>, Error> {
        let version = match &target.qualifier {
            None => Version::Latest,
            Some(Qualifier::Version(version)) => *version,
            Some(Qualifier::Alias(name)) => {
                let key = format!("{}/{name}", target.function);
                let document = self.catalog.document(Alias::KIND, &key).await?;
                match document {
                    Some(alias) => alias.read::<Alias>()?.value.version,
                    None => return Ok(None),
                }
            }
        };
        let deployment = self.catalog.deployment(&target.function, version).await?;
        Ok(deployment.map(|deployment| deployment.version))
    }

    /// What an event gets whose target is not served: it may be removed, or deployed and short of a secret.
    async fn absent(&self, target: &EventTarget) -> Option<Ran> {
        let version = match self.deployed(target).await {
            Ok(version) => version?,
            Err(error) => {
                tracing::error!(%error, "cannot read the catalog");
                Version::Latest
            }
        };
        Some(Ran {
            outcome: Outcome::Internal,
            version,
            answer: None,
        })
    }

    async fn attempt(&self, target: &EventTarget, event: AsyncEvent, age: Duration) -> Option<Ran> {
        let name = target.function.as_str();
        let Some(resolved) = self.invoke.resolve(name, target.qualifier.as_ref()) else {
            return self.absent(target).await;
        };
        let function = resolved.function;
        function.metrics().event_age.observe(age);
        let AsyncEvent {
            request_id,
            event,
            client_context,
            hops: _,
        } = event;
        let answer = self
            .invoke
            .event(&function, request_id, event, client_context)
            .await;
        let timeout = function.deployment().limits().timeout;
        let failure = match &answer.result {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                // There is no caller who could be told.
                let message: String = format!("{}: {}", error.error_type, error.message)
                    .chars()
                    .take(1000)
                    .collect();
                self.invoke
                    .say(&function, request_id, Level::Error, &message);
                Some(error_document(error))
            }
            Err(outcome) if Verdict::from(*outcome) == Verdict::Refusal => None,
            Err(outcome) => Some(stopped_document(*outcome, answer.request_id, timeout)),
        };
        let (outcome, answer) = match answer.result {
            Ok(Ok(json)) => (Outcome::Ok, Some(json)),
            Ok(Err(_)) => (Outcome::FunctionError, failure),
            Err(outcome) => (outcome, failure),
        };
        Some(Ran {
            outcome,
            version: function.deployment().version,
            answer,
        })
    }

    async fn may_reach(&self, target: &EventTarget, hops: u8) -> Result<(), Undelivered> {
        let name = target.function.as_str();
        let qualifier = target.qualifier.as_ref();
        if self.invoke.resolve(name, qualifier).is_none() {
            match self.deployed(target).await {
                Ok(None) => return Err(Undelivered::NotThere),
                Ok(Some(_)) => {}
                // It is found out when the follow-up is run.
                Err(error) => tracing::error!(%error, "cannot read the catalog"),
            }
        }
        match hops > MAX_HOPS {
            true => Err(Undelivered::Loop),
            false => Ok(()),
        }
    }
}

impl Functions for Served {
    fn bounds(&self, function: &str) -> Option<Bounds> {
        let versions = self.invoke.versions(function)?;
        let timeouts = versions
            .all()
            .map(|function| function.deployment().limits().timeout);
        Some(Bounds {
            timeout: timeouts.max()?,
            // All versions have the same.
            concurrency: versions.all().next()?.concurrency(),
        })
    }

    fn config(&self, target: &EventTarget) -> Option<Arc<EventInvokeConfig>> {
        let versions = self.invoke.versions(target.function.as_str())?;
        versions.events(target.qualifier.as_ref()).cloned()
    }

    fn dead_letter(&self, target: &EventTarget, version: Option<Version>) -> Option<String> {
        let versions = self.invoke.versions(target.function.as_str())?;
        let function = match version {
            Some(version) => versions.version(version)?.clone(),
            None => versions.resolve(target.qualifier.as_ref())?.function,
        };
        let config = function.deployment().lambda.members.get("DeadLetterConfig");
        let arn = config?.get("TargetArn")?.as_str()?;
        (!arn.is_empty()).then(|| arn.to_owned())
    }

    fn arn_prefix(&self) -> &str {
        self.invoke.arn_prefix()
    }

    fn run<'a>(
        &'a self,
        target: &'a EventTarget,
        event: AsyncEvent,
        age: Duration,
    ) -> BoxFuture<'a, Option<Ran>> {
        Box::pin(self.attempt(target, event, age))
    }

    fn reach<'a>(
        &'a self,
        target: &'a EventTarget,
        hops: u8,
    ) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(self.may_reach(target, hops))
    }

    fn ended(&self, target: &EventTarget, request_id: RequestId, ending: &Ending) {
        for receiver in &ending.sent {
            let told = match receiver {
                Receiver::Destination(target) => Some(target.clone()),
                Receiver::DeadLetter(arn) => EventTarget::from_arn(self.arn_prefix(), arn),
            };
            if let Some(target) = told {
                self.invoke.received(&target.function);
            }
        }
        let name = target.function.as_str();
        let function = self
            .invoke
            .resolve(name, target.qualifier.as_ref())
            .map(|resolved| resolved.function)
            .or_else(|| self.invoke.find(name));
        let Some(function) = function else {
            if let Some((reason, _)) = ending.dropped {
                tracing::warn!(function = %target, %request_id, %reason, "an event was dropped");
            }
            return;
        };
        let metrics = function.metrics();
        let say = |message: &str| {
            self.invoke
                .say(&function, request_id, Level::Error, message);
        };
        if let Some((reason, last)) = ending.dropped {
            let mut message = format!("the event was dropped: {reason}");
            // Writing to a string cannot fail.
            if let Some(outcome) = last {
                let _ = write!(message, ", the last attempt: {outcome}");
            }
            for receiver in &ending.sent {
                let _ = write!(message, "; it went to {receiver}");
            }
            say(&message);
            metrics.event_dropped(reason);
        }
        for (receiver, error) in &ending.failures {
            say(&format!("nothing went to {receiver}: {error}"));
            match receiver {
                Receiver::Destination(_) => metrics.destination_failures.increment(),
                Receiver::DeadLetter(_) => metrics.dead_letter_errors.increment(),
            }
            if *error == Undelivered::Loop {
                metrics.recursion_dropped.increment();
            }
        }
    }
}

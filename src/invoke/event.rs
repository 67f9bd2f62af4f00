//! Invocations with an event: by the API, by the queue, by other functions.
//!
//! A function that speaks HTTP takes events that are HTTP requests, and answers with a document of the same format. Any other
//! event is an error of the function, as where a runtime of Lambda cannot read it.

use std::{convert::Infallible, sync::Arc, time::Instant};

use futures::future::BoxFuture;

use super::{
    Function, Invoke, MAX_EVENT,
    http::traceparent,
    payload::{self, HttpEvent},
};
use crate::{
    model::{Kind, Outcome, Qualifier, RequestId},
    runtime::{FunctionError, InProcess, InProcessError, Invocation},
};

/// How many functions may wait for one another in a chain (Lambda's recursion detection stops at about 16).
const MAX_HOPS: u8 = 16;

/// The kind of error that an event is which a function that speaks HTTP cannot be given.
const INVALID_EVENT: &str = "Runtime.InvalidEvent";

/// The answer of an invocation with an event.
#[derive(Debug)]
pub struct EventAnswer {
    /// The id of the invocation.
    pub request_id: RequestId,
    /// JSON, the function's own error, or how it was stopped.
    pub result: Result<Result<String, FunctionError>, Outcome>,
}

impl Invoke {
    /// Invokes a function with an event and waits for its answer (Lambda API, Invoke, `RequestResponse`). Who repeats an
    /// invocation gives its id again.
    pub async fn event(
        &self,
        function: &Arc<Function>,
        request_id: RequestId,
        event: String,
        client_context: Option<Box<str>>,
    ) -> EventAnswer {
        let invocation = begin(function, request_id, client_context);
        let result = self.admitted_event(function, event, invocation).await;
        EventAnswer { request_id, result }
    }

    async fn admitted_event(
        &self,
        function: &Arc<Function>,
        event: String,
        invocation: Invocation,
    ) -> Result<Result<String, FunctionError>, Outcome> {
        self.admit(function, invocation.request_id)?;
        match function.deployment().kind {
            Kind::HttpP2 | Kind::HttpP3 => {
                let HttpEvent { request, form } =
                    match self.http_event(function, &event, &invocation) {
                        Ok(event) => event,
                        Err(error) => return Ok(Err(error)),
                    };
                drop(event);
                let limit = function.deployment().configuration.response.as_usize();
                let traceparent = traceparent(request.headers());
                let invocation = Invocation {
                    traceparent: invocation.traceparent.or(traceparent),
                    ..invocation
                };
                let document = |head, body| match payload::document(&head, &body, form) {
                    Ok(document) if document.len() > limit => Err((
                        Outcome::ResponseTooLarge,
                        format!("it is {} bytes, and {limit} is the most", document.len()),
                    )),
                    Ok(document) => Ok(document),
                    Err(error) => Err((Outcome::BadResponse, error.to_string())),
                };
                let answer = self
                    .runtime
                    .http_whole(&function.runtime, request, invocation, document)
                    .await;
                answer.map(Ok)
            }
            Kind::Event | Kind::CommandP2 | Kind::CommandP3 => {
                self.runtime
                    .event(&function.runtime, event, invocation, Ok::<_, Infallible>)
                    .await
            }
            Kind::Hook(_) | Kind::Middleware => {
                Ok(Err(self.refuse_event(function, &event, &invocation)))
            }
        }
    }

    /// The request that an event is. An invocation whose event is none ends here, and is recorded.
    pub(super) fn http_event(
        &self,
        function: &Function,
        event: &str,
        invocation: &Invocation,
    ) -> Result<HttpEvent, FunctionError> {
        let default_host = format!("{}.localhost", function.deployment().name);
        payload::request(event, &default_host).map_err(|error| {
            let error = FunctionError {
                error_type: INVALID_EVENT.to_owned(),
                message: error.to_string(),
                trace: Vec::new(),
            };
            self.runtime
                .refuse(&function.runtime, invocation, event.len(), &error);
            error
        })
    }
}

/// An invocation that begins now.
pub(super) fn begin(
    function: &Function,
    request_id: RequestId,
    client_context: Option<Box<str>>,
) -> Invocation {
    let started = Instant::now();
    Invocation {
        request_id,
        started,
        deadline: started + function.deployment().limits().timeout,
        hops: 0,
        traceparent: None,
        client_context,
    }
}

/// Calls between functions of this node.
impl InProcess for Invoke {
    fn invoke(
        &self,
        name: String,
        event: String,
        caller: &Invocation,
    ) -> BoxFuture<'_, Result<String, InProcessError>> {
        let request_id = RequestId::generate();
        let (hops, caller_deadline) = (caller.hops.saturating_add(1), caller.deadline);
        let traceparent = caller.traceparent.clone();
        Box::pin(async move {
            if hops > MAX_HOPS {
                return Err(InProcessError::TooManyHops);
            }
            if event.len() > MAX_EVENT {
                return Err(InProcessError::PayloadTooLarge);
            }
            let (name, qualifier) = match name.split_once(':') {
                Some((name, qualifier)) => (name, Some(qualifier)),
                None => (name.as_str(), None),
            };
            let qualifier = qualifier.map(str::parse).transpose();
            let qualifier: Option<Qualifier> = qualifier.map_err(|_| InProcessError::NotFound)?;
            let function = self
                .resolve(name, qualifier.as_ref())
                .ok_or(InProcessError::NotFound)?
                .function;
            let started = Instant::now();
            let invocation = Invocation {
                request_id,
                started,
                deadline: caller_deadline.min(started + function.deployment().limits().timeout),
                hops,
                traceparent,
                client_context: None,
            };
            match self.admitted_event(&function, event, invocation).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(InProcessError::Function(error)),
                Err(Outcome::Throttled | Outcome::Overloaded) => Err(InProcessError::Throttled),
                Err(outcome) => Err(InProcessError::Stopped(outcome)),
            }
        })
    }
}

//! Invoke, InvokeWithResponseStream and InvokeAsync: payloads, not documents.
//!
//! What the function answers, and how it failed, is told as Lambda tells it: an error of the function is a 200 with
//! `X-Amz-Function-Error` and a document that names it, and only what went wrong before the function ran is an error of the
//! API.

mod failure;

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use failure::refusal;

use super::{
    super::{
        aws::{Call, Error, event_stream, model::LAMBDA, refused},
        verbs::Control,
    },
    Lambda, invalid,
};
use crate::{
    invoke::{
        AnswerStream, Function, MAX_ASYNC_EVENT, StreamAnswer, error_document, stopped_document,
        why_not_invocable,
    },
    model::{EventTarget, Outcome, RequestId},
};

/// The most bytes of an answer in one message of a stream. Clients take 16 MB.
const PIECE: usize = 1 << 20;

/// How an invocation that was stopped or failed is marked (`X-Amz-Function-Error`). `Handled` is of runtimes long gone.
const UNHANDLED: &str = "Unhandled";

/// What an invocation was asked for.
struct Invocation {
    function: Arc<Function>,
    /// What was named: an alias may stand for another version when an event's turn comes.
    target: EventTarget,
    event: String,
    client_context: Option<Box<str>>,
    wants_log: bool,
}

impl Lambda {
    /// Invoke: the answer, or 202 when the event is on disk, or 204 for a dry run.
    pub(super) async fn invoke(&self, call: Call) -> Result<Response, Error> {
        let request_id = call.request_id;
        let kind = call.text("InvocationType").unwrap_or("RequestResponse");
        let (asynchronous, dry) = (kind == "Event", kind == "DryRun");
        let invocation = self.invocation(call, asynchronous).await?;
        let version = invocation.function.deployment().version.to_string();
        if dry {
            return Ok(versioned(empty(StatusCode::NO_CONTENT), &version));
        }
        if asynchronous {
            let response = self.enqueue(invocation).await?;
            return Ok(response);
        }
        let Invocation {
            function,
            event,
            client_context,
            wants_log,
            target: _,
        } = invocation;
        let answer = self
            .control
            .invoke
            .event(&function, request_id, event, client_context)
            .await;
        let timeout = function.deployment().limits().timeout;
        let mut response = match answer.result {
            Ok(Ok(document)) => document_response(document),
            Ok(Err(error)) => failed(error_document(&error)),
            Err(outcome) => match refusal(outcome) {
                Some(error) => marked(refused(&LAMBDA, &error, request_id), outcome),
                None => marked(
                    failed(stopped_document(outcome, request_id, timeout)),
                    outcome,
                ),
            },
        };
        if response.status() == StatusCode::OK {
            response = versioned(response, &version);
            if wants_log {
                let log = log_of(&self.control, &function, request_id).await;
                if let Ok(log) = HeaderValue::from_str(&log) {
                    response.headers_mut().insert("x-amz-log-result", log);
                }
            }
        }
        Ok(response)
    }

    /// InvokeAsync, which is Invoke of long ago.
    pub(super) async fn invoke_async(&self, call: Call) -> Result<Response, Error> {
        let invocation = self.invocation(call, true).await?;
        self.enqueue(invocation).await
    }

    /// InvokeWithResponseStream: the answer as it is made, in messages.
    pub(super) async fn invoke_with_response_stream(&self, call: Call) -> Result<Response, Error> {
        let request_id = call.request_id;
        let dry = call.text("InvocationType") == Some("DryRun");
        let invocation = self.invocation(call, false).await?;
        let version = invocation.function.deployment().version.to_string();
        if dry {
            return Ok(versioned(empty(StatusCode::NO_CONTENT), &version));
        }
        let Invocation {
            function,
            event,
            client_context,
            wants_log,
            target: _,
        } = invocation;
        let StreamAnswer { result, .. } = self
            .control
            .invoke
            .stream(&function, request_id, event, client_context)
            .await;
        let timeout = function.deployment().limits().timeout;
        let (pieces, failure) = match result {
            Ok(Ok(pieces)) => (Some(pieces), None),
            Ok(Err(error)) => (None, Some(error_document(&error))),
            Err(outcome) => match refusal(outcome) {
                Some(error) => return Ok(marked(refused(&LAMBDA, &error, request_id), outcome)),
                None => (None, Some(stopped_document(outcome, request_id, timeout))),
            },
        };
        let messages = Messages {
            pieces,
            rest: Bytes::new(),
            failure,
            complete: false,
            log: wants_log.then(|| self.control.clone()),
            function,
            request_id,
        };
        let stream = futures::stream::unfold(messages, async |mut messages| {
            let message = messages.next().await?;
            Some((Ok::<_, Infallible>(message), messages))
        });
        let mut response = Response::new(Body::from_stream(stream));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(event_stream::CONTENT_TYPE),
        );
        Ok(versioned(response, &version))
    }

    async fn enqueue(&self, invocation: Invocation) -> Result<Response, Error> {
        let Invocation {
            target,
            event,
            client_context,
            ..
        } = invocation;
        let enqueued = self.control.enqueue(&target, event, client_context).await;
        let request_id = enqueued.map_err(|error| {
            Error::new("ServiceException", error.to_string()).with("Type", "Service")
        })?;
        let mut response = empty(StatusCode::ACCEPTED);
        // The invocation's id is the one to look for in the log.
        if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
            response.headers_mut().insert("x-amzn-requestid", id);
        }
        Ok(response)
    }

    /// What a call asks for.
    async fn invocation(&self, call: Call, asynchronous: bool) -> Result<Invocation, Error> {
        let (function, target) = self.function_of(&call).await?;
        if let Some(why) = why_not_invocable(function.deployment().kind) {
            return Err(invalid(format!("The function cannot be invoked: {why}.")));
        }
        if call.text("TenantId").is_some() {
            return Err(invalid(
                "The invoked function is not enabled for tenancy configuration. Remove the tenant ID from your request and \
                 try again.",
            ));
        }
        if call.text("DurableExecutionName").is_some() {
            return Err(invalid(
                "The invoked function has no durable executions: Wharf does not support them.",
            ));
        }
        let client_context = match call.text("ClientContext").map(client_context) {
            None => None,
            Some(Some(context)) => Some(context),
            Some(None) => {
                return Err(invalid(
                    "Client context must be a valid Base64-encoded JSON object.",
                ));
            }
        };
        if let Some(media) = &call.content_type
            && !may_be_json(media)
        {
            return Err(Error::new(
                "UnsupportedMediaTypeException",
                "The content type of the Invoke request body is not JSON.",
            )
            .with("Type", "User"));
        }
        let size = call.payload.len();
        if asynchronous && size > MAX_ASYNC_EVENT {
            let message = format!(
                "{size} byte payload is too large for the Event invocation type (limit {MAX_ASYNC_EVENT} bytes)"
            );
            return Err(Error::new("RequestTooLargeException", message).with("Type", "User"));
        }
        Ok(Invocation {
            function,
            target,
            event: event_text(&call.payload)?,
            client_context,
            wants_log: call.text("LogType") == Some("Tail"),
        })
    }

    /// The function that a call names, of that version or alias.
    async fn function_of(&self, call: &Call) -> Result<(Arc<Function>, EventTarget), Error> {
        let named = call.text("FunctionName").unwrap_or_default();
        let reference = self.reference(named, call.text("Qualifier"))?;
        let resolved = self
            .control
            .invoke
            .resolve(reference.name.as_str(), reference.qualifier.as_ref());
        if let Some(resolved) = resolved {
            let target = EventTarget {
                function: reference.name,
                qualifier: reference.qualifier,
            };
            return Ok((resolved.function, target));
        }
        let why = self.why_not_served(&reference.name).await;
        Err(why.unwrap_or_else(|| reference.not_found(&self.control.arns)))
    }
}

/// The messages of a stream: pieces of the answer, and at last how it ended.
struct Messages {
    pieces: Option<AnswerStream>,
    /// What is left of a piece that is too large for one message.
    rest: Bytes,
    failure: Option<String>,
    complete: bool,
    /// Whose log to look into, if the caller wants it.
    log: Option<Arc<Control>>,
    function: Arc<Function>,
    request_id: RequestId,
}

impl Messages {
    async fn next(&mut self) -> Option<Bytes> {
        if self.complete {
            return None;
        }
        if self.rest.is_empty()
            && let Some(pieces) = &mut self.pieces
        {
            match pieces.next().await {
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(outcome)) => {
                    let timeout = self.function.deployment().limits().timeout;
                    self.failure = Some(stopped_document(outcome, self.request_id, timeout));
                }
                None => {}
            }
        }
        if !self.rest.is_empty() {
            let piece = self.rest.split_to(self.rest.len().min(PIECE));
            return Some(event_stream::message(
                "PayloadChunk",
                "application/octet-stream",
                piece,
            ));
        }
        // The invocation is recorded when nothing of it is left.
        self.pieces = None;
        self.complete = true;
        let mut end = serde_json::Map::new();
        if let Some(failure) = self.failure.take() {
            end.insert("ErrorCode".to_owned(), UNHANDLED.into());
            end.insert("ErrorDetails".to_owned(), failure.into());
        }
        if let Some(control) = self.log.take() {
            let log = log_of(&control, &self.function, self.request_id).await;
            end.insert("LogResult".to_owned(), log.into());
        }
        Some(event_stream::message(
            "InvokeComplete",
            "application/json",
            Value::Object(end).to_string().into(),
        ))
    }
}

async fn log_of(control: &Control, function: &Function, request_id: RequestId) -> String {
    BASE64_STANDARD.encode(control.log_of(function, request_id).await)
}

/// The client context, a JSON object in base64, as text.
fn client_context(sent: &str) -> Option<Box<str>> {
    let bytes = BASE64_STANDARD.decode(sent).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    serde_json::from_str::<serde_json::Map<String, Value>>(&text).ok()?;
    Some(text.into_boxed_str())
}

/// Whether a body of this type may be JSON. SDKs say that it is bytes, and curl that it is a form.
fn may_be_json(media: &str) -> bool {
    let media = media.split(';').next().unwrap_or_default().trim();
    let media = media.to_ascii_lowercase();
    media.ends_with("/json")
        || media.ends_with("+json")
        || media.starts_with("application/x-amz-json")
        || matches!(
            media.as_str(),
            "" | "application/octet-stream"
                | "binary/octet-stream"
                | "application/x-www-form-urlencoded"
                | "text/plain"
        )
}

/// The event as JSON; nothing stands for `{}`.
fn event_text(bytes: &Bytes) -> Result<String, Error> {
    if bytes.is_empty() {
        return Ok("{}".to_owned());
    }
    let invalid = |why: &dyn std::fmt::Display| {
        let message = format!("Could not parse request body into json: {why}");
        Error::new("InvalidRequestContentException", message).with("Type", "User")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(&error))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| invalid(&error))?;
    Ok(text.to_owned())
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn document_response(document: String) -> Response {
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn failed(document: String) -> Response {
    let mut response = document_response(document);
    let headers = response.headers_mut();
    headers.insert("x-amz-function-error", HeaderValue::from_static(UNHANDLED));
    response
}

/// Says how it ended in Wharf's word too.
fn marked(mut response: Response, outcome: Outcome) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-wharf-error", HeaderValue::from_static(outcome.code()));
    response
}

fn versioned(mut response: Response, version: &str) -> Response {
    if let Ok(version) = HeaderValue::from_str(version) {
        response
            .headers_mut()
            .insert("x-amz-executed-version", version);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_json_is_taken() {
        for media in [
            "application/json",
            "application/json; charset=utf-8",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "application/cloudevents+json",
        ] {
            assert!(may_be_json(media), "{media}");
        }
        for media in ["image/png", "multipart/form-data; boundary=x", "text/html"] {
            assert!(!may_be_json(media), "{media}");
        }
    }

    #[test]
    fn a_client_context_is_an_object_in_base64() {
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        assert_eq!(
            client_context(&encoded("{\"a\":1}")).as_deref(),
            Some("{\"a\":1}")
        );
        for wrong in [encoded("1"), encoded("{"), encoded(""), "%".to_owned()] {
            assert_eq!(client_context(&wrong), None, "{wrong}");
        }
    }
}

//! Invocations with an event whose answer comes piece by piece (Lambda API, InvokeWithResponseStream).
//!
//! What a function that speaks HTTP answers is sent as it is made, after a prelude with its status and header: the format is
//! `application/vnd.awslambda.http-integration-response`, which Lambda's own runtimes stream to function URLs. A function that
//! takes events has all of its answer at once, so it is one piece.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::BodyExt as _;

use super::{
    Function, Invoke,
    event::begin,
    http::{ResponseBody, traceparent},
    payload::{self, HttpEvent},
};
use crate::{
    model::{Kind, Outcome, RequestId},
    runtime::{FunctionError, IncompleteBody, Invocation},
};

/// The most bytes of a streamed answer (Lambda quota: 200 MB).
pub const MAX_STREAM: usize = 200 << 20;

/// The answer of an invocation with an event, as it is made.
#[derive(Debug)]
pub struct StreamAnswer {
    /// The id of the invocation.
    pub request_id: RequestId,
    /// The pieces, the function's own error, or how it was stopped before the first piece.
    pub result: Result<Result<AnswerStream, FunctionError>, Outcome>,
}

/// The pieces of an answer. Dropping it before its end stops the function: nobody wants the rest.
#[derive(Debug)]
pub struct AnswerStream {
    prelude: Option<Bytes>,
    body: Option<ResponseBody>,
    left: usize,
}

impl AnswerStream {
    /// The next piece; none at the end. After an error, which says how the invocation ended, there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, Outcome>> {
        if let Some(prelude) = self.prelude.take() {
            self.left = self.left.saturating_sub(prelude.len());
            return Some(Ok(prelude));
        }
        loop {
            let data = match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(IncompleteBody(outcome))) => {
                    self.body = None;
                    return Some(Err(outcome));
                }
                None => {
                    self.body = None;
                    return None;
                }
            };
            match data {
                Ok(data) if data.len() > self.left => {
                    if let Some(ResponseBody::Guest(body)) = self.body.take() {
                        body.give_up(Outcome::ResponseTooLarge);
                    }
                    return Some(Err(Outcome::ResponseTooLarge));
                }
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.left -= data.len();
                    return Some(Ok(data));
                }
                // Trailers, which only HTTP has.
                Err(_) => {}
            }
        }
    }
}

impl Invoke {
    /// Invokes a function with an event, and gives its answer as it is made.
    pub async fn stream(
        &self,
        function: &Arc<Function>,
        request_id: RequestId,
        event: String,
        client_context: Option<Box<str>>,
    ) -> StreamAnswer {
        let invocation = begin(function, request_id, client_context);
        let result = self.admitted_stream(function, event, invocation).await;
        StreamAnswer { request_id, result }
    }

    async fn admitted_stream(
        &self,
        function: &Arc<Function>,
        event: String,
        invocation: Invocation,
    ) -> Result<Result<AnswerStream, FunctionError>, Outcome> {
        self.admit(function, invocation.request_id)?;
        match function.deployment().kind {
            Kind::HttpP2 | Kind::HttpP3 => {
                let HttpEvent { request, .. } = match self.http_event(function, &event, &invocation)
                {
                    Ok(event) => event,
                    Err(error) => return Ok(Err(error)),
                };
                drop(event);
                let invocation = Invocation {
                    traceparent: traceparent(request.headers()),
                    ..invocation
                };
                let has_body = request.method() != http::Method::HEAD;
                let mut prelude = None;
                let describe = |head: &mut http::response::Parts| {
                    payload::prelude(head).map(|bytes| prelude = Some(bytes))
                };
                let response = self
                    .runtime
                    .http(&function.runtime, request, invocation, describe, false)
                    .await?;
                Ok(Ok(AnswerStream {
                    prelude,
                    body: has_body.then(|| ResponseBody::Guest(response.into_body())),
                    left: MAX_STREAM,
                }))
            }
            Kind::Event | Kind::CommandP2 | Kind::CommandP3 => {
                let answer = self
                    .runtime
                    .event(&function.runtime, event, invocation, Ok::<_, Infallible>)
                    .await?;
                Ok(answer.map(|answer| AnswerStream {
                    prelude: None,
                    body: Some(ResponseBody::Complete(Some(answer.into()))),
                    left: MAX_STREAM,
                }))
            }
            Kind::Hook(_) | Kind::Middleware => {
                Ok(Err(self.refuse_event(function, &event, &invocation)))
            }
        }
    }
}

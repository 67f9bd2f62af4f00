//! Invocations with an HTTP request.

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderName, Request, Response, response::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};

use super::{Admitted, Function, Invoke, MAX_EVENT, answer, payload};
use crate::{
    model::{InvocationRecord, InvokeMode, Kind, Outcome, RequestId, UrlCaller, address_text},
    runtime::{GuestBody, IncompleteBody, Invocation},
};

/// Asks for the receipt of an invocation, and carries it.
const RECEIPT: HeaderName = HeaderName::from_static("x-wharf-receipt");

/// What the door knows of an HTTP request beside the request.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// The id of the request, and so of its invocation.
    pub request_id: RequestId,
    /// When it came.
    pub started: Instant,
    /// Who sent it: an IP address.
    pub source_ip: IpAddr,
    /// What the route took from the path.
    pub path_parameters: &'a [(String, String)],
    /// The function URL that it came by, if it has a configuration.
    pub url: Option<UrlArrival<'a>>,
}

/// What the door knows of a request to a function URL.
#[derive(Debug, Clone, Copy)]
pub struct UrlArrival<'a> {
    /// The URL's id.
    pub id: &'a str,
    /// Whether the answer is sent as it is made.
    pub invoke_mode: InvokeMode,
    /// Who signed the request.
    pub caller: Option<&'a UrlCaller>,
}

impl Invoke {
    /// Has a function answer an HTTP request, whatever its kind: one that takes events gets the request as one, and what
    /// is part of a distribution none. The head of the answer is safe to send.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn http<B>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        arrival: Arrival<'_>,
    ) -> Result<Response<ResponseBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
    {
        self.admit(function, arrival.request_id)?;
        let configuration = &function.deployment().configuration;
        let invocation = Invocation {
            request_id: arrival.request_id,
            started: arrival.started,
            deadline: arrival.started + function.deployment().limits().timeout,
            hops: 0,
            traceparent: traceparent(request.headers()),
            client_context: None,
        };
        let wants_receipt = configuration.receipt && request.headers().contains_key(&RECEIPT);
        let buffered = (arrival.url).is_some_and(|url| url.invoke_mode == InvokeMode::Buffered);
        let mut response = match function.deployment().kind {
            Kind::HttpP2 | Kind::HttpP3 if buffered => {
                self.http_buffered(function, request, invocation).await?
            }
            Kind::HttpP2 | Kind::HttpP3 => self
                .runtime
                .http(
                    &function.runtime,
                    request,
                    invocation,
                    answer::check,
                    wants_receipt,
                )
                .await?
                .map(ResponseBody::Guest),
            Kind::Event | Kind::CommandP2 | Kind::CommandP3 => self
                .http_as_event(function, request, invocation, &arrival)
                .await?
                .map(|body| ResponseBody::Complete(Some(body))),
            // It was a function when the route was made.
            Kind::Hook(_) | Kind::Middleware => {
                drop(Admitted(&function.ledger));
                return Err(Outcome::NoRoute);
            }
        };
        if wants_receipt
            && let Some(record) = response.extensions_mut().remove::<InvocationRecord>()
            && let Ok(receipt) = serde_json::to_string(&record)
            && let Ok(receipt) = receipt.try_into()
        {
            response.headers_mut().insert(RECEIPT, receipt);
        }
        Ok(response)
    }

    /// The answer when it is complete.
    async fn http_buffered<B>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
    ) -> Result<Response<ResponseBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
    {
        let read = |mut head: Parts, body| match answer::check(&mut head) {
            Ok(()) => Ok(Response::from_parts(
                head,
                ResponseBody::Complete(Some(body)),
            )),
            Err(error) => Err((Outcome::BadResponse, error)),
        };
        self.runtime
            .http_whole(&function.runtime, request, invocation, read)
            .await
    }

    async fn http_as_event<B>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        arrival: &Arrival<'_>,
    ) -> Result<Response<Bytes>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
    {
        let (head, body) = request.into_parts();
        let admitted = Admitted(&function.ledger);
        // The body is read before there is an instance: a slow client holds no memory of a guest.
        let body = collect(body, invocation.deadline)
            .await
            .inspect_err(|outcome| {
                function.ledger.metrics.refuse(*outcome);
            })?;
        admitted.hand_over();
        let source_ip = address_text(arrival.source_ip);
        let event = payload::event(
            &head,
            &body,
            &payload::Origin {
                request_id: arrival.request_id,
                api_id: (arrival.url).map_or(function.deployment().name.as_str(), |url| url.id),
                source_ip: &source_ip,
                time_ms: jiff::Timestamp::now().as_millisecond(),
                path_parameters: arrival.path_parameters,
                caller: arrival.url.and_then(|url| url.caller),
            },
        );
        let read = |answered| {
            let response = payload::response(answered).map_err(|error| error.to_string())?;
            let (mut head, body) = response.into_parts();
            answer::check(&mut head).map_err(|error| error.to_string())?;
            Ok::<_, String>(Response::from_parts(head, body))
        };
        let answer = self
            .runtime
            .event(&function.runtime, event, invocation, read)
            .await?;
        answer.map_err(|_| Outcome::FunctionError)
    }
}

/// The caller's W3C trace context, if it sent one.
pub(super) fn traceparent(headers: &http::HeaderMap) -> Option<Box<str>> {
    headers.get("traceparent")?.to_str().ok().map(Box::from)
}

/// The whole body of a request, at most as large as an event may be.
async fn collect<B>(body: B, deadline: Instant) -> Result<Bytes, Outcome>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let body = body.map_err(|error| std::io::Error::other(error.to_string()));
    let body = std::pin::pin!(Limited::new(body, MAX_EVENT));
    match tokio::time::timeout_at(deadline.into(), body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Outcome::BadRequest),
        Err(_) => Err(Outcome::Timeout),
    }
}

/// The body of a function's HTTP answer.
#[derive(Debug)]
pub enum ResponseBody {
    /// The host has all of it.
    Complete(Option<Bytes>),
    /// The guest made it, and may still be writing.
    Guest(GuestBody),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = IncompleteBody;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, IncompleteBody>>> {
        match self.get_mut() {
            Self::Complete(data) => {
                std::task::Poll::Ready(data.take().map(|data| Ok(Frame::data(data))))
            }
            Self::Guest(body) => std::pin::Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Complete(data) => data.is_none(),
            Self::Guest(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Complete(data) => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Guest(body) => body.size_hint(),
        }
    }
}

//! Calling an instance, one way for each kind of function.
//!
//! Every call is one future that owns its lease, held to its limits by [`Bounded`] and polled by whoever waits for the
//! answer: a short call needs no task, no timer and no channel hop. Only a guest that goes on after it has answered gets a
//! task of its own. Dropping the future at any point ends the instance.

use std::{
    fmt::Display,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{
    Error as HttpError, WasiBody, WasiHttpView,
    p2::bindings::{Proxy as HttpP2, http::types::Scheme},
    p3::{Request as RequestP3, bindings::Service as HttpP3},
};

use super::{
    account::Account,
    bindings::{EventFunction, wharf::function::types::InvocationContext},
    body::GuestBody,
    instance::{Exports, State},
    limits::{Bounded, classify},
    pool::Lease,
};
use crate::{boxed, model::Outcome, telemetry::logs::Level};

/// What a guest answers an HTTP request with, before it is ours.
type Answer = Result<Response<WasiBody>, Outcome>;

/// The future of one call.
type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An error that a function answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// The kind of error.
    pub error_type: String,
    /// What went wrong.
    pub message: String,
    /// Where, a line a frame.
    pub trace: Vec<String>,
}

impl FunctionError {
    /// Its bytes, which count as those of an answer do.
    fn len(&self) -> usize {
        let trace: usize = self.trace.iter().map(|line| line.len() + 1).sum();
        self.error_type.len() + self.message.len() + trace
    }
}

/// Has an instance answer an HTTP request. `check` makes the head of the answer safe to send, or says why it is none. With
/// `receipt`, the response carries the [`InvocationRecord`] as it stands when the head is sent, as an extension.
///
/// [`InvocationRecord`]: crate::model::InvocationRecord
pub(super) async fn http<B, E: Display>(
    lease: Lease,
    request: Request<B>,
    account: Arc<Account>,
    check: impl FnOnce(&mut Parts) -> Result<(), E>,
    receipt: bool,
    bounds: impl FnOnce(Call<()>) -> Bounded<Call<()>>,
) -> Result<Response<GuestBody>, Outcome>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let wanted = request.method() != http::Method::HEAD;
    let (sender, mut receiver) = oneshot::channel();
    let mut guest = bounds(boxed::pin(|| {
        serve(lease, request, sender, account.clone())
    }));
    let answered = poll_fn(|context| match Pin::new(&mut guest).poll(context) {
        Poll::Ready(ended) => Poll::Ready(Err(ended)),
        Poll::Pending => match Pin::new(&mut receiver).poll(context) {
            Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
            // It has let go of what it would answer with, so nothing it may still do is an answer.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(Err(Outcome::BadResponse))),
            Poll::Pending => Poll::Pending,
        },
    })
    .await;
    account.set_cpu(guest.cpu());
    let (answer, running) = match answered {
        // The guest is still there: it streams its body, or works on after its answer.
        Ok(answer) => (answer, true),
        Err(Ok(())) => match receiver.try_recv() {
            Ok(answer) => (answer, false),
            Err(_) => (Err(Outcome::BadResponse), false),
        },
        Err(Err(limit)) => {
            account.stop(limit);
            (Err(limit), false)
        }
    };
    let response = match answer {
        Ok(response) => response,
        Err(Outcome::BadResponse) => return Err(account.refuse(&"the function gave no answer")),
        Err(outcome) => {
            account.fail(outcome);
            return Err(account.outcome());
        }
    };
    let (mut parts, body) = response.into_parts();
    if let Err(error) = check(&mut parts) {
        return Err(account.refuse(&error));
    }
    if receipt {
        parts.extensions.insert(account.record());
    }
    let body = if running {
        let task = tokio::spawn(finish(guest, account.clone()));
        GuestBody::stream(body, account, Some(task.abort_handle()), wanted)
    } else if account.outcome() == Outcome::Ok {
        GuestBody::of_ended_guest(body, account)?
    } else {
        // It answered and then failed before we looked: a body may be missing, so there is no answer.
        return Err(account.outcome());
    };
    Ok(Response::from_parts(parts, body))
}

/// Runs the rest of a guest that has answered.
async fn finish(mut guest: Bounded<Call<()>>, account: Arc<Account>) {
    let ended = (&mut guest).await;
    account.set_cpu(guest.cpu());
    // Before the guest is dropped: its body must not look complete.
    if let Err(limit) = ended {
        account.stop(limit);
    }
}

/// The guest's side of an HTTP call, from the request to the end of the guest.
async fn serve<B>(
    mut lease: Lease,
    request: Request<B>,
    sender: oneshot::Sender<Answer>,
    account: Arc<Account>,
) where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let request = request.map(|body| Counted {
        body,
        account: account.clone(),
    });
    let instance = lease.instance();
    let exports = instance.exports.clone();
    let store = &mut instance.store;
    let ended = match &*exports {
        Exports::HttpP2(proxy) => serve_p2(store, proxy, request, sender, account.clone()).await,
        Exports::HttpP3(service) => {
            serve_p3(store, service, request, sender, account.clone()).await
        }
        Exports::Event(_) | Exports::CommandP2(_) | Exports::CommandP3(_) | Exports::Hook(_) => {
            Err(wasmtime::format_err!("the function does not speak HTTP"))
        }
    };
    end(lease, ended, &account);
}

/// Ends a call: the lease is released, or the failure noted and the instance dropped.
pub(super) fn end(mut lease: Lease, ended: wasmtime::Result<()>, account: &Account) {
    match ended {
        Ok(()) => {
            // Only a command's output is an answer.
            let _ = lease.release();
        }
        Err(error) => {
            let instance = lease.instance();
            let outcome = classify(&error, &instance.store.data().memory);
            account.fail(outcome);
            instance.report_failure(outcome, &error);
        }
    }
}

async fn serve_p2<B>(
    store: &mut Store<State>,
    proxy: &HttpP2,
    request: Request<Counted<B>>,
    sender: oneshot::Sender<Answer>,
    account: Arc<Account>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(scheme, request)?;
    let outparam = view.new_response_outparam_from_callback(move |answer| {
        let answer = answer.map_err(|error| {
            account.say(
                Level::Error,
                &format!("function_error: the function answered with {error}"),
            );
            Outcome::FunctionError
        });
        // Nobody waits any more when the client has gone.
        let _ = sender.send(answer);
    })?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(store, request, outparam)
        .await
}

async fn serve_p3<B>(
    store: &mut Store<State>,
    service: &HttpP3,
    request: Request<Counted<B>>,
    sender: oneshot::Sender<Answer>,
    account: Arc<Account>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    let (request, sent) = RequestP3::from_http(store.data_mut().http().hooks, request);
    store
        .run_concurrent(async move |accessor| {
            let answer = match service.handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|store| response.into_http(store, sent))?),
                Err(error) => {
                    let message = format!("function_error: the function answered with {error}");
                    account.say(Level::Error, &message);
                    Err(Outcome::FunctionError)
                }
            };
            let _ = sender.send(answer);
            // The body may still be written, and the guest may have more to do.
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(())
        })
        .await?
}

/// Has an instance handle an event. Gives what `read` makes of its answer, JSON of at most `limit` bytes, or the function's
/// own error.
pub(super) async fn event<T, E: Display>(
    lease: Lease,
    event: String,
    context: InvocationContext,
    limit: usize,
    account: Arc<Account>,
    read: impl FnOnce(String) -> Result<T, E>,
    bounds: impl FnOnce(
        Call<Option<Result<String, FunctionError>>>,
    ) -> Bounded<Call<Option<Result<String, FunctionError>>>>,
) -> Result<Result<T, FunctionError>, Outcome> {
    let mut guest = bounds(boxed::pin(|| {
        handle(lease, event, context, account.clone())
    }));
    let ended = (&mut guest).await;
    account.set_cpu(guest.cpu());
    match ended {
        Ok(Some(Ok(answer))) => {
            account.count_out(answer.len());
            if answer.len() > limit {
                account.fail(Outcome::ResponseTooLarge);
                return Err(Outcome::ResponseTooLarge);
            }
            if serde_json::from_str::<serde::de::IgnoredAny>(&answer).is_err() {
                return Err(account.refuse(&"the answer is not JSON"));
            }
            read(answer).map(Ok).map_err(|error| account.refuse(&error))
        }
        Ok(Some(Err(error))) if error.len() > limit => {
            account.fail(Outcome::ResponseTooLarge);
            Err(Outcome::ResponseTooLarge)
        }
        Ok(Some(Err(error))) => {
            account.fail(Outcome::FunctionError);
            Ok(Err(error))
        }
        Ok(None) => Err(account.outcome()),
        Err(limit) => {
            account.stop(limit);
            Err(account.outcome())
        }
    }
}

/// The guest's side of an event call.
async fn handle(
    mut lease: Lease,
    event: String,
    context: InvocationContext,
    account: Arc<Account>,
) -> Option<Result<String, FunctionError>> {
    let instance = lease.instance();
    let exports = instance.exports.clone();
    let store = &mut instance.store;
    match &*exports {
        Exports::Event(function) => {
            let answer = call_handler(store, function, &event, &context).await;
            let (answer, ended) = split(answer);
            end(lease, ended, &account);
            answer
        }
        Exports::CommandP2(command) => {
            let ran = command.wasi_cli_run().call_run(store).await;
            printed(lease, ran, &account)
        }
        Exports::CommandP3(command) => {
            let ran = store
                .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
                .await;
            printed(lease, ran.and_then(|ran| ran), &account)
        }
        Exports::HttpP2(_) | Exports::HttpP3(_) | Exports::Hook(_) => {
            let error = wasmtime::format_err!("the function takes no events");
            end(lease, Err(error), &account);
            None
        }
    }
}

pub(super) fn split<T>(result: wasmtime::Result<T>) -> (Option<T>, wasmtime::Result<()>) {
    match result {
        Ok(value) => (Some(value), Ok(())),
        Err(error) => (None, Err(error)),
    }
}

/// The answer of a command: what it printed, if it ended well.
fn printed(
    lease: Lease,
    ran: wasmtime::Result<Result<(), ()>>,
    account: &Account,
) -> Option<Result<String, FunctionError>> {
    let status = match ran {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        // `exit` unwinds the guest with its status.
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exit.0,
            None => {
                end(lease, Err(error), account);
                return None;
            }
        },
    };
    let Ok(printed) = lease.release() else {
        account.fail(Outcome::ResponseTooLarge);
        return None;
    };
    if status != 0 {
        return Some(Err(FunctionError {
            error_type: "Runtime.ExitError".to_owned(),
            message: format!("the command ended with exit status {status}"),
            trace: Vec::new(),
        }));
    }
    match String::from_utf8(printed.into()) {
        Ok(text) => Some(Ok(text)),
        Err(_) => {
            account.refuse(&"the command printed what is not UTF-8");
            None
        }
    }
}

async fn call_handler(
    store: &mut Store<State>,
    function: &EventFunction,
    event: &str,
    context: &InvocationContext,
) -> wasmtime::Result<Result<String, FunctionError>> {
    let answer = function
        .wharf_function_handler()
        .call_handle(store, event, context)
        .await?;
    Ok(answer.map_err(|error| FunctionError {
        error_type: error.error_type,
        message: error.error_message,
        trace: error.trace,
    }))
}

pin_project_lite::pin_project! {
    /// A request's body on its way into the guest, counted.
    struct Counted<B> {
        #[pin]
        body: B,
        account: Arc<Account>,
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.project();
        this.body.poll_frame(context).map(|frame| match frame? {
            Ok(frame) => {
                this.account.count_in(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Err(error) => {
                tracing::debug!(%error, request_id = %this.account.request_id, "request body failed");
                Some(Err(HttpError::ConnectionTerminated))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

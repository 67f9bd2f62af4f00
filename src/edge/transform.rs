//! Middleware: functions around what answers, each with the rest of the way behind it.
//!
//! ```text
//! origin-request hooks → middleware → … → middleware → origin or function
//!                              └── streams the answer on ──┘
//! ```
//!
//! A middleware is invoked with the [`Rest`] of its way, which its request goes on: the next middleware, in the end the origin. It
//! stands behind the cache, so that what is stored is what it made, and around every attempt of a request that goes there.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{
    Failure, RequestBody,
    forward::{Answer, AnswerError, Route, is_too_long},
};
use crate::{
    boxed,
    model::{FunctionName, Outcome, hop},
    runtime::{Next, NextAnswer, NextRequestBody},
};

/// Sends a request past the middleware from `position` on, and to what answers. `until` then there is an answer waited for.
///
/// # Errors
///
/// What answers gave no answer, or a middleware failed. One that only says that what it asked failed has not: then it is that.
pub(super) async fn pass(
    route: &Route,
    position: usize,
    request: Request<RequestBody>,
    until: Instant,
) -> Result<Response<Answer>, Failure> {
    match route.behaviour().config.hooks.transform.get(position) {
        // In a box: most requests need no room for it.
        Some(name) => boxed::pin(|| around(route, name, position, request, until)).await,
        None => route.ask(request, until).await,
    }
}

async fn around(
    route: &Route,
    name: &FunctionName,
    position: usize,
    request: Request<RequestBody>,
    until: Instant,
) -> Result<Response<Answer>, Failure> {
    let function = route.edge.invoke.find(name.as_str());
    let function = function.ok_or(Failure::Hook(Outcome::Internal))?;
    let failure = Failed::default();
    let mut way = HeaderMap::new();
    hop::restore(&mut way, request.headers());
    let rest = Arc::new(Rest {
        route: route.clone(),
        position: position + 1,
        way,
        failure: failure.clone(),
        until,
    });
    let noted = failure.clone();
    let request = request.map(|body| {
        body.map_err(move |error| {
            if is_too_long(&*error) {
                noted.set(Failure::TooLarge);
            }
            error
        })
        .boxed_unsync()
    });
    let id = route.arrival.request_id;
    let answered = route
        .edge
        .invoke
        .middleware(&function, id, request, rest)
        .await;
    match answered {
        Ok(response) => Ok(response.map(|body| Answer::Function { body })),
        Err(outcome) => Err(match (outcome, failure.take()) {
            (Outcome::FunctionError, Some(behind)) => behind,
            _ => Failure::Hook(outcome),
        }),
    }
}

/// The first that failed behind a middleware.
#[derive(Clone, Default)]
struct Failed(Arc<Mutex<Option<Failure>>>);

impl Failed {
    fn set(&self, failure: Failure) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    fn take(&self) -> Option<Failure> {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.take()
    }
}

/// What stands behind a middleware.
struct Rest {
    route: Route,
    /// Of the first that does.
    position: usize,
    /// `CDN-Loop` and `Via` of the request as it came to the middleware, and goes on whatever that makes of it.
    way: HeaderMap,
    failure: Failed,
    until: Instant,
}

impl Next for Rest {
    fn handle(
        &self,
        mut request: Request<NextRequestBody>,
    ) -> Pin<Box<dyn Future<Output = NextAnswer> + Send>> {
        hop::restore(request.headers_mut(), &self.way);
        let (route, position, until) = (self.route.clone(), self.position, self.until);
        let failure = self.failure.clone();
        let span = route.span.clone();
        let passed = async move {
            match pass(&route, position, request, until).await {
                Ok(response) => Ok(response.map(|body| {
                    body.map_err(|error: AnswerError| error.outcome())
                        .boxed_unsync()
                })),
                Err(failed) => {
                    let outcome = failed.outcome();
                    failure.set(failed);
                    Err(outcome)
                }
            }
        };
        Box::pin(passed.instrument(span))
    }
}

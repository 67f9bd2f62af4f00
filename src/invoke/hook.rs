//! Invocations of request hooks.
//!
//! A hook is a function like any other: admitted, run under its limits, recorded. What it sees is a head, and what it says is
//! what becomes of it.

use std::{sync::Arc, time::Instant};

use super::{Function, Invoke, http::traceparent};
use crate::{
    model::{
        Outcome, RequestId,
        hook::{Point, RequestAction, RequestHead, ResponseAction, ResponseHead, Seen},
    },
    runtime::Invocation,
    telemetry::logs::Level,
};

impl Function {
    /// Whether it can stand at a point.
    pub fn has_hook(&self, point: Point) -> bool {
        self.deployment().kind.points().contains(point)
    }
}

impl Invoke {
    /// Has a hook see a request: at [`Point::ViewerRequest`], or with its body at [`Point::OriginRequest`].
    ///
    /// Its time begins when it has an instance. The invocation is recorded under the request's id, in the hook's log.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause. `internal`, if the function has no such hook: whoever
    /// asks was to look at [`Function::has_hook`] before.
    pub async fn hook_request(
        &self,
        function: &Arc<Function>,
        point: Point,
        request_id: RequestId,
        seen: Seen<'_>,
    ) -> Result<RequestAction, Outcome> {
        let has = !point.sees_response() && function.has_hook(point);
        let invocation = self.begin_hook(function, point, has, request_id, seen.request)?;
        self.runtime
            .hook_request(&function.runtime, point, seen, invocation)
            .await
    }

    /// Has a hook see a response, and the request that it answers: with its body at [`Point::OriginResponse`], with the client at
    /// [`Point::ViewerResponse`].
    ///
    /// # Errors
    ///
    /// As of [`hook_request`](Self::hook_request).
    pub async fn hook_response(
        &self,
        function: &Arc<Function>,
        point: Point,
        request_id: RequestId,
        seen: Seen<'_>,
        response: ResponseHead<'_>,
    ) -> Result<ResponseAction, Outcome> {
        let has = point.sees_response() && function.has_hook(point);
        let invocation = self.begin_hook(function, point, has, request_id, seen.request)?;
        self.runtime
            .hook_response(&function.runtime, point, seen, response, invocation)
            .await
    }

    /// Admits an invocation of a hook, if there is one.
    fn begin_hook(
        &self,
        function: &Function,
        point: Point,
        has: bool,
        request_id: RequestId,
        request: RequestHead<'_>,
    ) -> Result<Invocation, Outcome> {
        if !has {
            function.ledger.metrics.refuse(Outcome::Internal);
            let message = format!("{}: it has no hook {point}", Outcome::Internal);
            self.say(function, request_id, Level::Error, &message);
            return Err(Outcome::Internal);
        }
        self.admit(function, request_id)?;
        let started = Instant::now();
        Ok(Invocation {
            request_id,
            started,
            deadline: started + function.deployment().limits().timeout,
            hops: 0,
            traceparent: traceparent(request.headers),
            client_context: None,
        })
    }
}

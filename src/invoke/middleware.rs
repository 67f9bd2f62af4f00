//! Invocations of middleware: functions that a distribution's requests pass as they stream.

use std::{sync::Arc, time::Instant};

use http::{Request, Response};

use super::{Function, Invoke, ResponseBody, answer, http::traceparent};
use crate::{
    model::{Kind, Outcome, RequestId},
    runtime::{Invocation, Next, NextRequestBody},
    telemetry::logs::Level,
};

impl Invoke {
    /// Has a middleware answer a request, with `next` behind it. The head of the answer is safe to send; a body that is made of
    /// one that broke off breaks off too.
    ///
    /// The invocation is recorded under the request's id, in the function's log.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause. `internal`, if the function is no middleware (any
    /// more).
    pub async fn middleware(
        &self,
        function: &Arc<Function>,
        request_id: RequestId,
        request: Request<NextRequestBody>,
        next: Arc<dyn Next>,
    ) -> Result<Response<ResponseBody>, Outcome> {
        if function.deployment().kind != Kind::Middleware {
            function.ledger.metrics.refuse(Outcome::Internal);
            let message = format!("{}: it is no middleware", Outcome::Internal);
            self.say(function, request_id, Level::Error, &message);
            return Err(Outcome::Internal);
        }
        self.admit(function, request_id)?;
        let started = Instant::now();
        let invocation = Invocation {
            request_id,
            started,
            deadline: started + function.deployment().limits().timeout,
            hops: 0,
            traceparent: traceparent(request.headers()),
            client_context: None,
        };
        let response = self
            .runtime
            .middleware(&function.runtime, request, invocation, answer::check, next)
            .await?;
        Ok(response.map(ResponseBody::Guest))
    }
}

//! `wharf:function/context` and `wharf:function/invoke`: the invocation that runs, and calls to other functions.

use std::time::Instant;

use futures::future::BoxFuture;
use wasmtime::{
    AsContext,
    component::{Access, HasSelf, Linker},
};

use super::super::{
    bindings::wharf::function::{
        context,
        invoke::{self, InvokeError},
        types::{self, FunctionError as WitFunctionError, InvocationContext},
    },
    call::FunctionError,
    instance::{Invocation, State},
};
use crate::model::Outcome;

/// Runs another function of this node for a guest. The node implements it; the runtime knows no other functions.
pub trait InProcess: Send + Sync {
    /// Invokes `name` with `event` inside what is left of the caller's time.
    fn invoke(
        &self,
        name: String,
        event: String,
        caller: &Invocation,
    ) -> BoxFuture<'_, Result<String, InProcessError>>;
}

/// Why a call between functions gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InProcessError {
    /// There is no such function.
    NotFound,
    /// The concurrency of the function, or of the node, is used up.
    Throttled,
    /// Functions have called each other too many times in one chain.
    TooManyHops,
    /// The event is larger than an invocation may carry.
    PayloadTooLarge,
    /// The function answered with an error.
    Function(FunctionError),
    /// The function was stopped.
    Stopped(Outcome),
}

pub(in super::super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    context::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    invoke::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

impl context::Host for State {
    fn get(&mut self) -> wasmtime::Result<InvocationContext> {
        let (invocation, _) = self.running()?;
        Ok(self.code.context(invocation))
    }

    fn remaining_time_ms(&mut self) -> wasmtime::Result<u64> {
        let (invocation, _) = self.running()?;
        let left = invocation
            .deadline
            .saturating_duration_since(Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<T> context::HostWithStore<T> for HasSelf<State> {
    fn remaining_fuel(access: Access<'_, T, Self>) -> wasmtime::Result<u64> {
        access.as_context().get_fuel()
    }
}

impl invoke::Host for State {
    async fn invoke(
        &mut self,
        function: String,
        event: String,
    ) -> wasmtime::Result<Result<String, InvokeError>> {
        self.calls += 1;
        let (invocation, _) = self.running()?;
        let Some(node) = self.code.in_process() else {
            return Ok(Err(InvokeError::Internal(
                "the node is shutting down".to_owned(),
            )));
        };
        let answer = node.invoke(function, event, invocation).await;
        Ok(answer.map_err(|error| match error {
            InProcessError::NotFound => InvokeError::NotFound,
            InProcessError::Throttled => InvokeError::Throttled,
            InProcessError::TooManyHops => InvokeError::TooManyHops,
            InProcessError::PayloadTooLarge => InvokeError::PayloadTooLarge,
            InProcessError::Function(error) => InvokeError::Function(WitFunctionError {
                error_type: error.error_type,
                error_message: error.message,
                trace: error.trace,
            }),
            InProcessError::Stopped(outcome) => InvokeError::Stopped(outcome.code().to_owned()),
        }))
    }
}

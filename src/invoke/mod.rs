//! The one door to run a function.
//!
//! Every invocation comes through here, from HTTP, from the API and from other functions: admit (concurrency) → run
//! (instance, limits) → report (log, metrics). So limits, logs and metering are in one place and the same for all.
//!
//! Which function a name stands for is looked up in an immutable snapshot that the node swaps; an invocation keeps the
//! function that it started with.

mod concurrency;
mod event;
mod http;
mod payload;
mod stream;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;

use concurrency::Gate;
pub use event::EventAnswer;
pub use http::{Arrival, ResponseBody, UrlArrival};
pub use stream::{AnswerStream, MAX_STREAM, StreamAnswer};

use crate::{
    model::{ByteSize, Deployment, FunctionName, InvocationRecord, Outcome, RequestId},
    runtime::{self, FunctionFailed, InProcess, Observer, Runtime},
    telemetry::{
        logs::{FunctionLog, Level, Logs},
        metrics::{EventDropped, FunctionMetrics, Metrics},
    },
};

/// The largest event of a synchronous invocation (Lambda quota: 6 MB, request and response each).
pub const MAX_EVENT: usize = 6 << 20;

/// The largest event of an asynchronous invocation (Lambda quota: 1 MB).
pub const MAX_ASYNC_EVENT: usize = 1 << 20;

/// Runs functions. One a node.
pub struct Invoke {
    runtime: Runtime,
    functions: ArcSwap<HashMap<FunctionName, Arc<Function>>>,
    node: Arc<Gate>,
    logs: Arc<Logs>,
    metrics: Arc<Metrics>,
}

/// A deployed function, ready to be invoked.
pub struct Function {
    runtime: Arc<runtime::Function>,
    ledger: Arc<Ledger>,
}

impl Function {
    /// What is deployed.
    pub fn deployment(&self) -> &Deployment {
        self.runtime.deployment()
    }

    /// Ends the warm instances. For a function that was replaced or removed; what is in flight ends by itself.
    pub fn close(&self) {
        self.runtime.close();
    }

    /// Invocations at this moment.
    pub fn in_flight(&self) -> u32 {
        self.ledger.gate.inside()
    }

    /// Counts an event that was given up.
    pub fn event_dropped(&self, reason: EventDropped) {
        self.ledger.metrics.event_dropped(reason);
    }
}

/// Where a function's invocations are counted and recorded.
struct Ledger {
    gate: Gate,
    node: Arc<Gate>,
    log: Arc<FunctionLog>,
    metrics: Arc<FunctionMetrics>,
    version: crate::model::Version,
    memory: ByteSize,
}

impl Ledger {
    /// Lets the next invocation in.
    fn leave(&self) {
        self.gate.leave();
        self.node.leave();
        self.metrics.released();
    }
}

impl Observer for Ledger {
    fn ended(&self, record: &InvocationRecord) {
        self.leave();
        self.metrics.record(record);
        self.log.report(self.version, self.memory, record.clone());
    }
}

impl Invoke {
    /// A door without functions. `concurrency` is the most invocations of the node at one moment.
    pub fn new(
        runtime: Runtime,
        concurrency: u32,
        logs: Arc<Logs>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let invoke = Arc::new(Self {
            runtime,
            functions: ArcSwap::default(),
            node: Arc::new(Gate::new(concurrency)),
            logs,
            metrics,
        });
        let in_process: Weak<dyn InProcess> = Arc::downgrade(&invoke) as Weak<dyn InProcess>;
        invoke.runtime.connect(in_process);
        invoke
    }

    /// A function of this deployment. `environment` is the configuration's, with the values of its secrets.
    ///
    /// # Errors
    ///
    /// A folder that it was granted cannot be opened.
    pub fn function(
        &self,
        deployment: Deployment,
        environment: Vec<(String, String)>,
    ) -> Result<Arc<Function>, FunctionFailed> {
        let configuration = &deployment.configuration;
        let ledger = Arc::new(Ledger {
            gate: Gate::new(configuration.concurrency.unwrap_or(u32::MAX)),
            node: self.node.clone(),
            log: self.logs.function(&deployment.name),
            metrics: self.metrics.function(&deployment.name),
            version: deployment.version,
            memory: configuration.memory,
        });
        let log = ledger.log.clone();
        let runtime = self
            .runtime
            .function(deployment, environment, log, ledger.clone())?;
        Ok(Arc::new(Function { runtime, ledger }))
    }

    /// Makes `functions` the ones that can be invoked, and the pools of those with a minimum.
    pub fn publish(&self, functions: HashMap<FunctionName, Arc<Function>>) {
        for function in functions.values() {
            if function.deployment().configuration.pool.min > 0 {
                self.runtime.warm(&function.runtime);
            }
        }
        self.functions.store(Arc::new(functions));
    }

    /// The function of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.load().get(name).cloned()
    }

    /// The functions there are.
    pub fn functions(&self) -> Arc<HashMap<FunctionName, Arc<Function>>> {
        self.functions.load_full()
    }

    /// Invocations of the node at this moment.
    pub fn in_flight(&self) -> u32 {
        self.node.inside()
    }

    fn admit(&self, function: &Function, request_id: RequestId) -> Result<(), Outcome> {
        let ledger = &function.ledger;
        match concurrency::admit(&ledger.gate, &self.node) {
            Ok(()) => {
                ledger.metrics.admitted();
                Ok(())
            }
            Err(outcome) => {
                ledger.metrics.refuse(outcome);
                let message = match outcome {
                    Outcome::Throttled => "throttled: the function's concurrency is used up",
                    _ => "overloaded: the node's concurrency is used up",
                };
                ledger
                    .log
                    .platform(request_id, ledger.version, Level::Warn, message);
                Err(outcome)
            }
        }
    }

    /// Says something about an invocation in its function's log.
    pub fn say(&self, function: &Function, request_id: RequestId, level: Level, message: &str) {
        let ledger = &function.ledger;
        ledger
            .log
            .platform(request_id, ledger.version, level, message);
    }
}

/// An invocation that was admitted and has no account yet. Dropping it lets the next one in.
struct Admitted<'a>(&'a Ledger);

impl Admitted<'_> {
    /// From here on the invocation has an account, which lets the next one in.
    fn hand_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

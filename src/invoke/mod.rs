//! The one door to run a function.
//!
//! Every invocation comes through here, from HTTP, from the API and from other functions: admit (concurrency) → run
//! (instance, limits) → report (log, metrics). So limits, logs and metering are in one place and the same for all.
//!
//! Which function a name stands for is looked up in an immutable snapshot that the node swaps; an invocation keeps the
//! function that it started with.

pub mod answer;
mod concurrency;
mod event;
mod failure;
mod hook;
mod http;
mod middleware;
mod payload;
mod refusal;
mod stream;
mod versions;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;

use concurrency::Gate;
pub use event::EventAnswer;
pub use failure::{error_document, stopped_document};
pub use http::{Arrival, ResponseBody, UrlArrival};
pub use refusal::why_not_invocable;
pub use stream::{AnswerStream, MAX_STREAM, StreamAnswer};
pub use versions::{Resolved, Versions};

use crate::{
    model::{ByteSize, Deployment, FunctionName, InvocationRecord, Outcome, Qualifier, RequestId},
    runtime::{self, FunctionFailed, InProcess, Observer, Runtime},
    telemetry::{
        logs::{FunctionLog, Level, Logs},
        metrics::{FunctionMetrics, Metrics},
    },
};

/// The largest event of a synchronous invocation (Lambda quota: 6 MB, request and response each).
pub const MAX_EVENT: usize = 6 << 20;

/// The largest event of an asynchronous invocation (Lambda quota: 1 MB).
pub const MAX_ASYNC_EVENT: usize = 1 << 20;

/// Runs functions. One a node.
pub struct Invoke {
    runtime: Runtime,
    functions: ArcSwap<HashMap<FunctionName, Arc<Versions>>>,
    node: Arc<Gate>,
    /// One a function, whatever its versions: who runs is counted while the function is replaced.
    gates: Mutex<HashMap<FunctionName, Weak<Gate>>>,
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

    /// Invocations of all its versions at this moment.
    pub fn in_flight(&self) -> u32 {
        self.ledger.gate.inside()
    }

    /// How many there may be; none means as many as the node takes.
    pub fn concurrency(&self) -> Option<u32> {
        Some(self.ledger.gate.limit()).filter(|limit| *limit != u32::MAX)
    }

    /// Instances that wait for a request.
    pub fn idle(&self) -> usize {
        self.runtime.idle()
    }

    /// The numbers of the function, whatever its version.
    pub fn metrics(&self) -> &FunctionMetrics {
        &self.ledger.metrics
    }
}

/// Where a function's invocations are counted and recorded.
struct Ledger {
    gate: Arc<Gate>,
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
            gates: Mutex::default(),
            logs,
            metrics,
        });
        let in_process: Weak<dyn InProcess> = Arc::downgrade(&invoke) as Weak<dyn InProcess>;
        invoke.runtime.connect(in_process);
        invoke
    }

    /// A function of this deployment. `environment` is the configuration's, with the values of its secrets; `concurrency`
    /// is how many invocations of all its versions there may be at one moment.
    ///
    /// # Errors
    ///
    /// A folder that it was granted cannot be opened.
    pub fn function(
        &self,
        deployment: Deployment,
        environment: Vec<(String, String)>,
        concurrency: Option<u32>,
    ) -> Result<Arc<Function>, FunctionFailed> {
        let ledger = Arc::new(Ledger {
            gate: self.gate(&deployment.name, concurrency),
            node: self.node.clone(),
            log: self
                .logs
                .function_with(&deployment.name, &deployment.logging()),
            metrics: self.metrics.function(&deployment.name),
            version: deployment.version,
            memory: deployment.limits().memory,
        });
        let log = ledger.log.clone();
        let runtime = self
            .runtime
            .function(deployment, environment, log, ledger.clone())?;
        Ok(Arc::new(Function { runtime, ledger }))
    }

    fn gate(&self, name: &FunctionName, concurrency: Option<u32>) -> Arc<Gate> {
        let limit = concurrency.unwrap_or(u32::MAX);
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let present = gates.get(name).and_then(Weak::upgrade);
        let gate = present.unwrap_or_else(|| {
            // Now and then, so that many functions are not gone through once for each.
            if gates.len() == gates.capacity() {
                gates.retain(|_, gate| gate.strong_count() > 0);
            }
            let gate = Arc::new(Gate::new(limit));
            gates.insert(name.clone(), Arc::downgrade(&gate));
            gate
        });
        gate.set_limit(limit);
        gate
    }

    /// Changes how many invocations of a function there may be at one moment.
    pub fn limit(&self, name: &FunctionName, concurrency: Option<u32>) {
        self.gate(name, concurrency);
    }

    /// Makes `functions` the ones that can be invoked, and the pools of those with a minimum.
    pub fn publish(&self, functions: HashMap<FunctionName, Arc<Versions>>) {
        for function in functions.values().flat_map(|versions| versions.all()) {
            if function.deployment().configuration.pool.min > 0 {
                self.runtime.warm(&function.runtime);
            }
        }
        self.functions.store(Arc::new(functions));
    }

    /// `$LATEST` of the function of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.load().get(name)?.latest().cloned()
    }

    /// A function, all its versions.
    pub fn versions(&self, name: &str) -> Option<Arc<Versions>> {
        self.functions.load().get(name).cloned()
    }

    /// Counts an event for a function that was taken over.
    pub fn received(&self, name: &FunctionName) {
        let versions = self.versions(name.as_str());
        if let Some(function) = versions.as_ref().and_then(|it| it.all().next()) {
            function.metrics().events_received.increment();
        }
    }

    /// How the ARNs of this node begin: `arn:aws:lambda:us-east-1:000000000000`.
    pub fn arn_prefix(&self) -> &str {
        self.runtime.arn_prefix()
    }

    /// What a qualifier stands for now: of an alias with two versions, one by its share. Without one, `$LATEST`.
    pub fn resolve(&self, name: &str, qualifier: Option<&Qualifier>) -> Option<Resolved> {
        self.functions.load().get(name)?.resolve(qualifier)
    }

    /// The functions there are.
    pub fn functions(&self) -> Arc<HashMap<FunctionName, Arc<Versions>>> {
        self.functions.load_full()
    }

    /// How many invocations of the node there may be at one moment.
    pub fn concurrency(&self) -> u32 {
        self.node.limit()
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

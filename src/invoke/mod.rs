//! The one door to run a function.
//!
//! Every invocation comes through here, from HTTP, from the API and from other functions: admit (concurrency) → run
//! (instance, limits) → report (log, metrics). So limits, logs and metering are in one place and the same for all.
//!
//! Which function a name stands for is looked up in an immutable snapshot that the node swaps; an invocation keeps the
//! function that it started with.

mod concurrency;
mod payload;
mod versions;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, Request, Response, response::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};

use concurrency::Gate;
pub use versions::{Resolved, Versions};

use crate::{
    model::{
        ByteSize, Deployment, FunctionName, InvocationRecord, Kind, Outcome, Qualifier, RequestId,
    },
    runtime::{
        self, FunctionError, FunctionFailed, GuestBody, InProcess, InProcessError, IncompleteBody,
        Invocation, Observer, Runtime,
    },
    telemetry::{
        logs::{FunctionLog, Level, Logs},
        metrics::{EventDropped, FunctionMetrics, Metrics},
    },
};

/// The largest event of a synchronous invocation (Lambda quota: 6 MB, request and response each).
pub const MAX_EVENT: usize = 6 << 20;

/// The largest event of an asynchronous invocation (Lambda quota: 1 MB).
pub const MAX_ASYNC_EVENT: usize = 1 << 20;

/// How many functions may wait for one another in a chain (Lambda's recursion detection stops at about 16).
const MAX_HOPS: u8 = 16;

/// Asks for the receipt of an invocation, and carries it.
const RECEIPT: HeaderName = HeaderName::from_static("x-wharf-receipt");

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

    /// Counts an event that was given up.
    pub fn event_dropped(&self, reason: EventDropped) {
        self.ledger.metrics.event_dropped(reason);
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

/// What the door knows of an HTTP request beside the request.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// The id of the request, and so of its invocation.
    pub request_id: RequestId,
    /// When it came.
    pub started: Instant,
    /// Who sent it: an IP address.
    pub source_ip: std::net::IpAddr,
    /// What the route took from the path.
    pub path_parameters: &'a [(String, String)],
}

/// The answer of an invocation with an event.
#[derive(Debug)]
pub struct EventAnswer {
    /// The id of the invocation.
    pub request_id: RequestId,
    /// JSON, the function's own error, or how it was stopped.
    pub result: Result<Result<String, FunctionError>, Outcome>,
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
            log: self.logs.function(&deployment.name),
            metrics: self.metrics.function(&deployment.name),
            version: deployment.version,
            memory: deployment.configuration.memory,
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

    /// Has a function answer an HTTP request, whatever its kind: one that takes events gets the request as one. `check` makes
    /// the head of the answer safe to send, or says why it is none; the invocation is then recorded as `bad_response`.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn http<B, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        arrival: Arrival<'_>,
        check: impl FnOnce(&mut Parts) -> Result<(), E>,
    ) -> Result<Response<ResponseBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
        E: Display,
    {
        self.admit(function, arrival.request_id)?;
        let configuration = &function.deployment().configuration;
        let invocation = Invocation {
            request_id: arrival.request_id,
            started: arrival.started,
            deadline: arrival.started + configuration.timeout,
            hops: 0,
            traceparent: traceparent(request.headers()),
            client_context: None,
        };
        let wants_receipt = configuration.receipt && request.headers().contains_key(&RECEIPT);
        let mut response = match function.deployment().kind {
            Kind::HttpP2 | Kind::HttpP3 => self
                .runtime
                .http(&function.runtime, request, invocation, check, wants_receipt)
                .await?
                .map(ResponseBody::Guest),
            Kind::Event | Kind::CommandP2 | Kind::CommandP3 | Kind::Hook => self
                .http_as_event(function, request, invocation, &arrival, check)
                .await?
                .map(|body| ResponseBody::Complete(Some(body))),
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

    async fn http_as_event<B, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        arrival: &Arrival<'_>,
        check: impl FnOnce(&mut Parts) -> Result<(), E>,
    ) -> Result<Response<Bytes>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
        E: Display,
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
        let source_ip = arrival.source_ip.to_string();
        let event = payload::event(
            &head,
            &body,
            &payload::Origin {
                request_id: arrival.request_id,
                function: function.deployment().name.as_str(),
                source_ip: &source_ip,
                time_ms: jiff::Timestamp::now().as_millisecond(),
                path_parameters: arrival.path_parameters,
            },
        );
        let read = |answer| {
            let response = payload::response(answer).map_err(|error| error.to_string())?;
            let (mut head, body) = response.into_parts();
            check(&mut head).map_err(|error| error.to_string())?;
            Ok::<_, String>(Response::from_parts(head, body))
        };
        let answer = self
            .runtime
            .event(&function.runtime, event, invocation, read)
            .await?;
        answer.map_err(|_| Outcome::FunctionError)
    }

    /// Says something about an invocation in its function's log.
    pub fn say(&self, function: &Function, request_id: RequestId, level: Level, message: &str) {
        let ledger = &function.ledger;
        ledger
            .log
            .platform(request_id, ledger.version, level, message);
    }

    /// Invokes a function with an event and waits for its answer (Lambda API, Invoke, `RequestResponse`). A function that
    /// speaks HTTP takes no events yet. Who repeats an invocation gives its id again.
    pub async fn event(
        &self,
        function: &Arc<Function>,
        request_id: RequestId,
        event: String,
        client_context: Option<Box<str>>,
    ) -> EventAnswer {
        let started = Instant::now();
        let invocation = Invocation {
            request_id,
            started,
            deadline: started + function.deployment().configuration.timeout,
            hops: 0,
            traceparent: None,
            client_context,
        };
        let result = self.admitted_event(function, event, invocation).await;
        EventAnswer { request_id, result }
    }

    async fn admitted_event(
        &self,
        function: &Arc<Function>,
        event: String,
        invocation: Invocation,
    ) -> Result<Result<String, FunctionError>, Outcome> {
        self.admit(function, invocation.request_id)?;
        self.runtime
            .event(&function.runtime, event, invocation, Ok::<_, Infallible>)
            .await
    }
}

/// Calls between functions of this node.
impl InProcess for Invoke {
    fn invoke(
        &self,
        name: String,
        event: String,
        caller: &Invocation,
    ) -> BoxFuture<'_, Result<String, InProcessError>> {
        let request_id = RequestId::generate();
        let (hops, caller_deadline) = (caller.hops.saturating_add(1), caller.deadline);
        let traceparent = caller.traceparent.clone();
        Box::pin(async move {
            if hops > MAX_HOPS {
                return Err(InProcessError::TooManyHops);
            }
            if event.len() > MAX_EVENT {
                return Err(InProcessError::PayloadTooLarge);
            }
            let (name, qualifier) = match name.split_once(':') {
                Some((name, qualifier)) => (name, Some(qualifier)),
                None => (name.as_str(), None),
            };
            let qualifier = qualifier.map(str::parse).transpose();
            let qualifier: Option<Qualifier> = qualifier.map_err(|_| InProcessError::NotFound)?;
            let function = self
                .resolve(name, qualifier.as_ref())
                .ok_or(InProcessError::NotFound)?
                .function;
            let started = Instant::now();
            let invocation = Invocation {
                request_id,
                started,
                deadline: caller_deadline
                    .min(started + function.deployment().configuration.timeout),
                hops,
                traceparent,
                client_context: None,
            };
            match self.admitted_event(&function, event, invocation).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(InProcessError::Function(error)),
                Err(Outcome::Throttled | Outcome::Overloaded) => Err(InProcessError::Throttled),
                Err(outcome) => Err(InProcessError::Stopped(outcome)),
            }
        })
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

/// The caller's W3C trace context, if it sent one.
fn traceparent(headers: &http::HeaderMap) -> Option<Box<str>> {
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

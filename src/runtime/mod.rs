//! All of wasmtime: nothing outside this module names it.
//!
//! Code goes `link` (component and layers → component) → `compile` (component → artifact), both in a child process → `component` (artifact → prepared component, cached) →
//! `pool` (prepared component → warm instance) → `call` (instance + request → answer, under `limits`). An `account` is
//! opened for each invocation and is closed when nothing of it is left.

mod account;
mod bindings;
mod body;
mod call;
mod child;
mod compile;
mod component;
mod engine;
mod function;
pub mod hook;
mod imports;
mod inspect;
mod instance;
mod limits;
mod link;
mod pool;

use std::{
    collections::HashSet,
    fmt::Display,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Relaxed, Release, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use account::Observer;
pub use body::{GuestBody, IncompleteBody};
pub use call::FunctionError;
pub use child::CompileLimits;
pub use compile::{CompileError, compile_child};
pub use component::PrepareError;
pub use engine::EngineSettings;
pub use function::{Function, FunctionFailed};
pub use imports::function::{InProcess, InProcessError};
pub use imports::handler::{Next, NextAnswer, NextRequestBody, NextResponseBody};
pub use inspect::{Inspection, inspect};
pub use instance::Invocation;
pub use link::{LinkError, link_child};

use account::{Account, Running};
use component::{Components, Prepared};
use engine::PerEngine;
use function::Services;
use imports::{
    filesystem::TmpFolders,
    handler::Guarded,
    outbound::{OutboundClient, OutboundTimeouts},
};
use instance::Instance;
use limits::Bounded;
use pool::Lease;

use crate::{
    boxed,
    model::{
        Deployment, Digest, Kind, Limits, Outcome, Vpc,
        hook::{Point, RequestAction, ResponseAction, ResponseHead, Seen},
    },
    store::{Blobs, KeyValue},
    telemetry::{logs::FunctionLog, metrics::NodeMetrics},
};

/// How long a component that could not be compiled again is left alone.
const MEND_AGAIN: Duration = Duration::from_secs(10);

/// How a node runs components.
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// The engine's pools.
    pub engine: EngineSettings,
    /// Bytes of compiled code in memory.
    pub components: u64,
    /// How long an invocation waits for a slot before it is shed.
    pub slot_wait: Duration,
    /// The folder of the artifacts.
    pub artifacts: PathBuf,
    /// The program that compiles: this one.
    pub compiler: PathBuf,
    /// What compiling may use.
    pub compile: CompileLimits,
    /// The folder of the instances' `/tmp`.
    pub tmp: PathBuf,
    /// The beginning of ARNs: `arn:aws:lambda:REGION:ACCOUNT`.
    pub arn_prefix: String,
    /// What is beside the node and not public.
    pub vpc: Vpc,
}

/// Runs components. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    components: Components,
    blobs: Arc<Blobs>,
    linker: link::Linker,
    /// Code that is being compiled again, or could not be a moment ago.
    mended: Mutex<HashSet<Digest>>,
    services: Arc<Services>,
    slots: Arc<Semaphore>,
    total_slots: usize,
    slot_wait: Duration,
    /// Functions whose pools are not empty or may have to grow.
    ticked: Mutex<Vec<Weak<Function>>>,
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine's settings do not fit this machine.
    #[error("start the engine: {0}")]
    Engine(String),
    /// The folder of the instances' `/tmp` is not usable.
    #[error("open {}", .0.display())]
    Tmp(PathBuf, #[source] std::io::Error),
    /// TLS cannot be set up for outbound requests.
    #[error("set up TLS for outbound requests: {0}")]
    Outbound(String),
    /// The folder of the artifacts is not usable.
    #[error(transparent)]
    Artifacts(#[from] CompileError),
}

impl Runtime {
    /// Starts an engine and opens the artifacts of the components in `blobs`. Must be called in a tokio runtime: pools are looked after there.
    ///
    /// # Errors
    ///
    /// The machine cannot reserve the address space, or the folder of the artifacts cannot be written.
    pub fn start(
        settings: RuntimeSettings,
        key_value: Arc<dyn KeyValue>,
        metrics: Arc<NodeMetrics>,
        blobs: Arc<Blobs>,
    ) -> Result<Self, StartError> {
        let failed = |error: wasmtime::Error| StartError::Engine(compile::describe(&error));
        let engines = PerEngine::new(|concurrency| engine::pooling(settings.engine, concurrency))
            .map_err(failed)?;
        let linkers =
            PerEngine::new(|concurrency| instance::linker(engines.get(concurrency), concurrency))
                .map_err(failed)?;
        let program = child::Program {
            path: settings.compiler,
            limits: settings.compile,
        };
        let artifacts = compile::Artifacts::open(&settings.artifacts, &engines, program.clone())?;
        let inner = Arc::new(Inner {
            components: Components::new(
                engines,
                linkers,
                artifacts,
                settings.components,
                metrics.clone(),
            ),
            blobs,
            linker: link::Linker::new(program),
            mended: Mutex::default(),
            services: Arc::new(Services {
                in_process: std::sync::OnceLock::new(),
                waiting: AtomicUsize::new(0),
                key_value,
                metrics,
                folders: TmpFolders::open(&settings.tmp)
                    .map_err(|error| StartError::Tmp(settings.tmp.clone(), error))?,
                outbound: OutboundClient::new(OutboundTimeouts::default(), &[])
                    .map_err(|error| StartError::Outbound(error.to_string()))?,
                arn_prefix: settings.arn_prefix,
                vpc: settings.vpc,
            }),
            slots: Arc::new(Semaphore::new(settings.engine.slots as usize)),
            total_slots: settings.engine.slots as usize,
            slot_wait: settings.slot_wait,
            ticked: Mutex::default(),
        });
        tokio::spawn(tick(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Lets functions call each other through `in_process`. Before it is set they cannot.
    pub fn connect(&self, in_process: Weak<dyn InProcess>) {
        // Set once, when the node is put together.
        let _ = self.0.services.in_process.set(in_process);
    }

    /// How the ARNs of this node begin.
    pub fn arn_prefix(&self) -> &str {
        &self.0.services.arn_prefix
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
        log: Arc<FunctionLog>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Function>, FunctionFailed> {
        Function::new(
            deployment,
            environment,
            log,
            observer,
            self.0.services.clone(),
        )
    }

    /// Makes a component ready to run: compiles it if it never was, and checks that this node has what it imports.
    /// Says how it is called.
    ///
    /// # Errors
    ///
    /// The bytes are no component, compiling met a limit, or an import is missing: the message is for who deploys.
    pub async fn compile(&self, wasm: &Path, code: &Digest) -> Result<Kind, Arc<PrepareError>> {
        self.0.components.compile(wasm, code).await
    }

    /// Links the imports of the component in the file `function` with what the components in `layers` export, into a new
    /// component in the file `output`: see [`link`](self::link_child). Says whether anything was linked; if not, nothing is
    /// written.
    ///
    /// # Errors
    ///
    /// One of them is no component, an export does not fit the import of its name, or linking met a limit.
    pub async fn link(
        &self,
        function: &Path,
        layers: &[(String, PathBuf)],
        output: &Path,
    ) -> Result<bool, LinkError> {
        self.0.linker.link(function, layers, output).await
    }

    /// Whether a component was compiled before.
    pub fn is_compiled(&self, code: &Digest) -> bool {
        self.0.components.is_compiled(code)
    }

    /// Compiles deployed components whose artifacts are not there: after an update of the node none of them is. Returns at
    /// once; until it is done, invocations of these functions fail.
    pub fn compile_missing(&self, deployed: impl IntoIterator<Item = Digest>) {
        for code in deployed {
            if !self.0.components.is_compiled(&code) {
                self.mend(code);
            }
        }
    }

    /// Compiles a deployed component again, in the background. One that cannot be is left alone for a while.
    fn mend(&self, code: Digest) {
        if !self.0.mended().insert(code) {
            return;
        }
        let runtime = self.clone();
        tokio::spawn(async move {
            match runtime.compile_deployed(&code).await {
                Ok(()) => tracing::info!(%code, "a deployed component was compiled again"),
                Err(error) => {
                    tracing::error!(%code, error = %format!("{error:#}"), "cannot compile a deployed component");
                    tokio::time::sleep(MEND_AGAIN).await;
                }
            }
            runtime.0.mended().remove(&code);
        });
    }

    async fn compile_deployed(&self, code: &Digest) -> anyhow::Result<()> {
        // Reading proves that it is what was deployed.
        let read = self.0.blobs.read(code).await?;
        anyhow::ensure!(read.is_some(), "it is not here any more");
        drop(read);
        self.compile(&self.0.blobs.path(code), code).await?;
        Ok(())
    }

    /// Deletes the artifacts of code that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&Digest) -> bool) {
        self.0.components.retain(keep);
    }

    /// Prepared components in memory, and their bytes of compiled code.
    pub fn prepared(&self) -> (u64, u64) {
        self.0.components.size()
    }

    /// Makes the function's minimum of instances ahead, and looks after its pool from now on.
    pub fn warm(&self, function: &Arc<Function>) {
        self.look_after(function);
        self.refill(function);
    }

    /// Has a function answer an HTTP request. `check` makes the head of the answer safe to send, or says why it is none: as
    /// long as the invocation can still be recorded as one that failed.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn http<B, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        check: impl FnOnce(&mut Parts) -> Result<(), E>,
        receipt: bool,
    ) -> Result<Response<GuestBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
        E: Display,
    {
        let account = open(function, &invocation);
        let running = Running::new(&account);
        let answer = self
            .respond(function, request, invocation, account, check, receipt)
            .await;
        running.done();
        answer
    }

    /// Has a middleware answer an HTTP request, with `next` behind it. `check` is as for [`http`](Self::http). A body that is made
    /// of one that broke off, either way, breaks off too.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn middleware<B, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        check: impl FnOnce(&mut Parts) -> Result<(), E>,
        next: Arc<dyn Next>,
    ) -> Result<Response<GuestBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
        E: Display,
    {
        let (cpu, deadline) = (function.limits().cpu, invocation.deadline);
        let account = open(function, &invocation);
        let running = Running::new(&account);
        let answer = match self.lease(function, invocation, &account, None).await {
            Ok(mut lease) => {
                let over = Arc::default();
                let request = request.map(|inner| Guarded {
                    inner,
                    over: Arc::clone(&over),
                });
                lease.instance().put_before(next, over);
                let bounds = |call| Bounded::new(call, cpu, deadline);
                call::http(lease, request, account, check, false, bounds).await
            }
            Err(outcome) => Err(outcome),
        };
        running.done();
        answer
    }

    /// Has a function answer an HTTP request, and waits for all of the answer. `read` makes of it what the caller wants, or says
    /// how and why it is none: as long as the invocation can still be recorded as one that failed.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn http_whole<B, T, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        read: impl FnOnce(Parts, Bytes) -> Result<T, (Outcome, E)>,
    ) -> Result<T, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
        E: Display,
    {
        let limit = function.deployment().configuration.response.as_usize();
        let has_body = request.method() != http::Method::HEAD;
        let account = open(function, &invocation);
        let running = Running::new(&account);
        let anything = |_: &mut Parts| Ok::<_, std::convert::Infallible>(());
        let answer = self
            .respond(
                function,
                request,
                invocation,
                account.clone(),
                anything,
                false,
            )
            .await;
        let answer = match answer {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = match has_body {
                    true => body.whole(limit, &account).await,
                    false => Ok(Bytes::new()),
                };
                body.and_then(|body| {
                    read(head, body).map_err(|(outcome, why)| account.refuse_as(outcome, &why))
                })
            }
            Err(outcome) => Err(outcome),
        };
        running.done();
        answer
    }

    /// An HTTP call on an instance.
    async fn respond<B, E>(
        &self,
        function: &Arc<Function>,
        request: Request<B>,
        invocation: Invocation,
        account: Arc<Account>,
        check: impl FnOnce(&mut Parts) -> Result<(), E>,
        receipt: bool,
    ) -> Result<Response<GuestBody>, Outcome>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display,
        E: Display,
    {
        let (cpu, deadline) = (function.limits().cpu, invocation.deadline);
        let lease = self.lease(function, invocation, &account, None).await?;
        let bounds = |call| Bounded::new(call, cpu, deadline);
        call::http(lease, request, account, check, receipt, bounds).await
    }

    /// Records an invocation that ends before there is an instance: its event is none that the function can be given.
    pub fn refuse(
        &self,
        function: &Function,
        invocation: &Invocation,
        event_bytes: usize,
        why: &FunctionError,
    ) {
        let account = open(function, invocation);
        account.count_in(event_bytes);
        let why = format!("{}: {}", why.error_type, why.message);
        account.refuse_as(Outcome::FunctionError, &why);
    }

    /// Has a function handle an event. `read` makes of its answer, JSON, what the caller wants, or says why it is none: as
    /// long as the invocation can still be recorded as one that failed.
    ///
    /// # Errors
    ///
    /// The outer error is how the function was stopped, the inner one its own answer.
    pub async fn event<T, E: Display>(
        &self,
        function: &Arc<Function>,
        event: String,
        invocation: Invocation,
        read: impl FnOnce(String) -> Result<T, E>,
    ) -> Result<Result<T, FunctionError>, Outcome> {
        let (cpu, deadline) = (function.limits().cpu, invocation.deadline);
        let context = function.code.context(&invocation);
        let kind = function.deployment().kind;
        let input =
            matches!(kind, Kind::CommandP2 | Kind::CommandP3).then(|| Bytes::from(event.clone()));
        let account = open(function, &invocation);
        account.count_in(event.len());
        let running = Running::new(&account);
        let lease = self.lease(function, invocation, &account, input).await;
        let answer = match lease {
            Ok(lease) => {
                let bounds = |call| Bounded::new(call, cpu, deadline);
                let limit = function.deployment().configuration.response.as_usize();
                call::event(lease, event, context, limit, account, read, bounds).await
            }
            Err(outcome) => Err(outcome),
        };
        running.done();
        answer
    }

    /// Has a hook see a request on its way.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn hook_request(
        &self,
        function: &Arc<Function>,
        point: Point,
        seen: Seen<'_>,
        invocation: Invocation,
    ) -> Result<RequestAction, Outcome> {
        let account = open(function, &invocation);
        let running = Running::new(&account);
        let action = match self.lease(function, invocation, &account, None).await {
            Ok(lease) => {
                let bounds = hook_bounds(function);
                hook::on_request(lease, point, seen, account, bounds).await
            }
            Err(outcome) => Err(outcome),
        };
        running.done();
        action
    }

    /// Has a hook see a response on its way, and the request that it answers.
    ///
    /// # Errors
    ///
    /// The outcome says what happened; the function's log has the cause.
    pub async fn hook_response(
        &self,
        function: &Arc<Function>,
        point: Point,
        seen: Seen<'_>,
        response: ResponseHead<'_>,
        invocation: Invocation,
    ) -> Result<ResponseAction, Outcome> {
        let account = open(function, &invocation);
        let running = Running::new(&account);
        let action = match self.lease(function, invocation, &account, None).await {
            Ok(lease) => {
                let bounds = hook_bounds(function);
                hook::on_response(lease, point, seen, response, account, bounds).await
            }
            Err(outcome) => Err(outcome),
        };
        running.done();
        action
    }

    /// A warm instance, or a new one.
    async fn lease(
        &self,
        function: &Arc<Function>,
        invocation: Invocation,
        account: &Arc<Account>,
        input: Option<Bytes>,
    ) -> Result<Lease, Outcome> {
        let mut instance = match function.pool.take() {
            Some(instance) => instance,
            None => {
                let started = Instant::now();
                // In a box: most requests find an instance, and need no room for this.
                let deadline = invocation.deadline;
                let instance = boxed::pin(|| self.cold_start(function, deadline)).await;
                account.cold_start(started.elapsed());
                instance.inspect_err(|outcome| account.fail(*outcome))?
            }
        };
        self.look_after(function);
        self.refill(function);
        instance.begin(invocation, account.clone(), input);
        Ok(Lease::new(instance, function.clone()))
    }

    async fn cold_start(
        &self,
        function: &Arc<Function>,
        deadline: Instant,
    ) -> Result<Instance, Outcome> {
        let slot = self.slot(deadline).await?;
        self.start_instance(function, slot, deadline).await
    }

    /// A slot: a free one, that of an instance which waits for a request, or, waited for a bounded time and not beyond
    /// `deadline`, the next.
    async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Outcome> {
        let slots = &self.0.slots;
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        // From here on no instance goes back to a pool.
        let _waiting = Waiting::new(&self.0.services.waiting);
        drop(self.evict());
        let until = deadline.min(Instant::now() + self.0.slot_wait);
        match tokio::time::timeout_at(until.into(), slots.clone().acquire_owned()).await {
            Ok(slot) => Ok(slot.expect("the semaphore is never closed")),
            Err(_) => Err(Outcome::Overloaded),
        }
    }

    /// Takes an instance that waits for a request out of its pool, whichever that is.
    fn evict(&self) -> Option<Instance> {
        let ticked = self.0.ticked();
        ticked
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|function| function.pool.evict())
    }

    /// An instance, started within the function's processor time and until `deadline`: start-up code is the guest's.
    async fn start_instance(
        &self,
        function: &Arc<Function>,
        slot: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Instance, Outcome> {
        // The node's own work: a guest's time is not spent on it.
        let prepared = match function.prepared() {
            Some(prepared) => prepared,
            None => self.prepare(function).await?,
        };
        let cpu = function.limits().cpu;
        let start = boxed::pin(|| instantiate(&prepared, function, slot));
        let instance = Bounded::new(start, cpu, deadline).await??;
        function.pool.started();
        Ok(instance)
    }

    /// The function's prepared component, out of the node's cache. Its being used is noted there.
    async fn prepare(&self, function: &Arc<Function>) -> Result<Arc<Prepared>, Outcome> {
        let deployment = function.deployment();
        match self.0.components.get(&deployment.code).await {
            Ok(prepared) => {
                function.remember(&prepared);
                Ok(prepared)
            }
            Err(error) => {
                tracing::error!(function = %deployment.name, code = %deployment.code, %error, "cannot load a deployed component");
                if error.wants_compiling() {
                    self.mend(deployment.code);
                }
                Err(Outcome::Internal)
            }
        }
    }

    /// Makes instances until the pool has what it wants, unless somebody already does.
    ///
    /// tokio runs a task that was spawned last next, on the same thread: while the client reads its answer.
    fn refill(&self, function: &Arc<Function>) {
        let pool = &function.pool;
        if !pool.wants_more() || !self.has_spare_slots() || pool.refilling.swap(true, AcqRel) {
            return;
        }
        let (runtime, function) = (self.clone(), function.clone());
        tokio::spawn(async move {
            while function.pool.wants_more() && runtime.has_spare_slots() {
                let Ok(slot) = runtime.0.slots.clone().try_acquire_owned() else {
                    break;
                };
                let deadline = Instant::now() + function.limits().timeout;
                let Ok(instance) = runtime.start_instance(&function, slot, deadline).await else {
                    function.pool.start_failed();
                    break;
                };
                if function
                    .pool
                    .put(instance, &runtime.0.services.waiting)
                    .is_some()
                {
                    break;
                }
            }
            function.pool.refilling.store(false, Release);
        });
    }

    /// Whether there are slots for what waits. They are for requests first: what waits takes at most half of them.
    fn has_spare_slots(&self) -> bool {
        let free = self.free_slots();
        free > 0 && free >= self.0.total_slots / 2
    }

    /// Has the ticker size the function's pool.
    fn look_after(&self, function: &Arc<Function>) {
        let known = &function.pool.ticked;
        if !known.load(Relaxed) && !known.swap(true, AcqRel) {
            self.0.ticked().push(Arc::downgrade(function));
        }
    }

    /// Instances that wait, of all functions together.
    pub fn idle(&self) -> usize {
        let ticked = self.0.ticked();
        ticked
            .iter()
            .filter_map(Weak::upgrade)
            .map(|function| function.pool.idle())
            .sum()
    }

    /// Instances that may exist at one moment.
    pub fn slots(&self) -> usize {
        self.0.total_slots
    }

    /// Slots that are free.
    pub fn free_slots(&self) -> usize {
        self.0.slots.available_permits()
    }
}

/// An invocation that waits for a slot.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Inner {
    fn mended(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.mended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticked(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Function>>> {
        self.ticked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes the pools, until the runtime is dropped.
async fn tick(runtime: Weak<Inner>) {
    let mut interval = tokio::time::interval(pool::TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(inner) = runtime.upgrade() else {
            return;
        };
        // The list stays as it is meanwhile: who needs a slot looks for instances there.
        let functions: Vec<_> = inner.ticked().iter().filter_map(Weak::upgrade).collect();
        let mut quiet = Vec::new();
        for function in functions {
            let runtime = Runtime(inner.clone());
            // A busy function remembers its component and does not ask the cache, which should not take it for one that
            // nobody uses.
            if function.prepared().is_some() {
                let code = &function.deployment().code;
                runtime.0.components.touch(code).await;
            }
            if function.pool.tick() {
                runtime.refill(&function);
            } else {
                quiet.push(function);
            }
        }
        inner.ticked().retain(|weak| {
            let Some(function) = weak.upgrade() else {
                return false;
            };
            let stays = !quiet.iter().any(|quiet| Arc::ptr_eq(quiet, &function));
            if !stays {
                function.pool.ticked.store(false, Release);
            }
            stays
        });
    }
}

async fn instantiate(
    prepared: &Prepared,
    function: &Function,
    slot: OwnedSemaphorePermit,
) -> Result<Instance, Outcome> {
    match Instance::new(prepared, &function.code, slot).await {
        Ok(instance) => Ok(instance),
        Err((outcome, error)) => {
            let name = &function.deployment().name;
            tracing::info!(function = %name, %outcome, error = %compile::describe(&error), "an instance did not start");
            Err(outcome)
        }
    }
}

/// A hook's time begins when it has its instance. It is so short that a component which is mapped from disk on the way, or an
/// instance that starts, would leave nothing of it.
fn hook_bounds(function: &Function) -> hook::Bounds {
    let Limits { cpu, timeout, .. } = function.limits();
    hook::Bounds {
        cpu,
        deadline: Instant::now() + timeout,
    }
}

fn open(function: &Function, invocation: &Invocation) -> Arc<Account> {
    Account::open(
        invocation.request_id,
        function.code.clone(),
        function.observer.clone(),
        invocation.started,
    )
}

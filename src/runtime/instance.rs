//! One execution environment: a `wasmtime::Store`, its instance, and everything the host holds for it.
//!
//! An instance belongs to one version of one function for life. Between invocations it holds nothing of the last one but
//! what the guest itself kept in its memory and in `/tmp`.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{
    Engine, Store,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView, p2::bindings::Command as CommandP2,
    p3::bindings::Command as CommandP3,
};
use wasmtime_wasi_http::{
    WasiHttpCtx, WasiHttpCtxView, WasiHttpView, p2::bindings::Proxy as HttpP2,
    p3::bindings::Service as HttpP3,
};

use super::{
    account::Account,
    bindings::EventFunction,
    compile::describe,
    component::{Prepared, Target},
    engine::Concurrency,
    function::Code,
    hook::Hooks,
    imports::{
        self,
        config::ConfigView,
        filesystem::{Filesystem, FilesystemHost, FilesystemView},
        handler::{Chain, Next},
        key_value::KeyValueView,
        logging::{Level as WitLevel, LogSink, LoggingView},
        outbound::Outbound,
        stdio::{AnswerTooLarge, Stdio},
    },
    limits::{
        FIELD_BYTES, HOOK_BYTES, HOST_RESOURCES, HOSTCALL_BYTES, MemoryLimiter, YIELD_INTERVAL,
        classify,
    },
};
use crate::{
    model::{Isolation, Outcome},
    telemetry::logs::Level,
};

/// How long an instance that was made ahead may wait for its one request.
const FRESH_MAY_WAIT: Duration = Duration::from_secs(300);

/// What is known of an invocation before it starts.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its id, in the log lines and in the response.
    pub request_id: crate::model::RequestId,
    /// When it began: at the door, not when an instance was found.
    pub started: Instant,
    /// When it will be stopped.
    pub deadline: Instant,
    /// How many functions are already waiting for it, each for the next.
    pub hops: u8,
    /// The caller's W3C trace context.
    pub traceparent: Option<Box<str>>,
    /// The caller's client context, a JSON document.
    pub client_context: Option<Box<str>>,
}

/// What an instance's host interfaces work on.
pub(crate) struct State {
    pub(super) code: Arc<Code>,
    pub(super) invocation: Option<(Invocation, Arc<Account>)>,
    pub(super) memory: MemoryLimiter,
    /// Calls of the current invocation to key-value stores and other functions.
    pub(super) calls: u64,
    // Before the table, both: what is left of their requests must not look complete when their bodies are dropped.
    outbound: Outbound,
    chain: Chain,
    table: ResourceTable,
    filesystem: Filesystem,
    /// Made when it is first asked for: a function that does nothing but HTTP needs none.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    pub(super) stdio: Stdio,
}

impl State {
    /// The invocation that runs.
    pub(super) fn running(&self) -> wasmtime::Result<(&Invocation, &Arc<Account>)> {
        match &self.invocation {
            Some((invocation, account)) => Ok((invocation, account)),
            None => wasmtime::bail!("there is no invocation while an instance starts"),
        }
    }
}

/// Everything a guest may import: of WASI 0.3 only where the engine has concurrency.
pub(super) fn linker(engine: &Engine, concurrency: Concurrency) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    imports::wasi::add_p2_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if concurrency == Concurrency::With {
        imports::wasi::add_p3_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        imports::handler::add_to_linker(&mut linker, State::chain)?;
    }
    imports::function::add_to_linker(&mut linker)?;
    imports::key_value::add_to_linker(&mut linker, |state| KeyValueView {
        store: &state.code.services.key_value,
        grants: &state.code.deployment.configuration.key_value,
        table: &mut state.table,
        calls: &mut state.calls,
    })?;
    imports::config::add_to_linker(&mut linker, |state| ConfigView {
        values: &state.code.deployment.configuration.config,
    })?;
    imports::logging::add_to_linker(&mut linker, |state| LoggingView { sink: state })?;
    Ok(linker)
}

impl State {
    /// What `wasi:http/handler` works on: HTTP that goes on where the middleware stands.
    fn chain(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.chain,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl LogSink for State {
    fn log(&mut self, level: WitLevel, context: &str, message: &str) {
        let level = match level {
            WitLevel::Trace => Level::Trace,
            WitLevel::Debug => Level::Debug,
            WitLevel::Info => Level::Info,
            WitLevel::Warn => Level::Warn,
            WitLevel::Error => Level::Error,
            WitLevel::Critical => Level::Critical,
        };
        self.stdio.log(level, context, message);
    }
}

impl FilesystemHost for State {
    fn filesystem_view(&mut self) -> FilesystemView<'_> {
        FilesystemView {
            table: &mut self.table,
            filesystem: &mut self.filesystem,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (code, stdio) = (&self.code, &self.stdio);
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(|| code.wasi(stdio)),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// What an instance exports.
pub(super) enum Exports {
    HttpP2(HttpP2),
    HttpP3(HttpP3),
    Event(EventFunction),
    CommandP2(CommandP2),
    CommandP3(CommandP3),
    Hook(Hooks),
}

/// An instance, ready or in use.
pub(super) struct Instance {
    pub(super) store: Store<State>,
    pub(super) exports: Arc<Exports>,
    born: Instant,
    served: u32,
    _slot: OwnedSemaphorePermit,
}

impl Instance {
    /// Makes an instance. Its start-up code runs here, under the function's fuel and memory.
    pub(super) async fn new(
        prepared: &Prepared,
        code: &Arc<Code>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Self, (Outcome, wasmtime::Error)> {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELD_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HOST_RESOURCES);
        let stdio = Stdio::new(code.log.clone());
        let state = State {
            code: code.clone(),
            invocation: None,
            memory: MemoryLimiter::new(code.limits.memory.as_usize()),
            calls: 0,
            outbound: Outbound::new(code.outbound.clone()),
            chain: Chain::default(),
            table,
            filesystem: Filesystem::new(code.mounts.clone()),
            wasi: None,
            http,
            stdio,
        };
        let mut store = Store::new(prepared.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(match prepared.target {
            Target::Hook(_) => HOOK_BYTES,
            Target::HttpP2(_)
            | Target::HttpP3(_)
            | Target::Middleware(_)
            | Target::Event(_)
            | Target::CommandP2(_)
            | Target::CommandP3(_) => HOSTCALL_BYTES,
        });
        // The host's own table is full first, and says so in a way that is told from a trap.
        store.set_max_component_handles(2 * HOST_RESOURCES);
        let exports = instantiate(&mut store, prepared, code.limits.fuel).await;
        match exports {
            Ok(exports) => Ok(Self {
                store,
                exports: Arc::new(exports),
                born: Instant::now(),
                served: 0,
                _slot: slot,
            }),
            Err(error) => Err((classify(&error, &store.data().memory), error)),
        }
    }

    /// Begins an invocation: its fuel, its log, its place to account to. A command gets its event as standard input.
    pub(super) fn begin(
        &mut self,
        invocation: Invocation,
        account: Arc<Account>,
        input: Option<Bytes>,
    ) {
        self.served += 1;
        let state = self.store.data_mut();
        let configuration = &state.code.deployment.configuration;
        let fuel = state.code.limits.fuel;
        state.calls = 0;
        let (id, version) = (invocation.request_id, state.code.deployment.version);
        match input {
            None => state.stdio.begin(id, version, configuration.log),
            Some(event) => {
                let response = configuration.response;
                state
                    .stdio
                    .begin_command(id, version, configuration.log, event, response);
            }
        }
        state.outbound.begin(
            configuration.outbound_requests,
            configuration.outbound_concurrency,
            account.clone(),
        );
        state.invocation = Some((invocation, account));
        self.store.set_fuel(fuel).expect("the engine consumes fuel");
    }

    /// Puts what stands behind it in place: for the invocation of a middleware that just began. Once `over` is set, a body that
    /// it sends on ends with an error.
    pub(super) fn put_before(&mut self, next: Arc<dyn Next>, over: Arc<AtomicBool>) {
        let state = self.store.data_mut();
        if let Some((_, account)) = &state.invocation {
            state.chain.begin(next, over, account.clone());
        }
    }

    /// Ends the invocation: accounts for it and lets go of everything that belongs to it. Gives what a command printed.
    pub(super) fn end(&mut self) -> Result<Bytes, AnswerTooLarge> {
        let left = self.store.get_fuel().expect("the engine consumes fuel");
        let state = self.store.data_mut();
        if let Some((_, account)) = state.invocation.take() {
            let fuel = state.code.limits.fuel.saturating_sub(left);
            account.guest_ended(
                fuel,
                state.memory.peak(),
                state.calls + state.outbound.calls(),
            );
            state.outbound.end();
            state.chain.end();
        }
        state.stdio.end()
    }

    /// Tells the function's log why the invocation failed.
    pub(super) fn report_failure(&self, outcome: Outcome, error: &wasmtime::Error) {
        if let Some((_, account)) = &self.store.data().invocation {
            account.say(Level::Error, &format!("{outcome}: {}", describe(error)));
        }
    }

    /// Whether an invocation has used it.
    pub(super) fn has_served(&self) -> bool {
        self.served > 0
    }

    /// Whether another invocation may use it.
    pub(super) fn is_reusable(&self) -> bool {
        let state = self.store.data();
        match state.code.deployment.configuration.isolation {
            Isolation::Fresh => false,
            Isolation::Reuse { requests, age } => {
                self.served < requests && self.born.elapsed() < age && !state.memory.refused()
            }
        }
    }

    /// Whether it may still wait for an invocation. A reused instance ends at its age, one that was made ahead gets stale
    /// too: its clocks and random seeds are of when it was made.
    pub(super) fn may_wait(&self) -> bool {
        let age = match self.store.data().code.deployment.configuration.isolation {
            Isolation::Fresh => FRESH_MAY_WAIT,
            Isolation::Reuse { age, .. } => age,
        };
        self.born.elapsed() < age
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nobody waits for the answer of a command that was stopped.
        let _ = self.end();
    }
}

async fn instantiate(
    store: &mut Store<State>,
    prepared: &Prepared,
    fuel: u64,
) -> wasmtime::Result<Exports> {
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(YIELD_INTERVAL))?;
    Ok(match &prepared.target {
        Target::HttpP2(pre) => Exports::HttpP2(pre.instantiate_async(store).await?),
        Target::HttpP3(pre) | Target::Middleware(pre) => {
            Exports::HttpP3(pre.instantiate_async(store).await?)
        }
        Target::Event(pre) => Exports::Event(pre.instantiate_async(store).await?),
        Target::CommandP2(pre) => Exports::CommandP2(pre.instantiate_async(store).await?),
        Target::CommandP3(pre) => Exports::CommandP3(pre.instantiate_async(store).await?),
        Target::Hook(pre) => Exports::Hook(pre.instantiate_async(store).await?),
    })
}

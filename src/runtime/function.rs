//! A deployed version of a function, as the runtime holds it.

use std::{
    sync::{Arc, OnceLock, Weak, atomic::AtomicUsize},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapWeak;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::{
    account::Observer,
    bindings::wharf::function::types::InvocationContext,
    component::Prepared,
    imports::{
        filesystem::{GrantError, Mounts, TmpFolders},
        function::InProcess,
        outbound::{OutboundClient, OutboundPool},
        stdio::Stdio,
    },
    instance::Invocation,
    limits::RANDOM_BYTES,
    pool::Pool,
};
use crate::{
    model::{Deployment, Kind, Limits, Vpc, VpcConfig},
    store::KeyValue,
    telemetry::{logs::FunctionLog, metrics::NodeMetrics},
};

/// What stays the same for every instance of a version.
pub(crate) struct Code {
    pub(super) deployment: Deployment,
    pub(super) limits: Limits,
    pub(super) log: Arc<FunctionLog>,
    pub(super) outbound: OutboundPool,
    pub(super) mounts: Arc<Mounts>,
    environment: Vec<(String, String)>,
    pub(super) services: Arc<Services>,
}

/// What the node's functions have in common.
pub(super) struct Services {
    /// The other functions of the node, once there is a door to them.
    pub(super) in_process: OnceLock<Weak<dyn InProcess>>,
    /// What functions keep through `wasi:keyvalue`.
    pub(super) key_value: Arc<dyn KeyValue>,
    /// What functions call through `wasi:http`.
    pub(super) outbound: OutboundClient,
    /// What is beside the node and not public.
    pub(super) vpc: Vpc,
    /// Invocations that wait for a slot.
    pub(super) waiting: AtomicUsize,
    /// Where outbound requests are counted.
    pub(super) metrics: Arc<NodeMetrics>,
    /// Where instances have their `/tmp`.
    pub(super) folders: Arc<TmpFolders>,
    /// The account and region that stand in ARNs, as in `us-east-1:000000000000`.
    pub(super) arn_prefix: String,
}

impl Code {
    /// The other functions of the node.
    pub(super) fn in_process(&self) -> Option<Arc<dyn InProcess>> {
        self.services.in_process.get()?.upgrade()
    }

    /// What the function is told about an invocation.
    pub(super) fn context(&self, invocation: &Invocation) -> InvocationContext {
        let left = invocation
            .deadline
            .saturating_duration_since(Instant::now());
        let deadline = (SystemTime::now() + left)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let Deployment { name, version, .. } = &self.deployment;
        InvocationContext {
            request_id: invocation.request_id.to_string(),
            function_name: name.to_string(),
            function_version: version.to_string(),
            invoked_function_arn: format!("{}:function:{name}", self.services.arn_prefix),
            memory_limit_mb: self.limits.memory.as_mb(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            traceparent: invocation.traceparent.as_deref().map(str::to_owned),
            client_context: invocation.client_context.as_deref().map(str::to_owned),
        }
    }

    /// The WASI context of a new instance.
    pub(super) fn wasi(&self, stdio: &Stdio) -> WasiCtx {
        let mut builder = WasiCtxBuilder::new();
        builder
            .envs(&self.environment)
            .arg(self.deployment.name.as_str())
            .max_random_size(RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .stdin(stdio.stdin())
            .stdout(stdio.stdout())
            .stderr(stdio.stderr());
        builder.build()
    }
}

/// Why a function cannot be served: a folder that its configuration grants cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FunctionFailed(GrantError);

/// A deployed version of a function and its warm instances.
///
/// Immutable: another version, or another configuration, is another `Function`. What is in flight on the old one ends
/// there.
pub struct Function {
    pub(super) code: Arc<Code>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) pool: Pool,
    prepared: ArcSwapWeak<Prepared>,
}

impl Function {
    /// See [`Runtime::function`](super::Runtime::function).
    pub(super) fn new(
        deployment: Deployment,
        environment: Vec<(String, String)>,
        log: Arc<FunctionLog>,
        observer: Arc<dyn Observer>,
        services: Arc<Services>,
    ) -> Result<Arc<Self>, FunctionFailed> {
        let configuration = &deployment.configuration;
        let pool = Pool::new(configuration);
        let folders = services.folders.clone();
        let mounts = Mounts::open(folders, &configuration.files, configuration.tmp)
            .map_err(FunctionFailed)?;
        Ok(Arc::new(Self {
            code: Arc::new(Code {
                outbound: match deployment.kind {
                    // What a visitor waits for calls nobody by accident.
                    Kind::Hook(_) => services.outbound.pool_of_granted(&configuration.outbound),
                    Kind::HttpP2
                    | Kind::HttpP3
                    | Kind::Middleware
                    | Kind::Event
                    | Kind::CommandP2
                    | Kind::CommandP3 => services.outbound.pool(
                        &configuration.outbound,
                        services.vpc.reach(&VpcConfig::of(&deployment.lambda)),
                    ),
                },
                mounts,
                limits: deployment.limits(),
                deployment,
                log,
                environment,
                services,
            }),
            observer,
            pool,
            prepared: ArcSwapWeak::default(),
        }))
    }

    /// Its prepared component, if that is still in memory: to look it up in the node's cache takes a twentieth of the time of
    /// making an instance.
    pub(super) fn prepared(&self) -> Option<Arc<Prepared>> {
        self.prepared.load().upgrade()
    }

    /// Remembers the prepared component for as long as the node's cache keeps it.
    pub(super) fn remember(&self, prepared: &Arc<Prepared>) {
        self.prepared.store(Arc::downgrade(prepared));
    }

    /// What is deployed.
    pub fn deployment(&self) -> &Deployment {
        &self.code.deployment
    }

    /// What one of its invocations may use.
    pub(super) fn limits(&self) -> Limits {
        self.code.limits
    }

    /// Instances that wait for a request.
    pub fn idle(&self) -> usize {
        self.pool.idle()
    }

    /// Ends the warm instances and keeps no more. For a function that is replaced or removed.
    pub fn close(&self) {
        self.pool.close();
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}:{}",
            self.code.deployment.name, self.code.deployment.version
        )
    }
}

//! From bytes to something that can be instantiated in microseconds.
//!
//! A *prepared component* is a mapped artifact whose imports are resolved: what wasmtime calls `InstancePre`. A node holds
//! far more deployed functions than it could keep prepared, so they sit in a cache weighed by their bytes. Requests that
//! miss together load once.

use std::{path::Path, sync::Arc};

use moka::future::Cache;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker},
};
use wasmtime_wasi::{
    p2::bindings::CommandPre as CommandP2Pre, p3::bindings::CommandPre as CommandP3Pre,
};
use wasmtime_wasi_http::{
    p2::bindings::ProxyPre as HttpP2Pre, p3::bindings::ServicePre as HttpP3Pre,
};

use super::{
    bindings::EventFunctionPre,
    compile::{Artifacts, CompileError, describe},
    engine::PerEngine,
    hook::HookPre,
    instance::State,
};
use crate::{
    model::{Digest, Kind, hook::Point},
    telemetry::metrics::NodeMetrics,
};

/// A component with everything resolved but the instance.
pub(super) struct Prepared {
    pub(super) target: Target,
    engine: Engine,
    bytes: u32,
}

impl Prepared {
    /// The engine that it was compiled for.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// How a prepared component is called.
pub(super) enum Target {
    HttpP2(HttpP2Pre<State>),
    HttpP3(HttpP3Pre<State>),
    Middleware(HttpP3Pre<State>),
    Event(EventFunctionPre<State>),
    CommandP2(CommandP2Pre<State>),
    CommandP3(CommandP3Pre<State>),
    Hook(HookPre),
}

impl Target {
    /// Finds out how a component is called from what it exports. HTTP comes first: a component that also exports
    /// `wasi:cli/run` (as `cargo component` makes them) is meant to answer HTTP.
    fn classify(pre: &InstancePre<State>) -> Result<Self, PrepareError> {
        let function = None
            .or_else(|| {
                let http = HttpP3Pre::new(pre.clone()).ok()?;
                Some(match stands_before_others(pre.component()) {
                    true => Self::Middleware(http),
                    false => Self::HttpP3(http),
                })
            })
            .or_else(|| HttpP2Pre::new(pre.clone()).ok().map(Self::HttpP2))
            .or_else(|| EventFunctionPre::new(pre.clone()).ok().map(Self::Event))
            .or_else(|| CommandP3Pre::new(pre.clone()).ok().map(Self::CommandP3))
            .or_else(|| CommandP2Pre::new(pre.clone()).ok().map(Self::CommandP2));
        match function {
            Some(target) => Ok(target),
            None => HookPre::new(pre.clone()).map(Self::Hook),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::HttpP2(_) => Kind::HttpP2,
            Self::HttpP3(_) => Kind::HttpP3,
            Self::Middleware(_) => Kind::Middleware,
            Self::Event(_) => Kind::Event,
            Self::CommandP2(_) => Kind::CommandP2,
            Self::CommandP3(_) => Kind::CommandP3,
            Self::Hook(pre) => Kind::Hook(pre.points()),
        }
    }
}

/// Whether a component imports what it exports to answer HTTP (`wasi:http/middleware`).
fn stands_before_others(component: &Component) -> bool {
    let types = component.component_type();
    types
        .imports(component.engine())
        .any(|(name, _)| name.starts_with("wasi:http/handler@0.3."))
}

/// Why a component cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// There is no artifact, or none that can be trusted.
    #[error(transparent)]
    Artifact(#[from] CompileError),
    /// It imports what the node does not have.
    #[error("this node cannot run the component: {0}")]
    Import(String),
    /// It exports nothing that the node calls.
    #[error(
        "the component exports nothing that Wharf calls: it needs wasi:http/incoming-handler@0.2, \
         wasi:http/handler@0.3, wharf:function/handler, wharf:edge/… or wasi:cli/run"
    )]
    Export,
    /// A hook is not of its point's type.
    #[error("the component's hook {0} is not that of wharf:edge@0.1.0: {1}")]
    Hook(Point, String),
}

impl PrepareError {
    /// Whether the component may be fine, and only its artifact is not.
    pub(super) fn wants_compiling(&self) -> bool {
        matches!(
            self,
            Self::Artifact(CompileError::Damaged { .. } | CompileError::Io { .. })
        )
    }
}

/// Resolves the imports of a component and finds out how it is called.
pub(super) fn prepare(
    component: &Component,
    linker: &Linker<State>,
) -> Result<Prepared, PrepareError> {
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| PrepareError::Import(describe(&error)))?;
    let target = Target::classify(&pre)?;
    let image = component.image_range();
    let bytes = u32::try_from(image.end.addr() - image.start.addr()).unwrap_or(u32::MAX);
    Ok(Prepared {
        target,
        engine: component.engine().clone(),
        bytes,
    })
}

/// The prepared components in memory, and the way to those that are not.
pub(super) struct Components {
    engines: PerEngine<Engine>,
    linkers: PerEngine<Linker<State>>,
    artifacts: Artifacts,
    cache: Cache<Digest, Arc<Prepared>>,
    metrics: Arc<NodeMetrics>,
}

impl Components {
    /// A cache that holds `capacity` bytes of compiled code.
    pub(super) fn new(
        engines: PerEngine<Engine>,
        linkers: PerEngine<Linker<State>>,
        artifacts: Artifacts,
        capacity: u64,
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, prepared: &Arc<Prepared>| prepared.bytes)
            .build();
        Self {
            engines,
            linkers,
            artifacts,
            cache,
            metrics,
        }
    }

    /// The prepared component of `code`. In memory, or mapped from its artifact; never compiled.
    pub(super) async fn get(&self, code: &Digest) -> Result<Arc<Prepared>, Arc<PrepareError>> {
        if let Some(prepared) = self.cache.get(code).await {
            return Ok(prepared);
        }
        self.cache
            .try_get_with(*code, async {
                let (component, concurrency) = self.artifacts.load(&self.engines, code)?;
                self.metrics.mapped.increment();
                prepare(&component, self.linkers.get(concurrency)).map(Arc::new)
            })
            .await
    }

    /// Notes that a prepared component is in use, if it is in the cache.
    pub(super) async fn touch(&self, code: &Digest) {
        self.cache.get(code).await;
    }

    /// Makes the artifact of a component if there is none that can be trusted, and checks that this node can run it.
    pub(super) async fn compile(
        &self,
        wasm: &Path,
        code: &Digest,
    ) -> Result<Kind, Arc<PrepareError>> {
        if self.artifacts.contains(code) {
            match self.get(code).await {
                Err(error) if error.wants_compiling() => {
                    tracing::warn!(%code, %error, "compiling again");
                    self.artifacts.discard(code);
                }
                prepared => return Ok(prepared?.target.kind()),
            }
        }
        let compiled = self.artifacts.compile(wasm, code).await;
        match &compiled {
            Ok(()) => self.metrics.compiled.increment(),
            Err(_) => self.metrics.compile_failures.increment(),
        }
        compiled.map_err(|error| Arc::new(error.into()))?;
        Ok(self.get(code).await?.target.kind())
    }

    pub(super) fn is_compiled(&self, code: &Digest) -> bool {
        self.artifacts.contains(code)
    }

    /// Forgets the artifacts of code that is not deployed any more.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) {
        self.artifacts.retain(keep);
    }

    /// Prepared components in memory, and their bytes of compiled code.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

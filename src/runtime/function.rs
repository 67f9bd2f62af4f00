//! A deployed version of a function, as the runtime holds it.

use std::sync::Arc;

use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::{account::Observer, pool::Pool};
use crate::model::Deployment;

/// What stays the same for every instance of a version.
pub(crate) struct Code {
    pub(super) deployment: Deployment,
    environment: Vec<(String, String)>,
}

impl Code {
    /// The WASI context of a new instance.
    pub(super) fn wasi(&self) -> WasiCtx {
        let mut builder = WasiCtxBuilder::new();
        builder
            .envs(&self.environment)
            .arg(self.deployment.name.as_str())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        builder.build()
    }
}

/// A deployed version of a function and its warm instances.
///
/// Immutable: another version, or another configuration, is another `Function`. What is in flight on the old one ends
/// there.
pub struct Function {
    pub(super) code: Arc<Code>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) pool: Pool,
}

impl Function {
    /// A function of this deployment. `environment` is the configuration's, with the values of its secrets.
    pub fn new(
        deployment: Deployment,
        environment: Vec<(String, String)>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        let pool = Pool::new(&deployment.configuration);
        Arc::new(Self {
            code: Arc::new(Code {
                deployment,
                environment,
            }),
            observer,
            pool,
        })
    }

    /// What is deployed.
    pub fn deployment(&self) -> &Deployment {
        &self.code.deployment
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

//! The documents that concern what is served. Others belong to whoever writes them.

use super::Resource;
use crate::model::{
    Alias, DeployedDistribution, EventInvokeConfig, FunctionName, FunctionSettings,
    IssuedCertificate, ProvisionedConcurrency, UrlConfig,
};

/// How the keys of everything begin that belongs to a function.
pub fn of_function(name: &FunctionName) -> String {
    format!("{name}/")
}

impl Resource for FunctionSettings {
    const KIND: &'static str = "function";

    fn key(&self) -> String {
        of_function(&self.name)
    }
}

impl Resource for Alias {
    const KIND: &'static str = "alias";

    fn key(&self) -> String {
        format!("{}/{}", self.function, self.name)
    }
}

impl Resource for ProvisionedConcurrency {
    const KIND: &'static str = "provisioned-concurrency";

    fn key(&self) -> String {
        format!("{}/{}", self.function, self.qualifier)
    }
}

impl Resource for UrlConfig {
    const KIND: &'static str = "function-url";

    fn key(&self) -> String {
        let alias = self.alias.as_deref().unwrap_or_default();
        format!("{}/{alias}", self.function)
    }
}

impl Resource for DeployedDistribution {
    const KIND: &'static str = "distribution";

    fn key(&self) -> String {
        self.distribution.name.to_string()
    }
}

impl Resource for IssuedCertificate {
    const KIND: &'static str = "issued-certificate";

    fn key(&self) -> String {
        self.distribution.to_string()
    }
}

impl Resource for EventInvokeConfig {
    const KIND: &'static str = "event-invoke-config";

    fn key(&self) -> String {
        format!("{}/{}", self.function, self.qualifier)
    }
}

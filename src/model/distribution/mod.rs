//! Distributions: sites that a node fronts as an edge of a content delivery network.
//!
//! A [`Distribution`] has the requests for its hosts. The first [`Behaviour`] whose pattern has the path says what a
//! request gets: from which origin or function, through which hooks, kept for how long, and who may ask at all.
//!
//! These are the values, as a manifest writes them and the catalog keeps them. What a type cannot hold is
//! [looked for](Distribution::problems) before one is used; where nothing was found, every name of an origin is one
//! that is there, and every URL one that can be asked. Whether functions and files are there is not known here.

mod access;
mod cache;
mod certificate;
mod check;
mod compression;
mod glob;
mod headers;
mod hooks;
mod name;
mod origin;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use serde::{Deserialize, Serialize};

use super::{ByteSize, FunctionName, HostPattern, hook::Point, route};

pub use access::{Access, Countries, Country, InvalidCountry, RateLimit};
pub use cache::{CachePolicy, KeyPolicy, Parts, Ttl};
pub use certificate::{Certificate, CertificateFiles, IssuedCertificate, PrivateKey};
pub use check::InvalidDistribution;
pub use compression::{Coding, Compression};
pub use glob::{InvalidGlob, PathGlob};
pub use headers::{FrameOptions, Hsts, ReferrerPolicy, ResponseHeaders, SecurityHeaders};
pub use hooks::{Hook, Hooks, OnFailure, Role};
pub use name::{DistributionName, InvalidDistributionName};
pub use origin::{
    Ejection, HealthCheck, Origin, OriginProtocol, OriginServer, OriginTimeouts, OriginTls,
};

/// A site that a node fronts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Its name.
    pub name: DistributionName,
    /// The hosts whose requests it gets, at least one.
    pub hosts: Vec<HostPattern>,
    /// What it presents to viewers over TLS; none means what the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The origins, by name.
    #[serde(default)]
    pub origins: BTreeMap<String, Origin>,
    /// What requests for some paths get; the first that has the path is taken.
    #[serde(default)]
    pub behaviours: Vec<Behaviour>,
    /// What all other requests get.
    pub default: Behaviour,
}

impl Distribution {
    /// The behaviour for a path, as it was sent and without its query, and its place; the default's is the number of the
    /// others.
    pub fn behaviour(&self, path: &str) -> (usize, &Behaviour) {
        let path = glob::normal(path);
        self.behaviours
            .iter()
            .enumerate()
            .find(|(_, behaviour)| {
                let glob = behaviour.path.as_ref();
                glob.is_some_and(|glob| glob.matches_normal(path.as_bytes()))
            })
            .unwrap_or((self.behaviours.len(), &self.default))
    }

    /// The functions that it names, each with its key as in the manifest, and what it is for.
    pub fn functions(&self) -> Vec<(Vec<String>, &FunctionName, Role)> {
        let mut functions = Vec::new();
        for (key, behaviour) in self.keyed_behaviours() {
            let within = |rest: &[&str]| {
                let rest = rest.iter().map(|&part| part.to_owned());
                key.iter().cloned().chain(rest).collect::<Vec<_>>()
            };
            if let Target::Function(function) = &behaviour.target {
                functions.push((within(&["function"]), function, Role::Answer));
            }
            for point in Point::ALL {
                for (index, hook) in behaviour.hooks.at(point).iter().enumerate() {
                    let key = within(&["hooks", point.key(), &index.to_string()]);
                    functions.push((key, &hook.function, Role::Hook(point)));
                }
            }
            for (index, function) in behaviour.hooks.transform.iter().enumerate() {
                let key = within(&["hooks", "transform", &index.to_string()]);
                functions.push((key, function, Role::Transform));
            }
        }
        functions
    }

    /// The default and the others, each with its key as in the manifest.
    fn keyed_behaviours(&self) -> impl Iterator<Item = (Vec<String>, &Behaviour)> {
        let others = self.behaviours.iter().enumerate();
        let others = others.map(|(index, behaviour)| {
            let key = vec!["behaviours".to_owned(), index.to_string()];
            (key, behaviour)
        });
        std::iter::once((vec!["default".to_owned()], &self.default)).chain(others)
    }
}

/// A distribution as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedDistribution {
    /// The app that it belongs to; none for one that was made on its own.
    pub app: Option<String>,
    /// What it is.
    pub distribution: Distribution,
    /// The private key of its certificate, encrypted for [`key_context`](Self::key_context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_key: Option<String>,
}

impl DeployedDistribution {
    /// What the private key of a distribution is encrypted for.
    pub fn key_context(name: &DistributionName) -> String {
        format!("distribution-key/{name}")
    }
}

/// What some requests of a distribution get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// The paths; none for the default alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathGlob>,
    /// Who answers.
    pub target: Target,
    /// The methods that may be used; `GET` includes `HEAD`. `GET`, `HEAD` and `OPTIONS` by default.
    #[serde(default = "Behaviour::default_methods", with = "route::methods")]
    pub methods: Vec<Method>,
    /// What is kept, and for how long.
    #[serde(default)]
    pub cache: CachePolicy,
    /// What is compressed; nothing by default.
    #[serde(default)]
    pub compress: Compression,
    /// The functions on the way.
    #[serde(default)]
    pub hooks: Hooks,
    /// What is changed in the header fields of answers.
    #[serde(default)]
    pub response_headers: ResponseHeaders,
    /// Until the head of the answer is there, hooks and further attempts included; 60 s by default, 900 s at most.
    #[serde(default = "Behaviour::default_timeout")]
    pub timeout: Duration,
    /// The largest body of a request; 100 MB by default. More gets 413.
    #[serde(default = "Behaviour::default_request_body")]
    pub request_body: ByteSize,
    /// How often a client may ask; none means as often as it can.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Who may ask.
    #[serde(default)]
    pub access: Access,
    /// Whether a viewer who comes without TLS is sent to `https`.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// Whether a viewer may have a WebSocket to the origin.
    #[serde(default)]
    pub websockets: bool,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An origin of the distribution.
    Origin(String),
    /// A function.
    Function(FunctionName),
}

impl Behaviour {
    /// The behaviour that a target has where nothing more is said.
    pub fn new(target: Target) -> Self {
        Self {
            path: None,
            target,
            methods: Self::default_methods(),
            cache: CachePolicy::default(),
            compress: Compression::default(),
            hooks: Hooks::default(),
            response_headers: ResponseHeaders::default(),
            timeout: Self::default_timeout(),
            request_body: Self::default_request_body(),
            rate_limit: None,
            access: Access::default(),
            redirect_to_https: false,
            websockets: false,
        }
    }

    /// Whether a method may be used.
    pub fn allows(&self, method: &Method) -> bool {
        self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    /// The methods that may be used, as in `Allow`.
    pub fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        if !self.methods.contains(&Method::HEAD) && self.allows(&Method::HEAD) {
            methods.push(Method::HEAD.as_str());
        }
        methods.join(", ")
    }

    fn default_methods() -> Vec<Method> {
        vec![Method::GET, Method::HEAD, Method::OPTIONS]
    }

    const fn default_timeout() -> Duration {
        Duration::from_secs(60)
    }

    const fn default_request_body() -> ByteSize {
        ByteSize::mb(100)
    }
}

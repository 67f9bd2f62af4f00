//! Plain values: names, digests, sizes, configuration, outcomes, records. No I/O, no clocks, no wasmtime.
//!
//! Everything else is built on these, so that a function name or a limit means the same in a manifest, in the catalog,
//! in a request and in a log line.

mod alias;
mod arn;
mod cache;
mod cors;
mod digest;
pub mod distribution;
mod event;
mod function;
pub mod hook;
pub mod hop;
mod logging;
mod manifest;
mod name;
mod network;
mod outcome;
mod record;
mod route;
mod size;
mod text;
pub mod trace;
mod url;
mod vpc;

pub use alias::{
    Alias, AttachedLayer, FunctionSettings, InvalidQualifier, LambdaSettings, Package,
    ProvisionedConcurrency, Qualifier, RecursiveLoop,
};
pub use arn::Arns;
pub use cache::CacheResult;
pub use cors::Cors;
pub use digest::{Digest, ParseDigestError};
pub use distribution::{
    CachePolicy, Certificate, CertificateFiles, Coding, Compression, Country, DeployedDistribution,
    Distribution, DistributionName, IssuedCertificate, KeyPolicy, Parts, PrivateKey, RateLimit,
    Ttl,
};
pub use event::{AsyncEvent, EventInvokeConfig, EventTarget, InvalidTarget};
pub use function::{
    Deployment, FileGrant, FunctionConfiguration, InvalidConfiguration, Isolation, Kind, Limits,
    MAX_ENVIRONMENT, OutboundGrant, Pool, SecretSource, Version,
};
pub use logging::{
    ApplicationLevel, InvalidLogGroupName, LogFormat, LogGroupName, LoggingConfig, SystemLevel,
};
pub use manifest::{
    Code, Manifest, ManifestError, ManifestFunction, Problem, Process, manifest_schema,
};
pub use name::{FunctionName, InvalidName};
pub use network::{Network, ParseNetworkError, address_text};
pub use outcome::{Fault, Outcome};
pub use record::{InvocationRecord, RequestId, Start};
pub use route::{
    Answer, HostPattern, InvalidHost, InvalidPath, InvalidRedirect, Parameters, PathPattern,
    RedirectStatus, RedirectTarget, Route, RoutePattern, Segment, has_dot_segment,
};
pub use size::{ByteSize, ParseSizeError};
pub use text::{ParseDurationError, parse_duration};
pub use url::{
    FunctionUrl, InvokeMode, URL_LABEL, UrlAuthType, UrlCaller, UrlConfig, url_host, url_id,
};
pub use vpc::{Egress, Reach, Vpc, VpcConfig};

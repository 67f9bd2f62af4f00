//! What the API's requests and answers look like, for the server and the client alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    Digest, Distribution, FunctionConfiguration, FunctionName, Kind, PrivateKey, Route,
};

/// `POST /wharf/v1/deployments`: functions and routes that are deployed together or not at all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The app they belong to. Functions of the app that are not named here are removed, and its routes replaced. Without
    /// an app only the named functions change.
    pub app: Option<String>,
    /// The functions.
    pub functions: Vec<DeployFunction>,
    /// The app's routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The app's distributions.
    #[serde(default)]
    pub distributions: Vec<DeployDistribution>,
}

/// One function to deploy. Its component was uploaded before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployFunction {
    /// Its name.
    pub name: FunctionName,
    /// The SHA-256 of its component.
    pub code: Digest,
    /// How it runs.
    pub configuration: FunctionConfiguration,
}

/// One distribution to deploy; also the body of `PUT /wharf/v1/distributions/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployDistribution {
    /// What it is.
    #[serde(flatten)]
    pub distribution: Distribution,
    /// The private key of its certificate. It is never told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
}

/// The answer to a [`Deploy`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    /// The catalog's revision with it.
    pub revision: u64,
    /// The functions, as they are now.
    pub functions: Vec<FunctionSummary>,
    /// What does not work on this node as it is meant, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A function, as `GET /wharf/v1/functions` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionSummary {
    /// Its name.
    pub name: FunctionName,
    /// The version: `$LATEST`.
    pub version: String,
    /// How it is called.
    pub kind: Kind,
    /// The SHA-256 of its component.
    pub code: Digest,
    /// The size of its component in bytes.
    pub code_size: u64,
    /// The app it belongs to.
    pub app: Option<String>,
    /// When it was deployed: milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
    /// Where it answers; what is part of a distribution does so nowhere.
    pub url: Option<String>,
    /// Invocations at this moment.
    pub in_flight: u32,
    /// How it runs, with the limits that follow from its kind. The values of its environment are not shown.
    pub configuration: FunctionConfiguration,
}

impl FunctionSummary {
    /// Where it is met: its URL, or where it can stand in a distribution.
    pub fn place(&self) -> String {
        match (&self.url, self.kind) {
            (Some(url), _) => url.clone(),
            (None, Kind::Middleware) => "transform".to_owned(),
            (None, kind) => kind.points().to_string(),
        }
    }
}

/// A distribution, as `GET /wharf/v1/distributions` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DistributionSummary {
    /// The app it belongs to.
    pub app: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub distribution: Distribution,
    /// How it does, if this node serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DistributionStatus>,
}

/// How a distribution does on this node, in numbers since the node started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DistributionStatus {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that no origin or function had to be asked for, as the cache had the answer or another's was shared.
    pub from_cache: u64,
    /// Bytes of answers' bodies that were sent to viewers.
    pub viewer_bytes: u64,
    /// Bytes of answers' bodies that came from origins.
    pub origin_bytes: u64,
    /// Its origins, by name.
    pub origins: BTreeMap<String, OriginStatus>,
}

/// How an origin does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OriginStatus {
    /// Further attempts after failures, since the distribution was deployed.
    pub retries: u64,
    /// Requests that went on to a backup because of a status, since then.
    pub failovers: u64,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// How a server of an origin does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its URL.
    pub url: String,
    /// `healthy`, `unhealthy` (its checks fail), `ejected` (its requests failed) or `circuit_open` (it cannot be connected to).
    pub state: String,
    /// Requests that got a connection to it.
    pub requests: u64,
    /// Failures.
    pub failures: u64,
    /// The time to the head of an answer, in microseconds, on average; none without an answer.
    pub first_byte_us: Option<u64>,
    /// Connections in use, or requests on shared ones.
    pub in_use: u32,
    /// Requests that wait for one.
    pub waiting: u32,
}

/// `POST /wharf/v1/distributions/NAME/purge`: what the cache is to give up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// What is stored for these URLs. One that begins with `/` is meant on every host of the distribution.
    pub urls: Vec<String>,
    /// What is stored for URLs that begin so.
    pub prefixes: Vec<String>,
    /// What its origin gave these tags (`Cache-Tag`, `Surrogate-Key`).
    pub tags: Vec<String>,
    /// Everything of the distribution.
    pub all: bool,
    /// It is only marked stale, so that it may be served while it is fetched again.
    pub soft: bool,
}

/// The answer to a [`PurgeRequest`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Purged {
    /// How many stored answers it was, and lists of the variants of one.
    pub objects: usize,
}

/// `GET /wharf/v1/cache`: what the cache holds, and what it did since the node started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheSummary {
    /// In memory.
    pub memory: TierSummary,
    /// On disk.
    pub disk: TierSummary,
    /// Files that did not hold what was written, and were removed.
    pub corrupt: u64,
    /// Answers that the disk did not take.
    pub disk_failures: u64,
    /// By distribution.
    pub distributions: BTreeMap<String, CacheCounts>,
}

/// What a tier of the cache holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TierSummary {
    /// Bytes.
    pub bytes: u64,
    /// Answers.
    pub objects: u64,
}

/// What the cache did for a distribution: numbers of requests that it answered, each in one of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CacheCounts {
    /// Answered from what is stored and fresh.
    pub hits: u64,
    /// Forwarded, as nothing that is stored answers them.
    pub misses: u64,
    /// Answered from what is stored and stale.
    pub stale: u64,
    /// Answered from what is stored, of which the origin was asked and said that it is still good.
    pub revalidated: u64,
    /// Answered with the answer to another request.
    pub collapsed: u64,
    /// Not for the cache.
    pub bypass: u64,
    /// Answers that were given up for want of room, in memory and on disk.
    #[serde(default)]
    pub evicted: u64,
}

/// A user of the node's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSummary {
    /// Their name.
    pub name: String,
    /// Their ARN.
    pub arn: String,
    /// What they may do: the ARNs of policies, and the names of their own. Of the credentials file's users the file tells.
    pub policies: Vec<String>,
    /// The ids of their access keys, but for those of the file.
    pub access_keys: Vec<String>,
    /// Whether they are of the credentials file, and changed there.
    pub in_file: bool,
}

/// `PUT /wharf/v1/users/NAME`: a user to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// What they may do.
    pub policies: Vec<UserPolicy>,
}

/// A policy of a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UserPolicy {
    /// One that every node has or that was made here, by name or ARN.
    Attached(String),
    /// One of their own.
    Document {
        /// Its name.
        name: String,
        /// The policy document.
        document: String,
    },
}

/// A user that was made. The secret is told this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct AddedUser {
    /// Their ARN.
    pub arn: String,
    /// Their access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// The answer of a request that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// One word. Where the API answers as AWS does, it is not in the document.
    #[serde(default)]
    pub error: String,
    /// What is wrong and what to do. Some of AWS's errors write it large.
    #[serde(alias = "Message")]
    pub message: String,
}

/// `GET /wharf/v1/node`: what the node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeSummary {
    /// The program's version.
    pub version: String,
    /// Where functions answer, as `http://127.0.0.1:8080`.
    pub http: String,
    /// Functions deployed.
    pub functions: usize,
    /// Invocations at this moment.
    pub in_flight: u32,
    /// Instance slots that are free.
    pub free_slots: usize,
    /// Instances that wait for a request.
    pub idle_instances: usize,
    /// Prepared components in memory.
    pub prepared_components: u64,
    /// Whatever else a later version says.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

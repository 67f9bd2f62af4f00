//! A function: its code and its configuration.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ByteSize, Digest, FunctionName, LambdaSettings, LoggingConfig, hook::Points};

/// The most bytes all environment variables of a function may have together (Lambda quota: 4 KB).
pub const MAX_ENVIRONMENT: usize = 4096;

/// How a component is called, which follows from what it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `wasi:http/incoming-handler@0.2.x`.
    HttpP2,
    /// `wasi:http/handler@0.3.x`.
    HttpP3,
    /// The same, exported and imported: it stands before another handler.
    Middleware,
    /// `wharf:function/handler@0.1.x`.
    Event,
    /// `wasi:cli/run@0.2.x`.
    CommandP2,
    /// `wasi:cli/run@0.3.x`.
    CommandP3,
    /// One or more of `wharf:edge/*@0.1.x`: which.
    Hook(Points),
}

impl Kind {
    /// The places of a distribution at which it can stand: those of a hook, and none of anything else.
    pub const fn points(self) -> Points {
        match self {
            Self::Hook(points) => points,
            Self::HttpP2
            | Self::HttpP3
            | Self::Middleware
            | Self::Event
            | Self::CommandP2
            | Self::CommandP3 => Points::NONE,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::HttpP2 => "wasi:http 0.2",
            Self::HttpP3 => "wasi:http 0.3",
            Self::Middleware => "wasi:http 0.3 middleware",
            Self::Event => "wharf:function",
            Self::CommandP2 => "wasi:cli 0.2",
            Self::CommandP3 => "wasi:cli 0.3",
            Self::Hook(_) => "wharf:edge",
        })
    }
}

/// A version of a function.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Version {
    /// The mutable one, written `$LATEST`.
    #[default]
    Latest,
    /// A frozen one, from 1 up.
    Published(u32),
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("$LATEST"),
            Self::Published(number) => number.fmt(formatter),
        }
    }
}

/// Whether an instance serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// One request an instance, then it is dropped.
    #[default]
    Fresh,
    /// An execution environment as in Lambda: requests one after another, up to a count and an age.
    Reuse {
        /// The most requests one instance serves.
        requests: u32,
        /// The oldest an instance gets.
        age: Duration,
    },
}

impl Isolation {
    /// `reuse` with the counts used where the user gives none.
    pub const REUSE: Self = Self::Reuse {
        requests: 10_000,
        age: Duration::from_secs(3600),
    };
}

/// How many instances are made ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pool {
    /// Kept ready however quiet it is (what Lambda calls provisioned concurrency).
    pub min: u32,
}

/// A place outside the node that a function may call although it is not public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundGrant {
    /// A host name or an IP address, as it stands in the URL.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Where the value of a secret is read on the node when the function is deployed. The manifest holds no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; one newline at its end is not part of the secret.
    File(PathBuf),
}

/// A folder of the node that a function may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// The folder on the node, absolute.
    pub source: PathBuf,
    /// Where the function sees it, an absolute path such as `/data`.
    pub mount: String,
    /// Whether it may write there too.
    pub writable: bool,
}

/// What one invocation may use: what its function's configuration says, and what follows from its kind where that says
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories and tables of an instance together.
    pub memory: ByteSize,
    /// Wall-clock time, host calls included.
    pub timeout: Duration,
    /// Instructions, about one unit each.
    pub fuel: u64,
    /// Processor time.
    pub cpu: Duration,
}

impl Limits {
    /// Of a function.
    pub const FUNCTION: Self = Self {
        memory: ByteSize::mb(128),
        timeout: Duration::from_secs(3),
        fuel: 10_000_000_000,
        cpu: Duration::from_secs(3),
    };

    /// Of a middleware. Its time is also that of what it waits for: the origin, and who reads the answer.
    pub const MIDDLEWARE: Self = Self {
        timeout: Duration::from_secs(60),
        ..Self::FUNCTION
    };

    /// Of a request hook. Every request of a distribution waits for it, up to four times.
    pub const HOOK: Self = Self {
        memory: ByteSize::mb(16),
        timeout: Duration::from_millis(10),
        fuel: 1_000_000,
        cpu: Duration::from_millis(10),
    };
}

/// How a function runs: what Lambda's `FunctionConfiguration` holds, and what an edge node adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FunctionConfiguration {
    /// What the function is for, in words.
    pub description: String,
    /// All linear memories and tables of an instance together, 1 MB to 10,240 MB; none means the kind's
    /// [default](Limits).
    pub memory: Option<ByteSize>,
    /// Wall-clock time of an invocation, host calls included, 900 s at most; none means the kind's [default](Limits).
    pub timeout: Option<Duration>,
    /// Instructions of an invocation, about one unit each; none means the kind's [default](Limits).
    pub fuel: Option<u64>,
    /// Processor time of an invocation; none means as long as the timeout, or the kind's [default](Limits) where that is none
    /// either.
    pub cpu: Option<Duration>,
    /// Environment variables, 4 KB in all.
    pub environment: BTreeMap<String, String>,
    /// Environment variables whose values are read on the node when the function is deployed or the node starts.
    pub secrets: BTreeMap<String, SecretSource>,
    /// What `wasi:config` answers.
    pub config: BTreeMap<String, String>,
    /// Whether an instance serves one request or many.
    pub isolation: Isolation,
    /// How many instances are made ahead.
    pub pool: Pool,
    /// The most invocations at one moment (Lambda's reserved concurrency); none means the node's limit, 0 switches it off.
    pub concurrency: Option<u32>,
    /// Places that may be called although they are not public.
    pub outbound: Vec<OutboundGrant>,
    /// The key-value stores that may be opened: the identifier the guest uses, and the store on the node.
    pub key_value: BTreeMap<String, String>,
    /// Folders of the node that may be read.
    pub files: Vec<FileGrant>,
    /// How much `/tmp` holds; 512 MB by default.
    pub tmp: ByteSize,
    /// The largest answer that is held in memory (events and commands); streams are not limited. 6 MB by default.
    pub response: ByteSize,
    /// Outbound requests of one invocation; 50 by default.
    pub outbound_requests: u32,
    /// Outbound requests of one invocation at one moment; 10 by default.
    pub outbound_concurrency: u32,
    /// Log bytes of one invocation; 256 KB by default, then one `truncated` line.
    pub log: ByteSize,
    /// Whether a client may ask for the receipt with the header `x-wharf-receipt: 1`.
    pub receipt: bool,
}

impl Default for FunctionConfiguration {
    fn default() -> Self {
        Self {
            description: String::new(),
            memory: None,
            timeout: None,
            fuel: None,
            cpu: None,
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            config: BTreeMap::new(),
            isolation: Isolation::default(),
            pool: Pool::default(),
            concurrency: None,
            outbound: Vec::new(),
            key_value: BTreeMap::new(),
            files: Vec::new(),
            tmp: ByteSize::mb(512),
            response: ByteSize::mb(6),
            outbound_requests: 50,
            outbound_concurrency: 10,
            log: ByteSize::kb(256),
            receipt: false,
        }
    }
}

/// A value of a configuration that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidConfiguration {
    /// The key, as it stands in the manifest.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl FunctionConfiguration {
    /// What an invocation of a function of this kind may use.
    pub fn limits(&self, kind: Kind) -> Limits {
        let default = match kind {
            Kind::HttpP2 | Kind::HttpP3 | Kind::Event | Kind::CommandP2 | Kind::CommandP3 => {
                Limits::FUNCTION
            }
            Kind::Middleware => Limits::MIDDLEWARE,
            Kind::Hook(_) => Limits::HOOK,
        };
        let timeout = self.timeout.unwrap_or(default.timeout);
        Limits {
            memory: self.memory.unwrap_or(default.memory),
            timeout,
            fuel: self.fuel.unwrap_or(default.fuel),
            cpu: self.cpu.or(self.timeout).unwrap_or(default.cpu),
        }
    }

    /// Whether every value is in its range. The first that is not is named.
    pub fn validate(&self) -> Result<(), InvalidConfiguration> {
        let invalid = |key, problem: String| Err(InvalidConfiguration { key, problem });
        if let Some(memory) = self.memory
            && !(ByteSize::mb(1)..=ByteSize::mb(10_240)).contains(&memory)
        {
            return invalid("memory", format!("{memory} is not from 1 MB to 10,240 MB"));
        }
        if let Some(timeout) = self.timeout
            && (timeout.is_zero() || timeout > Duration::from_secs(900))
        {
            return invalid(
                "timeout",
                format!("{timeout:?} is not above 0 and at most 900 s"),
            );
        }
        if self.fuel == Some(0) {
            return invalid("fuel", "0 lets nothing run; give at least 1".to_owned());
        }
        if self.cpu.is_some_and(|cpu| cpu.is_zero()) {
            return invalid(
                "cpu",
                "0 lets nothing run; leave it out for the timeout".to_owned(),
            );
        }
        let environment: usize = self
            .environment
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if environment > MAX_ENVIRONMENT {
            return invalid(
                "environment",
                format!("{environment} bytes are more than the {MAX_ENVIRONMENT} allowed"),
            );
        }
        if !(ByteSize::bytes(0)..=ByteSize::mb(10_240)).contains(&self.tmp) {
            return invalid("tmp", format!("{} is more than 10,240 MB", self.tmp));
        }
        if self.outbound_concurrency == 0 {
            return invalid("outbound_concurrency", "give at least 1".to_owned());
        }
        if let Isolation::Reuse { requests: 0, .. } = self.isolation {
            return invalid(
                "isolation",
                "an instance must serve at least 1 request".to_owned(),
            );
        }
        for grant in &self.files {
            if !grant.mount.starts_with('/') || grant.mount.split('/').any(|part| part == "..") {
                return invalid(
                    "files",
                    format!("mount `{}` is not an absolute path", grant.mount),
                );
            }
            if grant.mount == "/tmp" || grant.mount.starts_with("/tmp/") {
                return invalid("files", "mount `/tmp` is the function's own".to_owned());
            }
        }
        Ok(())
    }
}

/// A function as it is deployed: which code, called how, under which configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The function's name.
    pub name: FunctionName,
    /// The version this is.
    pub version: Version,
    /// The SHA-256 of the component.
    pub code: Digest,
    /// The size of the component in bytes.
    pub code_size: u64,
    /// How it is called.
    pub kind: Kind,
    /// How it runs.
    pub configuration: FunctionConfiguration,
    /// The app whose manifest deployed it, if one did.
    pub app: Option<String>,
    /// When it was deployed: milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
    /// Changes with every change of the function, so that writers see each other.
    pub revision: u64,
    /// What Lambda's API knows of it beside.
    #[serde(default)]
    pub lambda: LambdaSettings,
}

impl Deployment {
    /// What one of its invocations may use.
    pub fn limits(&self) -> Limits {
        self.configuration.limits(self.kind)
    }

    /// The blobs that it refers to: its component, what that came in, and its layers.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let package = self.lambda.package.as_ref().map(|package| package.digest);
        let layers = self.lambda.layers.iter().map(|layer| layer.digest);
        std::iter::once(self.code).chain(package).chain(layers)
    }

    /// Where its log goes, and how it is written. What Lambda's API keeps was held against the service's model.
    pub fn logging(&self) -> LoggingConfig {
        let kept = self.lambda.members.get("LoggingConfig");
        kept.and_then(|kept| LoggingConfig::deserialize(kept).ok())
            .unwrap_or_default()
    }
}

//! The tables of the manifest, in the shape they are written. Their doc comments are what an editor shows.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use super::super::{
    DistributionName, FunctionName, HostPattern, Isolation, PathPattern, Pool, RedirectStatus,
    RedirectTarget,
};
use super::{
    distribution::DistributionTable,
    value::{Place, Size, Stores, Time},
};

/// The manifest of a Wharf app: its functions, routes and distributions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[schemars(title = "wharf.toml")]
pub(super) struct ManifestTable {
    /// The name of the app: 1 to 64 letters, digits, `-` or `_`.
    #[schemars(with = "String", regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub(super) name: FunctionName,
    /// The functions, by name: 1 to 64 letters, digits, `-` or `_`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, FunctionTable>")]
    pub(super) functions: BTreeMap<FunctionName, FunctionTable>,
    /// Which requests get which answer. The most specific route wins; their order has no meaning.
    #[serde(default)]
    pub(super) routes: Vec<RouteTable>,
    /// The sites that the node fronts, by name: 1 to 64 letters, digits, `-` or `_`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, DistributionTable>")]
    pub(super) distributions: BTreeMap<DistributionName, DistributionTable>,
    /// What `wharf up` runs beside the node, such as an origin, by name: 1 to 64 letters, digits, `-` or `_`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ProcessTable>")]
    pub(super) processes: BTreeMap<FunctionName, ProcessTable>,
}

/// A command that `wharf up` starts before the app is deployed and ends when it ends. No other verb runs it.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { command = \"python3 origin.py\" }"
)]
pub(super) struct ProcessTable {
    /// The command, run by `sh`. That it ends by itself is an error.
    pub(super) command: String,
    /// The folder that it is run in, from the manifest's. Default: `.`.
    pub(super) folder: Option<PathBuf>,
}

/// A function: where its code comes from, and how it runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as [functions.hello]")]
pub(super) struct FunctionTable {
    /// What the function is for, in words.
    pub(super) description: Option<String>,
    /// The folder with the source, from the manifest's. Default: `.`, unless there is only a `component`.
    pub(super) source: Option<PathBuf>,
    /// The command that builds the component, run by `sh` in the source folder; `component` says what it makes. Default
    /// for a folder with a `Cargo.toml`: cargo, for wasm32-wasip2.
    pub(super) build: Option<String>,
    /// The component, a file from the manifest's folder: one that is there, or one that the build makes.
    pub(super) component: Option<PathBuf>,
    /// All linear memories and tables of an instance together, from 1 MB to 10240 MB. Default: `128 MB`,
    /// and `16 MB` for request hooks.
    pub(super) memory: Option<Size>,
    /// Wall-clock time of an invocation, host calls included, at most 900 s. Default: `3 s`,
    /// `10 ms` for request hooks, and `60 s` for middleware, which runs as long as its answer streams.
    pub(super) timeout: Option<Time>,
    /// Instructions of an invocation, about one unit each. Default: 10,000,000,000, and 1,000,000 for request hooks.
    #[schemars(range(min = 1))]
    pub(super) fuel: Option<u64>,
    /// Processor time of an invocation. Default: as long as the timeout, and `3 s` for middleware without one of its own.
    pub(super) cpu: Option<Time>,
    /// Environment variables, 4 KB in all.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// Environment variables whose values are read on the node when the function is deployed.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, SecretTable>,
    /// What `wasi:config` answers.
    #[serde(default)]
    pub(super) config: BTreeMap<String, String>,
    /// Whether an instance serves one request (`fresh`) or many (`reuse`). Default: `fresh`.
    pub(super) isolation: Option<IsolationTable>,
    /// How many instances are made ahead of the requests.
    pub(super) pool: Option<PoolTable>,
    /// The most invocations at one moment; 0 switches the function off. Default: the node's limit.
    pub(super) concurrency: Option<u32>,
    /// Places that the function may call although they are not public, such as `api.internal:8080`.
    #[serde(default)]
    pub(super) outbound: Vec<Place>,
    /// The key-value stores that the function may open: a list, or a table from the identifier it uses to the store on
    /// the node.
    pub(super) key_value: Option<Stores>,
    /// Folders of the node that the function may read.
    #[serde(default)]
    pub(super) files: Vec<FileTable>,
    /// How much `/tmp` holds. Default: `512 MB`; at most 10240 MB.
    pub(super) tmp: Option<Size>,
    /// The largest answer of an event function or a command; streams are not limited. Default: `6 MB`.
    pub(super) response: Option<Size>,
    /// Outbound requests of one invocation. Default: 50.
    pub(super) outbound_requests: Option<u32>,
    /// Outbound requests of one invocation at one moment. Default: 10.
    #[schemars(range(min = 1))]
    pub(super) outbound_concurrency: Option<u32>,
    /// What one invocation may log; then comes one `truncated` line. Default: `256 KB`.
    pub(super) log: Option<Size>,
    /// Whether a client gets the receipt of its invocation when it asks with `x-wharf-receipt: 1`. Default: false.
    #[serde(default)]
    pub(super) receipt: bool,
}

/// Where a secret is read: one of `env` and `file`. The manifest does not hold its value.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { env = \"API_KEY\" } or { file = \"secrets/key\" }"
)]
#[schemars(extend("oneOf" = [{ "required": ["env"] }, { "required": ["file"] }]))]
pub(super) struct SecretTable {
    /// An environment variable.
    pub(super) env: Option<String>,
    /// A file, from the manifest's folder; one newline at its end is not part of the secret.
    pub(super) file: Option<PathBuf>,
}

/// Whether an instance serves one request or many.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum IsolationTable {
    /// In a word.
    Word(IsolationWord),
    /// Many, up to a count and an age.
    Reuse(ReuseTable),
}

#[derive(Clone, Copy, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum IsolationWord {
    /// One request an instance, then it is dropped.
    Fresh,
    /// Requests one after another, up to 10,000 or for an hour.
    Reuse,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ReuseTable {
    /// The most requests one instance serves. Default: 10,000.
    #[schemars(range(min = 1))]
    requests: Option<u32>,
    /// The oldest an instance gets. Default: `1 h`.
    age: Option<Time>,
}

impl<'de> Deserialize<'de> for IsolationTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IsolationVisitor;

        impl<'de> Visitor<'de> for IsolationVisitor {
            type Value = IsolationTable;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("\"fresh\", \"reuse\" or { requests = 1000, age = \"10 min\" }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<IsolationTable, E> {
                match word {
                    "fresh" => Ok(IsolationTable::Word(IsolationWord::Fresh)),
                    "reuse" => Ok(IsolationTable::Word(IsolationWord::Reuse)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<IsolationTable, A::Error> {
                ReuseTable::deserialize(MapAccessDeserializer::new(map)).map(IsolationTable::Reuse)
            }
        }

        deserializer.deserialize_any(IsolationVisitor)
    }
}

impl From<IsolationTable> for Isolation {
    fn from(table: IsolationTable) -> Self {
        let table = match table {
            IsolationTable::Word(IsolationWord::Fresh) => return Self::Fresh,
            IsolationTable::Word(IsolationWord::Reuse) => return Self::REUSE,
            IsolationTable::Reuse(table) => table,
        };
        match Self::REUSE {
            Self::Fresh => Self::Fresh,
            Self::Reuse { requests, age } => Self::Reuse {
                requests: table.requests.unwrap_or(requests),
                age: table.age.map_or(age, |time| time.0),
            },
        }
    }
}

/// How many instances are made ahead of the requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as { min = 2 }")]
pub(super) struct PoolTable {
    /// Kept ready however quiet it is. Default: 0.
    #[serde(default)]
    min: u32,
}

impl From<PoolTable> for Pool {
    fn from(table: PoolTable) -> Self {
        Self { min: table.min }
    }
}

/// A folder of the node that a function may read.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { source = \"static\", mount = \"/static\" }"
)]
pub(super) struct FileTable {
    /// The folder, from the manifest's.
    pub(super) source: PathBuf,
    /// Where the function sees it, an absolute path such as `/static`.
    pub(super) mount: String,
    /// Whether the function may write there too. Default: false.
    #[serde(default)]
    pub(super) writable: bool,
}

/// Which requests get which answer: one of `function`, `response` and `redirect`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as [[routes]]")]
#[schemars(extend("oneOf" = [
    { "required": ["function"] },
    { "required": ["response"] },
    { "required": ["redirect"] },
]))]
pub(super) struct RouteTable {
    /// The host, such as `example.com`, or `*.example.com` for all hosts under it. Default: every host.
    #[schemars(with = "Option<String>")]
    pub(super) host: Option<HostPattern>,
    /// The path. A segment may be a parameter, as in `/users/{id}`; the last may be all that follow, as in
    /// `/files/{*rest}`.
    #[schemars(with = "String", regex(pattern = "^/"))]
    pub(super) path: PathPattern,
    /// The methods; `GET` includes `HEAD`. Default: every method.
    #[serde(default)]
    pub(super) methods: Vec<String>,
    /// Answer with what this function of the manifest answers.
    #[schemars(with = "Option<String>")]
    pub(super) function: Option<FunctionName>,
    /// Answer with the same response each time.
    pub(super) response: Option<ResponseTable>,
    /// Answer that the client should ask elsewhere.
    pub(super) redirect: Option<RedirectTable>,
}

/// A response that is the same each time.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { status = 404, body = \"not here\" }"
)]
pub(super) struct ResponseTable {
    /// The status, 200 to 599. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    pub(super) status: Option<u16>,
    /// The header fields. `content-type` is `text/plain; charset=utf-8` unless it is set here.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The body. Default: none.
    #[serde(default)]
    pub(super) body: String,
}

/// A response that sends the client elsewhere.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as { to = \"/new\" }")]
pub(super) struct RedirectTable {
    /// Where: a path or an http(s) URL. `{name}` stands for the parameter of that name in the route's path. The query
    /// of the request is kept, unless this has its own.
    #[schemars(with = "String")]
    pub(super) to: RedirectTarget,
    /// How: 301, 302, 303, 307 or 308. Default: 302.
    #[schemars(with = "Option<u16>", extend("enum" = [301, 302, 303, 307, 308]))]
    pub(super) status: Option<RedirectStatus>,
}

//! The tables of a distribution, in the shape they are written. Their doc comments are what an editor shows.

use std::{collections::BTreeMap, fmt, marker::PhantomData, path::PathBuf};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, IntoDeserializer, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::super::{
    super::{
        Coding, Country, FunctionName,
        distribution::{OriginProtocol, PathGlob},
    },
    value::{Host, NetworkText, Size, Statuses, Time},
};

/// A site that the node fronts: hosts, origins, and what requests for which paths get.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as [distributions.site]"
)]
pub(in super::super) struct DistributionTable {
    /// The hosts, such as `www.example.com`, or `*.example.com` for all hosts under it. At least 1, at most 100.
    pub(super) hosts: Vec<Host>,
    /// What is presented to viewers over TLS: `automatic`, or files. Default: what the node has.
    pub(super) certificate: Option<Named<AutomaticWord, CertificateTable>>,
    /// The origins, by name: 1 to 64 letters, digits, `-` or `_`. At most 100.
    #[serde(default)]
    pub(super) origins: BTreeMap<String, OriginTable>,
    /// What requests for some paths get. The first that has the path is taken, in the order of the file. At most 100.
    #[serde(default)]
    pub(super) behaviours: Vec<BehaviourTable>,
    /// What all other requests get.
    pub(super) default: BehaviourTable,
}

/// A certificate that the node gets from an authority, by ACME.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AutomaticWord {
    /// The node gets one for the hosts, and another before it ends.
    Automatic,
}

impl<'de> Deserialize<'de> for AutomaticWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "automatic" => Ok(Self::Automatic),
            // A file's name is what one writes here by mistake.
            _ => Err(de::Error::custom(format!(
                "`{word}` is neither {}",
                CertificateTable::WANTED.replacen(" or ", " nor ", 1)
            ))),
        }
    }
}

/// A certificate and its key.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { chain = \"site.pem\", key = \"site.key\" }"
)]
pub(super) struct CertificateTable {
    /// The certificate and those between it and an authority: a PEM file, from the manifest's folder.
    pub(super) chain: PathBuf,
    /// The private key: a PEM file, from the manifest's folder.
    pub(super) key: PathBuf,
}

impl Wanted for CertificateTable {
    const WANTED: &'static str =
        "\"automatic\", or a table, such as { chain = \"site.pem\", key = \"site.key\" }";
}

/// One or more servers that give the same answers.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { servers = [\"https://origin.example.com\"] }"
)]
pub(super) struct OriginTable {
    /// The servers. At least 1, at most 64.
    pub(super) servers: Vec<Named<String, ServerTable>>,
    /// The `Host` that is sent. Default: the host of the server's URL.
    pub(super) host: Option<String>,
    /// Whether the viewer's host is sent instead. Default: false.
    #[serde(default)]
    pub(super) forward_host: bool,
    /// The version of HTTP: `auto` is what ALPN chooses over TLS, else HTTP/1.1. Default: `auto`.
    #[serde(default)]
    #[schemars(with = "ProtocolWord")]
    pub(super) protocol: OriginProtocol,
    /// How the certificate is checked. It always is.
    pub(super) tls: Option<TlsTable>,
    /// How long the origin is waited for.
    pub(super) timeouts: Option<TimeoutsTable>,
    /// Further attempts of a request that may be sent twice. Default: 1; at most 10.
    #[schemars(range(max = 10))]
    pub(super) retries: Option<u32>,
    /// Connections to a server at one moment; more requests wait. Default: 1024; at most 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) connections: Option<u32>,
    /// How servers are asked whether they are well. Default: they are not.
    pub(super) health: Option<HealthTable>,
    /// When a server that fails requests is left alone.
    pub(super) ejection: Option<EjectionTable>,
    /// Statuses, 400 to 599, of a server that is no backup, that send an idempotent request to the backups. Default: none.
    #[serde(default)]
    pub(super) failover: Vec<u16>,
    /// Header fields that are added to every request, at most 50.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Whether servers may have private addresses. Default: false.
    #[serde(default)]
    pub(super) private: bool,
}

/// A server of an origin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerTable {
    /// `http://` or `https://`, a host, perhaps a port, and perhaps a path that goes before every path.
    pub(super) url: String,
    /// Its share of the requests, beside the others' weights; 0 is none. Default: 1; at most 1000.
    #[schemars(range(max = 1000))]
    pub(super) weight: Option<u32>,
    /// Whether it is asked only where the others fail. Default: false.
    #[serde(default)]
    pub(super) backup: bool,
}

impl Wanted for ServerTable {
    const WANTED: &'static str =
        "a server, such as \"https://origin.example.com\" or { url = \"…\", weight = 2 }";
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum ProtocolWord {
    /// What ALPN chooses over TLS, else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, on clear text too.
    Http2,
}

/// How the certificate of an origin is checked.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { ca = \"ca.pem\" }"
)]
pub(super) struct TlsTable {
    /// The name in the certificate. Default: the host of the server's URL.
    pub(super) server_name: Option<String>,
    /// Authorities that are trusted beside the public ones: a PEM file, from the manifest's folder. Default: none.
    pub(super) ca: Option<PathBuf>,
}

/// How long an origin is waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { first_byte = \"10 s\" }"
)]
pub(super) struct TimeoutsTable {
    /// Until there is a connection. Default: `3 s`; at most 1 min.
    pub(super) connect: Option<Time>,
    /// From the request to the head of the answer. Default: `30 s`; at most 15 min.
    pub(super) first_byte: Option<Time>,
    /// Between two reads or writes. Default: `30 s`; at most 1 h.
    pub(super) idle: Option<Time>,
}

/// How a server is asked whether it is well.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { path = \"/healthz\" }"
)]
pub(super) struct HealthTable {
    /// The path that is asked for.
    #[schemars(regex(pattern = "^/"))]
    pub(super) path: String,
    /// The time between two checks. Default: `10 s`; 1 s to 1 h.
    pub(super) interval: Option<Time>,
    /// How long an answer may take. Default: `2 s`; at most the interval.
    pub(super) timeout: Option<Time>,
    /// Good answers in a row until a sick server is well. Default: 2; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(super) healthy: Option<u32>,
    /// Bad answers in a row until a well server is sick. Default: 3; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(super) unhealthy: Option<u32>,
    /// The statuses of a good answer. Default: `200-399`.
    pub(super) statuses: Option<Statuses>,
}

/// When a server that fails requests is left alone, and for how long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as { failures = 10 }")]
pub(super) struct EjectionTable {
    /// Failures in a row; 0 is never, and then connecting is tried again for each request too. Default: 5; at most 1000.
    #[schemars(range(max = 1000))]
    pub(super) failures: Option<u32>,
    /// How long the first time, doubled each time after. Default: `10 s`; 1 s to 1 h.
    pub(super) duration: Option<Time>,
    /// The longest. Default: `5 min`; at most 1 d.
    pub(super) maximum: Option<Time>,
}

/// What requests get: from `origin` or `function`, one of them.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { origin = \"main\" }"
)]
#[schemars(extend("oneOf" = [{ "required": ["origin"] }, { "required": ["function"] }]))]
pub(super) struct BehaviourTable {
    /// The paths, for all but `default`: `*` is any run of characters and `?` one, as in `/api/*` or `*.jpg`. Case counts;
    /// a leading `/` may be left out; the query is not looked at.
    #[schemars(with = "Option<String>", length(min = 1, max = 255))]
    pub(super) path: Option<PathGlob>,
    /// The origin of the distribution that answers.
    pub(super) origin: Option<String>,
    /// The function of the manifest that answers.
    #[schemars(with = "Option<String>")]
    pub(super) function: Option<FunctionName>,
    /// The methods that may be used; `GET` includes `HEAD`. Default: `GET`, `HEAD`, `OPTIONS`.
    pub(super) methods: Option<Vec<String>>,
    /// What is kept, and for how long; `false` for nothing. Default: `true`.
    pub(super) cache: Option<Switch<CacheTable>>,
    /// Whether answers are compressed, and which. Default: `false`.
    pub(super) compress: Option<Switch<CompressTable>>,
    /// Functions that the request and its answer pass.
    #[serde(default)]
    pub(super) hooks: HooksTable,
    /// What is changed in the header fields of answers.
    #[serde(default)]
    pub(super) response_headers: ResponseHeadersTable,
    /// Until the head of the answer is there, hooks and further attempts included. Default: `60 s`; at most 15 min.
    pub(super) timeout: Option<Time>,
    /// The largest body of a request. Default: `100 MB`.
    pub(super) request_body: Option<Size>,
    /// How often a client may ask. Default: as often as it can.
    pub(super) rate_limit: Option<RateLimitTable>,
    /// Who may ask. Default: everybody.
    #[serde(default)]
    pub(super) access: AccessTable,
    /// Whether a viewer who comes without TLS is sent to `https`. Default: false.
    #[serde(default)]
    pub(super) redirect_to_https: bool,
    /// Whether a viewer may have a WebSocket to the origin. Default: false.
    #[serde(default)]
    pub(super) websockets: bool,
}

/// What is kept, and for how long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheTable {
    /// An answer is fresh for at least this long, whatever it says. Default: `0 s`.
    pub(super) minimum: Option<Time>,
    /// An answer is fresh for this long where it does not say. Default: the
    /// heuristic of RFC 9111 where it tells when it was changed, else none.
    pub(super) default: Option<Time>,
    /// An answer is fresh for at most this long, whatever it says. Default: `365 d`, which is also the most.
    pub(super) maximum: Option<Time>,
    /// Header fields of the request that choose the answer, beside method and URL. Default: none; at most 50.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// Parameters of the query that choose the answer: all (`true`), none (`false`), a list, or all but some
    /// (`{ except = [] }`). Default: `true`; at most 50 names.
    pub(super) query: Option<Choice<String>>,
    /// Cookies that choose the answer, as for `query`. Default: `false`.
    pub(super) cookies: Option<Choice<String>>,
    /// Freshness of answers with these statuses, 400 to 599, that do not say it. Default: none.
    #[serde(default)]
    pub(super) negative: BTreeMap<String, Time>,
    /// For how long a stale answer may be served while a new one is fetched, where it does not say. Default: `0 s`.
    pub(super) stale_while_revalidate: Option<Time>,
    /// For how long a stale answer may be served because the origin fails, where it does not say. Default: `0 s`.
    pub(super) stale_if_error: Option<Time>,
    /// The largest answer that is kept; larger ones stream through. Default: `1 GB`.
    pub(super) max_object: Option<Size>,
    /// Whether `Cache-Control` and `Pragma` of requests are passed over, so that a client cannot force a request to the
    /// origin. Default: false.
    #[serde(default)]
    pub(super) ignore_client: bool,
    /// Whether clients see `Cache-Tag` and `Surrogate-Key`. Default: false.
    #[serde(default)]
    pub(super) expose_tags: bool,
}

impl Wanted for CacheTable {
    const WANTED: &'static str = "true, false or a table, such as { default = \"1 min\" }";
}

/// Which answers are compressed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompressTable {
    /// The codings, the preferred first: `br`, `zstd`, `gzip`. Default: all three in this order.
    #[schemars(with = "Option<Vec<CodingWord>>")]
    pub(super) codings: Option<Vec<Coding>>,
    /// Smaller answers stay as they are. Default: `1 KB`.
    pub(super) minimum: Option<Size>,
    /// The media types, such as `application/json` or `text/*`. Default: those that get smaller. At most 100.
    pub(super) types: Option<Vec<String>>,
}

impl Wanted for CompressTable {
    const WANTED: &'static str = "true, false or a table, such as { codings = [\"br\", \"gzip\"] }";
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum CodingWord {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

/// Functions that a request and its answer pass, at most 10 at each point. They run in their order.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table, such as { viewer_request = [\"auth\"] }"
)]
pub(super) struct HooksTable {
    /// When a request has come, before the cache is asked.
    pub(super) viewer_request: Vec<Named<HookName, HookTable>>,
    /// When the cache does not have the answer, before the origin or function is asked.
    pub(super) origin_request: Vec<Named<HookName, HookTable>>,
    /// Middleware (`wasi:http/handler@0.3`, exported and imported) around what answers, the outermost first. What they make of
    /// an answer is what is stored.
    pub(super) transform: Vec<HookName>,
    /// When the origin or function has answered, before the answer is stored.
    pub(super) origin_response: Vec<Named<HookName, HookTable>>,
    /// Before an answer is sent, wherever it is from.
    pub(super) viewer_response: Vec<Named<HookName, HookTable>>,
}

/// The name of a function of the manifest.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct HookName(#[schemars(with = "String")] pub(super) FunctionName);

/// A function at a point.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookTable {
    /// The function of the manifest.
    #[schemars(with = "String")]
    pub(super) function: FunctionName,
    /// What becomes of a request whose hook traps or is too slow: `fail`, or go on without (`bypass`). Default: `fail`.
    #[serde(default)]
    pub(super) on_failure: OnFailureWord,
    /// How much of the body it is given, at most `1 MB`; at `origin_request` and `origin_response` alone. Default: nothing.
    pub(super) body: Option<Size>,
}

impl Wanted for HookTable {
    const WANTED: &'static str =
        "a hook, such as \"auth\" or { function = \"auth\", on_failure = \"bypass\" }";
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnFailureWord {
    /// The request fails too.
    #[default]
    Fail,
    /// The request goes on as if the hook were not there.
    Bypass,
}

/// What is changed in the header fields of answers, from the cache or not.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table, such as { set = { x-edge = \"wharf\" } }"
)]
pub(super) struct ResponseHeadersTable {
    /// Fields that tell browsers to be careful, where the answer does not have them. Default: `false`.
    pub(super) security: Option<Switch<SecurityTable>>,
    /// What pages of other origins may do; then the node answers preflight requests itself. Default: left to the origin.
    pub(super) cors: Option<CorsTable>,
    /// Fields that are taken out, at most 50.
    pub(super) remove: Vec<String>,
    /// Fields that are set, whatever the answer has, at most 50.
    pub(super) set: BTreeMap<String, String>,
}

/// Fields that tell browsers to be careful.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecurityTable {
    /// `Strict-Transport-Security`, over TLS alone. Default: `true`, which is for 365 days.
    pub(super) hsts: Option<Switch<HstsTable>>,
    /// `X-Content-Type-Options: nosniff`. Default: true.
    pub(super) nosniff: Option<bool>,
    /// `X-Frame-Options`. Default: `sameorigin`.
    pub(super) frame_options: Option<FrameWord>,
    /// `Referrer-Policy`. Default: `strict-origin-when-cross-origin`.
    pub(super) referrer_policy: Option<ReferrerWord>,
    /// `Content-Security-Policy`. Default: none.
    pub(super) content_security_policy: Option<String>,
}

impl Wanted for SecurityTable {
    const WANTED: &'static str = "true, false or a table, such as { frame_options = \"deny\" }";
}

/// For how long browsers use TLS alone for the host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HstsTable {
    /// How long. Default: `365 d`.
    pub(super) max_age: Option<Time>,
    /// Whether for the hosts under it too. Default: false.
    #[serde(default)]
    pub(super) subdomains: bool,
    /// Whether browsers may know it before their first visit. Default: false.
    #[serde(default)]
    pub(super) preload: bool,
}

impl Wanted for HstsTable {
    const WANTED: &'static str = "true, false or a table, such as { max_age = \"365 d\" }";
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FrameWord {
    /// Nobody may show the page in a frame.
    Deny,
    /// Pages of the same origin may.
    Sameorigin,
    /// The field is not added.
    Off,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReferrerWord {
    NoReferrer,
    NoReferrerWhenDowngrade,
    Origin,
    OriginWhenCrossOrigin,
    SameOrigin,
    StrictOrigin,
    StrictOriginWhenCrossOrigin,
    UnsafeUrl,
    /// The field is not added.
    Off,
}

/// What pages of other origins may do (Fetch standard, "CORS protocol").
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { allow_origins = [\"https://app.example.com\"] }"
)]
pub(super) struct CorsTable {
    /// The origins, such as `https://app.example.com`; `*` is all.
    pub(super) allow_origins: Vec<String>,
    /// The methods they may use beside those that need no leave; `*` is all. Default: none.
    #[serde(default)]
    pub(super) allow_methods: Vec<String>,
    /// The header fields they may send; `*` is all. Default: none.
    #[serde(default)]
    pub(super) allow_headers: Vec<String>,
    /// The header fields of an answer that they may see; `*` is all. Default: none.
    #[serde(default)]
    pub(super) expose_headers: Vec<String>,
    /// Whether they may send cookies and other credentials; then nothing is `*`. Default: false.
    #[serde(default)]
    pub(super) allow_credentials: bool,
    /// For how long a browser may remember all this. Default: what the browser likes; at most 1 d.
    pub(super) max_age: Option<Time>,
}

/// How often a client, which is an address, may ask.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table, such as { requests = 100, per = \"1 s\" }"
)]
pub(super) struct RateLimitTable {
    /// So many requests, at least 1,
    #[schemars(range(min = 1))]
    pub(super) requests: u32,
    /// in so much time. Default: `1 s`; at most 1 d.
    pub(super) per: Option<Time>,
    /// So many at once after a quiet time. Default: as many as `requests`.
    #[schemars(range(min = 1))]
    pub(super) burst: Option<u32>,
}

/// Who may ask.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table, such as { allow = [\"10.0.0.0/8\"] }"
)]
pub(super) struct AccessTable {
    /// The networks or addresses that may. Default: all; at most 1000.
    pub(super) allow: Vec<NetworkText>,
    /// The networks or addresses that may not, even if they are within one that may. Default: none; at most 1000.
    pub(super) deny: Vec<NetworkText>,
    /// The countries that may, by two letters: a list, or all but some (`{ except = ["XX"] }`). Default: all.
    pub(super) countries: Option<Choice<CountryName>>,
}

/// A country by its two letters (ISO 3166-1 alpha-2).
#[derive(Deserialize, JsonSchema)]
pub(super) struct CountryName(
    #[schemars(with = "String", regex(pattern = "^[A-Za-z]{2}$"))] pub(super) Country,
);

/// What is written in place of a value, in words.
pub(super) trait Wanted {
    /// Completes "… is not …".
    const WANTED: &'static str;
}

/// On, off, or on as a table says.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum Switch<T> {
    /// On as by default, or off.
    Word(bool),
    /// On.
    Table(T),
}

impl<'de, T: DeserializeOwned + Wanted> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned + Wanted> Visitor<'de> for SwitchVisitor<T> {
            type Value = Switch<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(T::WANTED)
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<Switch<T>, E> {
                Ok(Switch::Word(word))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Switch::Table)
            }
        }

        deserializer.deserialize_any(SwitchVisitor(PhantomData))
    }
}

/// A text, or a table that says more.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum Named<S, T> {
    /// In short.
    Text(S),
    /// In full.
    Table(T),
}

impl<'de, S: DeserializeOwned, T: DeserializeOwned + Wanted> Deserialize<'de> for Named<S, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<S, T>(PhantomData<(S, T)>);

        impl<'de, S, T> Visitor<'de> for NamedVisitor<S, T>
        where
            S: DeserializeOwned,
            T: DeserializeOwned + Wanted,
        {
            type Value = Named<S, T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(T::WANTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Named<S, T>, E> {
                S::deserialize(text.into_deserializer()).map(Named::Text)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Named<S, T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Named::Table)
            }
        }

        deserializer.deserialize_any(NamedVisitor(PhantomData))
    }
}

/// All, none, some, or all but some.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum Choice<T> {
    /// All, or none.
    Word(bool),
    /// These.
    Only(Vec<T>),
    /// All but these.
    Except(ExceptTable<T>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct ExceptTable<T> {
    /// All but these.
    pub(super) except: Vec<T>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for ChoiceVisitor<T> {
            type Value = Choice<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false, a list of names or { except = [\"name\"] }")
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<Choice<T>, E> {
                Ok(Choice::Word(word))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Choice<T>, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Choice::Only)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Choice<T>, A::Error> {
                ExceptTable::deserialize(MapAccessDeserializer::new(map)).map(Choice::Except)
            }
        }

        deserializer.deserialize_any(ChoiceVisitor(PhantomData))
    }
}

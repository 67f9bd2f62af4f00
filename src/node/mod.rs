//! The node: binds everything, wires it, runs, drains. The only place that knows all parts.
//!
//! [`Node::bind`] gets every error out before anything is served; [`Node::run`] serves until it is told to stop. Beside
//! what listens run `follow`, which turns the catalog into what is served, and `sweep`, which removes what nothing
//! needs any more.

mod follow;
mod known;
mod sweep;
mod url;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use http::{Request, Response};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    acme::{Acme, AcmeSettings},
    control::{
        self, Access, Bodies, CREDENTIALS_FILE, Credentials, Doors, Identities, Peer, Readiness,
        Token,
        code::{Layers, Registries, RegistrySettings, S3, S3Settings, Sources},
        verbs::Control,
    },
    edge::{
        Countries, Edge,
        cache::{Cache, CacheConfig, DiskConfig},
    },
    events::{self, Served, Worker},
    ingress::{
        ConnectionInfo, Counter, DataPlane, Handler, ListenerStats, RequestBody, Server,
        ServerConfig, TlsConfig, sanitize,
    },
    invoke::Invoke,
    model::{Arns, ByteSize, Network, RequestId, Vpc},
    router::Router,
    runtime::{CompileLimits, EngineSettings, Runtime, RuntimeSettings},
    store::{Blobs, Catalog, DataFolder, Folders, KeyValueLimits, Queue, Sqlite, archive::Backups},
    telemetry::{
        access::{AccessLog, AccessLogSettings},
        logs::{LogLimits, Logs},
        metrics::Metrics,
    },
    tls::Challenges,
};

use follow::Follower;
use known::Known;
use sweep::Sweeper;
use url::UrlAccess;

/// How a node is set up. Resolved: where each value comes from is the command line's business.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The folder of everything that outlives the process.
    pub data: PathBuf,
    /// Where functions answer.
    pub http: SocketAddr,
    /// Where they answer with TLS, and certificates.
    pub https: Option<(SocketAddr, TlsConfig)>,
    /// Proxies before functions and distributions that may say for whom they speak.
    pub trusted_proxies: Vec<Network>,
    /// Where the API answers.
    pub api: SocketAddr,
    /// The region that calls of the API are signed for, and that stands in ARNs.
    pub region: String,
    /// The account that stands in ARNs: twelve digits.
    pub account: String,
    /// Whether functions are taken only with roles that are here and that Lambda may assume.
    pub check_roles: bool,
    /// A domain under which every function answers as `NAME.DOMAIN`, beside `NAME.localhost`.
    pub domain: Option<String>,
    /// What is beside the node and not public, and functions may be opened to.
    pub vpc: Vpc,
    /// The cache of distributions.
    pub cache: CacheConfig,
    /// A database of countries, in MaxMind's format.
    pub countries: Option<PathBuf>,
    /// The program that compiles components: this one.
    pub compiler: PathBuf,
    /// Invocations at one moment (Lambda's account limit: 1,000).
    pub concurrency: u32,
    /// The engine's pools.
    pub engine: EngineSettings,
    /// Bytes of compiled code kept in memory.
    pub component_cache: u64,
    /// Where a line for each request goes; none are written without.
    pub access_log: Option<AccessLogSettings>,
    /// How long requests in flight may go on after the first signal.
    pub grace: Duration,
    /// How asynchronous invocations are run.
    pub events: events::Settings,
    /// How long a component is kept that nothing refers to.
    pub unused: Duration,
    /// Where packages are fetched from that are in S3.
    pub s3: Option<S3Settings>,
    /// How components are fetched from registries.
    pub registries: RegistrySettings,
    /// Where automatic certificates come from, if the node gets any.
    pub acme: Option<AcmeSettings>,
}

impl NodeConfig {
    /// The defaults, with everything under `data`.
    pub fn new(data: PathBuf, compiler: PathBuf) -> Self {
        let cache = data.join("cache");
        Self {
            data,
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            https: None,
            trusted_proxies: Vec::new(),
            api: SocketAddr::from(([127, 0, 0, 1], 9080)),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            check_roles: false,
            domain: None,
            cache: CacheConfig {
                disk: Some(DiskConfig {
                    folder: cache,
                    capacity: ByteSize::mb(1024),
                }),
                ..CacheConfig::default()
            },
            countries: None,
            vpc: Vpc::default(),
            compiler,
            concurrency: 1000,
            engine: EngineSettings::default(),
            component_cache: 1 << 30,
            access_log: None,
            grace: Duration::from_secs(30),
            events: events::Settings::default(),
            unused: Duration::from_secs(3600),
            s3: None,
            registries: RegistrySettings::default(),
            acme: None,
        }
    }
}

/// A node that is bound and not yet serving.
pub struct Node {
    http: Server,
    https: Option<Server>,
    api: Server,
    plane: Arc<DataPlane>,
    control: control::Service,
    readiness: Arc<Readiness>,
    worker: Worker<Served>,
    grace: Duration,
    credentials_file: PathBuf,
    follower: Follower,
    sweeper: Sweeper,
    countries: Option<Countries>,
    edge: Arc<Edge>,
    access_log: Option<Arc<AccessLog>>,
    acme: Option<Acme>,
}

impl Node {
    /// Opens the store, starts the engine, binds the listeners and loads what is deployed. Whatever is wrong comes out here.
    ///
    /// # Errors
    ///
    /// An address is taken, the data folder cannot be used or is another node's, the engine does not start.
    pub async fn bind(config: NodeConfig) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let access_log = config.access_log.as_ref().map(AccessLog::open);
        let access_log = access_log.transpose()?.map(Arc::new);
        let folder = DataFolder::open(&config.data).context("open the data folder")?;
        let store =
            Arc::new(Sqlite::open(&folder, KeyValueLimits::default()).context("open the store")?);
        let blobs = Arc::new(Blobs::open(&folder).context("open the components")?);
        let logs =
            Logs::open(config.data.join("logs"), LogLimits::default()).context("open the logs")?;
        let logs = Arc::new(logs);
        let token = Token::open(&config.data).context("open the API's token")?;
        let credentials_file = config.data.join(CREDENTIALS_FILE);
        let credentials = Credentials::open(&config.data, &config.region, &config.account)
            .with_context(|| format!("open the API's users in {}", credentials_file.display()))?;
        let arns = Arns {
            region: config.region.clone(),
            account: config.account.clone(),
        };
        let sealer = store.sealer().clone();
        let catalog: Arc<dyn Catalog> = store.clone();
        let identities = Identities::new(
            credentials,
            catalog.clone(),
            sealer.clone(),
            config.account.clone(),
        );
        let access = Arc::new(Access {
            token,
            identities: Arc::new(identities),
            region: config.region,
            bodies: Bodies::default(),
        });
        let runtime = Runtime::start(
            RuntimeSettings {
                engine: config.engine,
                components: config.component_cache,
                slot_wait: Duration::from_secs(1),
                artifacts: config.data.join("artifacts"),
                compiler: config.compiler,
                compile: CompileLimits::default(),
                tmp: config.data.join("tmp"),
                arn_prefix: arns.lambda(),
                vpc: config.vpc.clone(),
            },
            store.clone(),
            metrics.node().clone(),
            blobs.clone(),
        )?;
        let folders = Folders::open(&folder).context("open the layers")?;
        let layers = Layers::new(folders, blobs.clone(), runtime.clone());
        let sources = Sources {
            layers: layers.clone(),
            s3: S3::new(config.s3).context("set up TLS for S3")?,
            registries: Registries::new(config.registries).context("set up TLS for registries")?,
        };
        let server = |address| ServerConfig {
            grace: config.grace,
            ..ServerConfig::new(address)
        };
        let challenges = Arc::<Challenges>::default();
        let trusted_proxies: Arc<[Network]> = config.trusted_proxies.into();
        let http = Server::bind(ServerConfig {
            trusted_proxies: trusted_proxies.clone(),
            ..server(config.http)
        })?;
        let https = config
            .https
            .map(|(address, tls)| {
                let challenges = challenges.clone();
                Server::bind(ServerConfig {
                    tls: Some(TlsConfig { challenges, ..tls }),
                    trusted_proxies,
                    ..server(address)
                })
            })
            .transpose()?;
        let api = Server::bind(server(config.api))?;

        let invoke = Invoke::new(
            runtime.clone(),
            config.concurrency,
            logs.clone(),
            metrics.clone(),
        );
        let countries = match &config.countries {
            Some(path) => Some(Countries::open(path)?),
            None => None,
        };
        let cache = Cache::open(config.cache).await.context("open the cache")?;
        let edge = Edge::new(
            invoke.clone(),
            cache,
            &edge_name(),
            countries.clone(),
            metrics.clone(),
        )
        .context("name this node in CDN-Loop")?;
        let empty =
            Router::new(std::iter::empty(), std::iter::empty(), None).context("route nothing")?;
        let urls = Arc::new(UrlAccess::new(access.clone(), arns.clone()));
        let plane = Arc::new(DataPlane::new(
            empty,
            invoke.clone(),
            edge.clone(),
            metrics.node().clone(),
            challenges.clone(),
            access_log.clone(),
            urls.clone(),
        ));
        let queue: Arc<dyn Queue> = store.clone();
        let backups = Backups::new(folder, store, blobs.clone());
        let (served, watching) = watch::channel(0);
        let mut follower = Follower {
            catalog: catalog.clone(),
            invoke: invoke.clone(),
            plane: plane.clone(),
            urls,
            metrics: metrics.clone(),
            logs: logs.clone(),
            runtime: runtime.clone(),
            layers: layers.clone(),
            domain: config.domain.clone(),
            arns: arns.clone(),
            served,
            known: Known::default(),
            edge: edge.clone(),
            distributions: BTreeMap::new(),
            sealer: sealer.clone(),
            certificates: https.as_ref().and_then(Server::certificates).cloned(),
            pairs: BTreeMap::new(),
            lacking: BTreeSet::new(),
        };
        control::mend_layers(&*catalog, &layers).await;
        follower.serve().await.context("load what is deployed")?;
        if follower
            .certificates
            .as_ref()
            .is_some_and(|certificates| certificates.is_empty())
        {
            tracing::warn!(
                "no TLS handshake succeeds: there is no folder of certificates, and no distribution brings one yet"
            );
        }
        let sweeper = Sweeper {
            catalog: catalog.clone(),
            invoke: invoke.clone(),
            blobs: blobs.clone(),
            runtime: runtime.clone(),
            layers: layers.clone(),
            unused: config.unused,
        };
        let acme = match config.acme {
            Some(settings) => {
                let acme = Acme::new(settings, catalog.clone(), sealer.clone(), challenges);
                Some(acme.context("set up automatic certificates")?)
            }
            None => {
                let wanted = follower.want_certificates();
                if !wanted.is_empty() {
                    tracing::warn!(
                        distributions = ?wanted,
                        "automatic certificates are not renewed, for want of --acme-agree"
                    );
                }
                None
            }
        };
        let worker = Worker::new(
            queue.clone(),
            Served {
                invoke: invoke.clone(),
                catalog: catalog.clone(),
            },
            events::Settings {
                // More would only be refused by the node.
                concurrency: config.events.concurrency.min(config.concurrency as usize),
                ..config.events
            },
            events::wall_clock(),
        );
        follower.compile_missing();
        let control = Control {
            catalog,
            queue,
            blobs,
            backups,
            runtime,
            invoke,
            logs,
            served: watching,
            doors: Doors {
                http: http.local_addr(),
                https: https.as_ref().map(Server::local_addr),
                domain: config.domain,
            },
            arns,
            sealer,
            sources,
            vpc: config.vpc,
            edge: edge.clone(),
            acme: acme.is_some(),
            check_roles: config.check_roles,
        };
        control.register(&metrics);
        if let Some(log) = access_log.clone() {
            metrics.register_counter(
                "wharf_access_log_lines_lost",
                "Lines of the access log that came faster than they could be written, or could not be",
                Box::new(move || log.lost()),
            );
        }
        let listeners = std::iter::once(&http).chain(&https);
        register_listeners(&metrics, &listeners.map(Server::stats).collect());
        let readiness = Arc::<Readiness>::default();
        let control = control::service(control, access, readiness.clone(), metrics);
        Ok(Self {
            http,
            https,
            api,
            plane,
            control,
            readiness,
            worker,
            grace: config.grace,
            credentials_file,
            follower,
            sweeper,
            countries,
            edge,
            access_log,
            acme,
        })
    }

    /// Where functions answer.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// Where functions answer with TLS.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(Server::local_addr)
    }

    /// Where the API answers.
    pub fn api_addr(&self) -> SocketAddr {
        self.api.local_addr()
    }

    /// The access keys that the API's calls are signed with, as AWS clients read them.
    pub fn credentials_file(&self) -> &Path {
        &self.credentials_file
    }

    /// Serves until `shutdown`. Then readiness fails, no connection is accepted, and what is in flight ends within the
    /// grace period. The API goes last, so that whoever deploys sees the end.
    pub async fn run(self, shutdown: CancellationToken) {
        let api_shutdown = CancellationToken::new();
        let api = tokio::spawn(
            self.api
                .run(Arc::new(Api(self.control)), api_shutdown.clone()),
        );
        let following = tokio::spawn(self.follower.run());
        let sweeping = tokio::spawn(self.sweeper.run());
        let watching = tokio::spawn(async move {
            if let Some(countries) = self.countries {
                countries.watch().await;
            }
        });
        let ordering = tokio::spawn(async move {
            if let Some(acme) = self.acme {
                acme.run().await;
            }
        });
        let working = tokio::spawn(self.worker.run(shutdown.clone(), self.grace));
        self.readiness.set(true);
        let readiness = self.readiness;
        let stopping = async {
            shutdown.cancelled().await;
            readiness.set(false);
        };
        let https = async {
            if let Some(https) = self.https {
                https.run(self.plane.clone(), shutdown.clone()).await;
            }
        };
        let ((), (), (), worked) = tokio::join!(
            stopping,
            self.http.run(self.plane.clone(), shutdown.clone()),
            https,
            working
        );
        if worked.is_err() {
            tracing::error!("the worker of asynchronous invocations ended unexpectedly");
        }
        for task in [following, sweeping, watching, ordering] {
            task.abort();
            // Aborted, and so let go of the store.
            let _ = task.await;
        }
        api_shutdown.cancel();
        if api.await.is_err() {
            tracing::error!("the API's listener ended unexpectedly");
        }
        if let Some(log) = self.access_log {
            // It may wait for a disk or a pipe.
            let _ = tokio::task::spawn_blocking(move || log.close()).await;
        }
        self.edge.cache().settle(SETTLE.min(self.grace)).await;
    }
}

/// How long what was stored last may take to be on disk at the end.
const SETTLE: Duration = Duration::from_secs(5);

/// What this node is called in `CDN-Loop` and `Via` (RFC 8586): another name each time it starts, as no other node may have it.
fn edge_name() -> String {
    let id = RequestId::generate().to_string();
    format!("wharf-{}", id.replace('-', ""))
}

/// Has the data plane's listeners counted, together, among the node's metrics.
fn register_listeners(metrics: &Metrics, listeners: &Arc<[Arc<ListenerStats>]>) {
    type Pick = fn(&ListenerStats) -> &Counter;
    let read = |pick: Pick| {
        let listeners = listeners.clone();
        Box::new(move || listeners.iter().map(|stats| pick(stats).get()).sum())
    };
    let gauges: [(&'static str, &'static str, Pick); 2] = [
        ("wharf_http_connections", "Connections open now", |stats| {
            &stats.active
        }),
        (
            "wharf_http_websockets",
            "Connections that are WebSockets now",
            |stats| &stats.tunnels,
        ),
    ];
    for (name, help, pick) in gauges {
        metrics.register_gauge(name, help, read(pick));
    }
    let counters: [(&'static str, &'static str, Pick); 9] = [
        ("wharf_http_accepted", "Connections accepted", |stats| {
            &stats.accepted
        }),
        (
            "wharf_http_accept_errors",
            "Calls of accept that failed",
            |stats| &stats.accept_errors,
        ),
        (
            "wharf_http_handshake_failures",
            "TLS handshakes that failed",
            |stats| &stats.handshake_failures,
        ),
        (
            "wharf_http_handshake_timeouts",
            "TLS handshakes not done in time",
            |stats| &stats.handshake_timeouts,
        ),
        (
            "wharf_http_head_timeouts",
            "Connections closed for want of a request's head",
            |stats| &stats.head_timeouts,
        ),
        (
            "wharf_http_idle_closes",
            "Connections closed because no request came",
            |stats| &stats.idle_closes,
        ),
        (
            "wharf_http_body_timeouts",
            "Requests whose bodies made no progress",
            |stats| &stats.body_timeouts,
        ),
        (
            "wharf_http_write_timeouts",
            "Clients that did not read",
            |stats| &stats.write_timeouts,
        ),
        (
            "wharf_http_protocol_errors",
            "Connections ended by an error",
            |stats| &stats.protocol_errors,
        ),
    ];
    for (name, help, pick) in counters {
        metrics.register_counter(name, help, read(pick));
    }
}

/// The API behind a listener.
struct Api(control::Service);

impl Handler for Api {
    type Body = control::Body;

    async fn handle(
        &self,
        request: Request<RequestBody>,
        connection: &Arc<ConnectionInfo>,
    ) -> Response<control::Body> {
        let (mut head, body) = request.into_parts();
        if let Err(refusal) = sanitize::request(&mut head, connection) {
            let mut response = Response::new(refusal.to_string().into());
            *response.status_mut() = refusal.status();
            return response;
        }
        head.extensions.insert(Peer {
            address: connection.peer.ip(),
            secure: connection.tls.is_some(),
        });
        self.0.answer(Request::from_parts(head, body)).await
    }
}

//! The node: binds everything, wires it, runs, drains. The only place that knows all parts.
//!
//! [`Node::bind`] gets every error out before anything is served; [`Node::run`] serves until it is told to stop. Between
//! them stands one loop, `follow`: it reads the catalog when it changes, and turns it into the two snapshots that requests
//! see, the functions and the routes. A request never waits for it, or for the store.

use std::{
    collections::{HashMap, HashSet},
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
    control::{
        self, Access, CREDENTIALS_FILE, Credentials, Readiness, Token,
        verbs::{self, Control},
    },
    events::{self, Served, Worker},
    ingress::{
        ConnectionInfo, Counter, DataPlane, Handler, ListenerStats, RequestBody, Server,
        ServerConfig, Target, TlsConfig, sanitize,
    },
    invoke::{Function, Invoke, Versions},
    model::{
        Alias, Answer, Arns, Deployment, EventInvokeConfig, FunctionName, FunctionSettings,
        ProvisionedConcurrency, Qualifier, Route, RoutePattern, Version,
    },
    router::Router,
    runtime::{CompileLimits, EngineSettings, Runtime, RuntimeSettings},
    store::{Blobs, Catalog, DataFolder, KeyValueLimits, Queue, Resource, Snapshot, Sqlite},
    telemetry::{
        logs::{LogLimits, Logs},
        metrics::Metrics,
    },
};

/// How a node is set up. Resolved: where each value comes from is the command line's business.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The folder of everything that outlives the process.
    pub data: PathBuf,
    /// Where functions answer.
    pub http: SocketAddr,
    /// Where they answer with TLS, and the certificates.
    pub https: Option<(SocketAddr, TlsConfig)>,
    /// Where the API answers.
    pub api: SocketAddr,
    /// The region that calls of the API are signed for, and that stands in ARNs.
    pub region: String,
    /// The account that stands in ARNs: twelve digits.
    pub account: String,
    /// A domain under which every function answers as `NAME.DOMAIN`, beside `NAME.localhost`.
    pub domain: Option<String>,
    /// The program that compiles components: this one.
    pub compiler: PathBuf,
    /// Invocations at one moment (Lambda's account limit: 1,000).
    pub concurrency: u32,
    /// The engine's pools.
    pub engine: EngineSettings,
    /// Bytes of compiled code kept in memory.
    pub component_cache: u64,
    /// How long requests in flight may go on after the first signal.
    pub grace: Duration,
    /// How asynchronous invocations are run.
    pub events: events::Settings,
}

impl NodeConfig {
    /// The defaults, with everything under `data`.
    pub fn new(data: PathBuf, compiler: PathBuf) -> Self {
        Self {
            data,
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            https: None,
            api: SocketAddr::from(([127, 0, 0, 1], 9080)),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            domain: None,
            compiler,
            concurrency: 1000,
            engine: EngineSettings::default(),
            component_cache: 1 << 30,
            grace: Duration::from_secs(30),
            events: events::Settings::default(),
        }
    }
}

/// The documents of the catalog that concern what is served.
const SERVED: &[&str] = &[
    FunctionSettings::KIND,
    Alias::KIND,
    ProvisionedConcurrency::KIND,
    EventInvokeConfig::KIND,
];

/// A node that is bound and not yet serving.
pub struct Node {
    http: Server,
    https: Option<Server>,
    api: Server,
    plane: Arc<DataPlane>,
    control: control::Service,
    readiness: Arc<Readiness>,
    served: watch::Sender<u64>,
    worker: Worker<Served>,
    grace: Duration,
    credentials_file: PathBuf,
    parts: Parts,
}

/// What the catalog is turned into functions with.
struct Parts {
    catalog: Arc<dyn Catalog>,
    invoke: Arc<Invoke>,
    plane: Arc<DataPlane>,
    metrics: Arc<Metrics>,
    logs: Arc<Logs>,
    blobs: Arc<Blobs>,
    runtime: Runtime,
    domain: Option<String>,
}

impl Node {
    /// Opens the store, starts the engine, binds the listeners and loads what is deployed. Whatever is wrong comes out here.
    ///
    /// # Errors
    ///
    /// An address is taken, the data folder cannot be used or is another node's, the engine does not start.
    pub async fn bind(config: NodeConfig) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let folder = DataFolder::open(&config.data).context("open the data folder")?;
        let store =
            Arc::new(Sqlite::open(&folder, KeyValueLimits::default()).context("open the store")?);
        let blobs = Arc::new(Blobs::open(&folder).context("open the components")?);
        let logs =
            Logs::open(config.data.join("logs"), LogLimits::default()).context("open the logs")?;
        let logs = Arc::new(logs);
        let token = Token::open(&config.data).context("open the API's token")?;
        let credentials_file = config.data.join(CREDENTIALS_FILE);
        let credentials = Credentials::open(&config.data, &config.region)
            .with_context(|| format!("open the API's users in {}", credentials_file.display()))?;
        let arns = Arns {
            region: config.region.clone(),
            account: config.account,
        };
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
            },
            store.clone(),
            metrics.node().clone(),
            blobs.clone(),
        )?;
        let server = |address| ServerConfig {
            grace: config.grace,
            ..ServerConfig::new(address)
        };
        let http = Server::bind(server(config.http))?;
        let https = config
            .https
            .map(|(address, tls)| {
                Server::bind(ServerConfig {
                    tls: Some(tls),
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
        let empty =
            Router::new(std::iter::empty(), std::iter::empty(), None).context("route nothing")?;
        let plane = Arc::new(DataPlane::new(
            empty,
            invoke.clone(),
            metrics.node().clone(),
        ));
        let sealer = store.sealer().clone();
        let queue: Arc<dyn Queue> = store.clone();
        let catalog: Arc<dyn Catalog> = store;
        let parts = Parts {
            catalog: catalog.clone(),
            invoke: invoke.clone(),
            plane: plane.clone(),
            metrics: metrics.clone(),
            logs: logs.clone(),
            blobs: blobs.clone(),
            runtime: runtime.clone(),
            domain: config.domain,
        };
        let (served, watching) = watch::channel(0);
        parts
            .serve(&served)
            .await
            .context("load what is deployed")?;
        parts
            .forget_unused()
            .await
            .context("load what is deployed")?;
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
        parts.compile_missing();
        let control = Control {
            catalog,
            queue,
            blobs,
            runtime,
            invoke,
            logs,
            served: watching,
            http: http.local_addr(),
            arns,
            sealer,
        };
        control.register(&metrics);
        let listeners = std::iter::once(&http).chain(&https);
        register_listeners(&metrics, &listeners.map(Server::stats).collect());
        let readiness = Arc::<Readiness>::default();
        let access = Access {
            token,
            credentials,
            region: config.region,
        };
        let control = control::service(control, access, readiness.clone(), metrics);
        Ok(Self {
            http,
            https,
            api,
            plane,
            control,
            readiness,
            served,
            worker,
            grace: config.grace,
            credentials_file,
            parts,
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
        let following = tokio::spawn(follow(self.parts, self.served));
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
        following.abort();
        // Aborted, and so let go of the store.
        let _ = following.await;
        api_shutdown.cancel();
        if api.await.is_err() {
            tracing::error!("the API's listener ended unexpectedly");
        }
    }
}

/// Turns the catalog into what is served, whenever it changes. A store that fails leaves what is served as it is.
async fn follow(parts: Parts, served: watch::Sender<u64>) {
    let mut changes = parts.catalog.watch();
    loop {
        if let Err(error) = parts.serve(&served).await {
            tracing::error!(error = %format!("{error:#}"), "cannot read the catalog, what was served is served on");
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Parts {
    /// Serves what the catalog says.
    async fn serve(&self, served: &watch::Sender<u64>) -> anyhow::Result<()> {
        let snapshot = self.catalog.snapshot(SERVED).await?;
        let revision = snapshot.revision;
        let before = self.invoke.functions();
        let functions = self.functions(&snapshot, &before);
        let router = self.router(&snapshot, &functions);
        let kept: HashSet<*const Function> = functions
            .values()
            .flat_map(|versions| versions.all())
            .map(Arc::as_ptr)
            .collect();
        let removed: Vec<FunctionName> = before
            .keys()
            .filter(|name| !functions.contains_key(*name))
            .cloned()
            .collect();
        self.invoke.publish(functions);
        self.plane.route(router);
        for function in before.values().flat_map(|versions| versions.all()) {
            if !kept.contains(&Arc::as_ptr(function)) {
                function.close();
            }
        }
        for name in removed {
            self.metrics.remove(&name);
            self.logs.remove(&name);
        }
        served.send_replace(revision);
        Ok(())
    }

    /// The functions of a snapshot. What did not change is what it was before, warm instances and all.
    fn functions(
        &self,
        snapshot: &Snapshot,
        before: &HashMap<FunctionName, Arc<Versions>>,
    ) -> HashMap<FunctionName, Arc<Versions>> {
        let mut aliases: HashMap<FunctionName, Vec<Alias>> = HashMap::new();
        for alias in snapshot.resources::<Alias>() {
            let name = alias.function.clone();
            aliases.entry(name).or_default().push(alias);
        }
        let mut provisioned: HashMap<FunctionName, Vec<ProvisionedConcurrency>> = HashMap::new();
        for concurrency in snapshot.resources::<ProvisionedConcurrency>() {
            let name = concurrency.function.clone();
            provisioned.entry(name).or_default().push(concurrency);
        }
        let mut events: HashMap<FunctionName, Vec<EventInvokeConfig>> = HashMap::new();
        for config in snapshot.resources::<EventInvokeConfig>() {
            let name = config.function.clone();
            events.entry(name).or_default().push(config);
        }
        let settings = snapshot.resources::<FunctionSettings>().into_iter();
        let settings: HashMap<FunctionName, FunctionSettings> = settings
            .map(|settings| (settings.name.clone(), settings))
            .collect();
        // They come by name, the versions of a function one after another.
        let by_name = snapshot
            .deployments
            .chunk_by(|one, other| one.name == other.name);
        let mut functions = HashMap::new();
        for versions in by_name {
            let name = &versions[0].name;
            let aliases = aliases.remove(name).unwrap_or_default();
            let provisioned = provisioned.remove(name).unwrap_or_default();
            let settings = settings.get(name);
            let reserved = settings
                .and_then(|settings| settings.concurrency)
                .or_else(|| versions[0].configuration.concurrency);
            self.invoke.limit(name, reserved);
            let present = before.get(name);
            let versions = versions.iter().filter_map(|deployment| {
                let mut deployment = deployment.clone();
                let ready = provisioned
                    .iter()
                    .filter(|concurrency| {
                        stands_for(&concurrency.qualifier, deployment.version, &aliases)
                    })
                    .map(|concurrency| concurrency.instances)
                    .sum();
                let pool = &mut deployment.configuration.pool;
                pool.min = pool.min.max(ready);
                let unchanged = present
                    .and_then(|present| present.version(deployment.version))
                    .filter(|present| {
                        let present = present.deployment();
                        present.revision == deployment.revision
                            && present.configuration.pool == deployment.configuration.pool
                    });
                match unchanged {
                    Some(function) => Some(function.clone()),
                    None => self.function(deployment, reserved),
                }
            });
            let recursive_loop = settings.map(|settings| settings.recursive_loop);
            let versions = Versions::new(versions.collect::<Vec<_>>(), aliases).with_events(
                events.remove(name).unwrap_or_default(),
                recursive_loop.unwrap_or_default(),
            );
            if versions.all().next().is_some() {
                functions.insert(name.clone(), Arc::new(versions));
            }
        }
        functions
    }

    /// A function of this deployment, unless something it needs is missing on this node: then it is not served, and the
    /// log says why.
    fn function(&self, deployment: Deployment, concurrency: Option<u32>) -> Option<Arc<Function>> {
        let configuration = &deployment.configuration;
        let secrets = match verbs::resolve_secrets(&deployment.name, &configuration.secrets) {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::error!(function = %deployment.name, %error, "a function is not served");
                return None;
            }
        };
        let plain = configuration
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        let environment = plain.chain(secrets).collect();
        let name = deployment.name.clone();
        match self.invoke.function(deployment, environment, concurrency) {
            Ok(function) => Some(function),
            Err(error) => {
                tracing::error!(function = %name, %error, "a function is not served");
                None
            }
        }
    }

    /// The routes of all apps, and the URLs of all functions. Of two routes for the same requests the one of the app that
    /// comes first in the alphabet is served.
    fn router(
        &self,
        snapshot: &Snapshot,
        functions: &HashMap<FunctionName, Arc<Versions>>,
    ) -> Router<Target> {
        let mut routes: Vec<(RoutePattern, Target)> = Vec::new();
        for (app, value) in &snapshot.routes {
            let app_routes: Vec<Route> = match serde_json::from_value(value.clone()) {
                Ok(routes) => routes,
                Err(error) => {
                    tracing::error!(%app, %error, "the routes of an app are not served");
                    continue;
                }
            };
            for route in app_routes {
                let Some(target) = target(&route.answer, functions) else {
                    tracing::warn!(%app, route = %route.pattern, "a route leads to a function that is not there");
                    continue;
                };
                routes.push((route.pattern, target));
            }
        }
        let urls = || {
            functions.iter().filter_map(|(name, versions)| {
                let latest = versions.latest()?;
                Some((name.clone(), Target::Function(latest.clone())))
            })
        };
        loop {
            let pairs = routes
                .iter()
                .map(|(pattern, target)| (pattern, target.clone()));
            let conflict = match Router::new(pairs, urls(), self.domain.as_deref()) {
                Ok(router) => return router,
                Err(conflict) => conflict,
            };
            tracing::warn!(%conflict, "a route is not served");
            let second = routes
                .iter()
                .rposition(|(pattern, _)| *pattern == *conflict.second)
                .expect("a conflict is between two of these routes");
            routes.remove(second);
        }
    }

    /// Has what is deployed compiled, where it is not.
    fn compile_missing(&self) {
        let functions = self.invoke.functions();
        let deployed = functions
            .values()
            .flat_map(|versions| versions.all())
            .map(|function| function.deployment().code);
        self.runtime.compile_missing(deployed);
    }

    /// Deletes components and compiled code that nothing deployed refers to.
    async fn forget_unused(&self) -> anyhow::Result<()> {
        let deployments = self.catalog.deployments().await?;
        // Deployed, not served: what lacks a secret now may have it at the next start.
        let used: HashSet<_> = deployments.iter().flat_map(Deployment::blobs).collect();
        self.runtime.retain(|code| used.contains(code));
        for blob in self.blobs.list().await? {
            if !used.contains(&blob)
                && let Err(error) = self.blobs.remove(&blob).await
            {
                tracing::warn!(%blob, %error, "cannot remove a component that nothing uses");
            }
        }
        Ok(())
    }
}

/// Has the data plane's listeners counted, together, among the node's metrics.
fn register_listeners(metrics: &Metrics, listeners: &Arc<[Arc<ListenerStats>]>) {
    type Pick = fn(&ListenerStats) -> &Counter;
    let gauge: Pick = |stats| &stats.active;
    let read = |pick: Pick| {
        let listeners = listeners.clone();
        Box::new(move || listeners.iter().map(|stats| pick(stats).get()).sum())
    };
    metrics.register_gauge(
        "wharf_http_connections",
        "Connections open now",
        read(gauge),
    );
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

/// Whether instances that are provisioned for a qualifier are instances of this version.
fn stands_for(qualifier: &Qualifier, version: Version, aliases: &[Alias]) -> bool {
    match qualifier {
        Qualifier::Version(wanted) => *wanted == version,
        Qualifier::Alias(name) => aliases
            .iter()
            .any(|alias| alias.name == *name && alias.version == version),
    }
}

fn target(answer: &Answer, functions: &HashMap<FunctionName, Arc<Versions>>) -> Option<Target> {
    match answer {
        Answer::Function(name) => {
            let function = functions.get(name)?.latest()?;
            Some(Target::Function(function.clone()))
        }
        Answer::Respond {
            status,
            headers,
            body,
        } => Some(Target::Respond {
            status: *status,
            headers: headers.clone(),
            body: body.clone().into(),
        }),
        Answer::Redirect { to, status } => Some(Target::Redirect {
            to: to.clone(),
            status: *status,
        }),
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
        self.0.answer(Request::from_parts(head, body)).await
    }
}

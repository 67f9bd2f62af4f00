//! What the control plane does, without HTTP.
//!
//! A change is written to the catalog, whole; the node turns the catalog into what is served and says so. A verb that
//! changes something returns when it is served: who deploys and then asks gets what was deployed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    api::{Deploy, DeployFunction, Deployed, FunctionSummary, NodeSummary},
    code::Sources,
    doors::Doors,
    error::Error,
    lambda::{FunctionCodeSigning, Permissions, Proposal},
};
use crate::{
    edge::{Edge, cache::Statistics},
    invoke::{Function, Invoke, why_not_invocable},
    model::{
        Alias, Answer, Arns, AsyncEvent, Deployment, Digest, EventInvokeConfig, EventTarget,
        FunctionName, FunctionSettings, Kind, LambdaSettings, ProvisionedConcurrency, RequestId,
        SecretSource, UrlConfig, Version, Vpc,
    },
    runtime::Runtime,
    store::{
        Blobs, Catalog, Change, Changes, NewEvent, Queue, Resource, Sealer, archive::Backups,
        of_function,
    },
    telemetry::{
        logs::{Logs, Tail, TailFrom},
        metrics::Metrics,
    },
};

/// The largest component (Lambda quota: 250 MB unzipped).
pub const MAX_COMPONENT: usize = 250 << 20;

/// The kinds of documents that belong to a function, and go with it.
pub(super) const OF_FUNCTIONS: &[&str] = &[
    FunctionSettings::KIND,
    Alias::KIND,
    ProvisionedConcurrency::KIND,
    UrlConfig::KIND,
    Permissions::KIND,
    Proposal::KIND,
    EventInvokeConfig::KIND,
    FunctionCodeSigning::KIND,
];

/// The control plane of a node.
pub struct Control {
    /// What is deployed.
    pub catalog: Arc<dyn Catalog>,
    /// Events for asynchronous invocation.
    pub queue: Arc<dyn Queue>,
    /// The components.
    pub blobs: Arc<Blobs>,
    /// What makes copies of all that is stored.
    pub backups: Backups,
    /// What compiles them.
    pub runtime: Runtime,
    /// What runs them.
    pub invoke: Arc<Invoke>,
    /// What they said.
    pub logs: Arc<Logs>,
    /// The catalog's revision that is served.
    pub served: watch::Receiver<u64>,
    /// Where functions answer.
    pub doors: Doors,
    /// What stands in ARNs.
    pub arns: Arns,
    /// What is kept encrypted.
    pub sealer: Arc<Sealer>,
    /// Where code comes from.
    pub sources: Sources,
    /// What functions may be opened to beside public addresses.
    pub vpc: Vpc,
    /// What serves distributions.
    pub edge: Arc<Edge>,
    /// Whether the node gets automatic certificates.
    pub acme: bool,
    /// Whether functions are taken only with roles that are here and that Lambda may assume.
    pub check_roles: bool,
}

impl Control {
    /// Has what the node holds shown among its metrics.
    pub fn register(&self, metrics: &Metrics) {
        let runtime = || self.runtime.clone();
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let (slots, free, idle, prepared, bytes) =
            (runtime(), runtime(), runtime(), runtime(), runtime());
        let gauge = |name, help, read| metrics.register_gauge(name, help, read);
        gauge(
            "wharf_instance_slots",
            "Instances that may exist",
            Box::new(move || number(slots.slots())),
        );
        gauge(
            "wharf_instance_slots_free",
            "Instances that may still be made",
            Box::new(move || number(free.free_slots())),
        );
        gauge(
            "wharf_idle_instances",
            "Instances that wait for a request",
            Box::new(move || number(idle.idle())),
        );
        gauge(
            "wharf_components",
            "Prepared components in memory",
            Box::new(move || prepared.prepared().0),
        );
        gauge(
            "wharf_component_bytes",
            "Bytes of prepared components in memory",
            Box::new(move || bytes.prepared().1),
        );
        // The invoker holds the metrics, so the metrics must not hold it.
        let invoke = Arc::downgrade(&self.invoke);
        let functions = move || {
            invoke
                .upgrade()
                .map_or(0, |invoke| number(invoke.functions().len()))
        };
        gauge("wharf_functions", "Deployed functions", Box::new(functions));
        type Pick = fn(&Statistics) -> u64;
        let of_cache = |pick: Pick| {
            let cache = self.edge.cache().clone();
            Box::new(move || pick(&cache.statistics()))
        };
        let levels: [(&'static str, &'static str, Pick); 4] = [
            (
                "wharf_cache_memory_bytes",
                "Bytes of answers that the cache holds in memory",
                |it| it.memory_bytes,
            ),
            (
                "wharf_cache_memory_objects",
                "Answers that the cache holds in memory",
                |it| it.memory_objects,
            ),
            (
                "wharf_cache_disk_bytes",
                "Bytes of answers that the cache holds on disk",
                |it| it.disk_bytes,
            ),
            (
                "wharf_cache_disk_objects",
                "Answers that the cache holds on disk",
                |it| it.disk_objects,
            ),
        ];
        for (name, help, pick) in levels {
            metrics.register_gauge(name, help, of_cache(pick));
        }
        metrics.register_counter(
            "wharf_cache_corrupt",
            "Files of the cache that did not hold what was written, and were removed",
            of_cache(|it| it.corrupt),
        );
        metrics.register_counter(
            "wharf_cache_disk_failures",
            "Answers that the cache's disk did not take",
            of_cache(|it| it.disk_failures),
        );
        let (dropped, errors) = (self.logs.clone(), self.logs.clone());
        metrics.register_counter(
            "wharf_log_entries_dropped",
            "Log entries that came faster than they could be written",
            Box::new(move || dropped.stats().dropped.load(Relaxed)),
        );
        metrics.register_counter(
            "wharf_log_disk_errors",
            "Batches of log entries that could not be written",
            Box::new(move || errors.stats().disk_errors.load(Relaxed)),
        );
    }

    /// Takes a component. Its bytes are checked against the digest it was announced with; whether it can be run is found
    /// out when it is deployed.
    pub async fn upload(&self, announced: Digest, bytes: Bytes) -> Result<(), Error> {
        if Digest::of(&bytes) != announced {
            return Err(Error::Invalid(format!(
                "the bytes that came are not those of {announced}; send them again"
            )));
        }
        self.blobs.put(bytes).await?;
        Ok(())
    }

    /// Whether a component is here already.
    pub async fn has(&self, code: &Digest) -> Result<bool, Error> {
        Ok(self.blobs.contains(code).await?)
    }

    /// Deploys functions and routes, all or none.
    pub async fn deploy(&self, deploy: Deploy) -> Result<Deployed, Error> {
        // Until the catalog refers to the components.
        let _kept = self.blobs.hold().await;
        // Not what is served: a function may be deployed and lack something on this node.
        let mut deployed = match &deploy.app {
            Some(app) => self.catalog.of_app(app).await?,
            None => Vec::new(),
        };
        for function in &deploy.functions {
            if !deployed.iter().any(|it| it.name == function.name) {
                deployed.extend(self.catalog.versions(&function.name).await?);
            }
        }
        let distributions = deploy.distributions.iter();
        let warnings = distributions.filter_map(|it| self.edge.warning(&it.distribution));
        let warnings: Vec<String> = warnings.collect();
        let mut changes = Vec::new();
        let mut names = HashSet::new();
        let mut kinds = HashMap::new();
        for function in &deploy.functions {
            if !names.insert(function.name.clone()) {
                return Err(Error::Invalid(format!(
                    "function `{}` is there twice",
                    function.name
                )));
            }
            function.configuration.validate().map_err(|invalid| {
                Error::Invalid(format!("function `{}`: {invalid}", function.name))
            })?;
            if let Some(owner) = deployed
                .iter()
                .find(|present| present.name == function.name)
                .and_then(|present| present.app.as_ref())
                && Some(owner) != deploy.app.as_ref()
            {
                return Err(Error::Invalid(format!(
                    "function `{}` belongs to the app `{owner}`; remove it there or give it another name",
                    function.name,
                )));
            }
            resolve_secrets(&function.name, &function.configuration.secrets)?;
            check_folders(function).await?;
            if !self.has(&function.code).await? {
                return Err(Error::NoCode(function.name.clone()));
            }
            let path = self.blobs.path(&function.code);
            let kind = self
                .runtime
                .compile(&path, &function.code)
                .await
                .map_err(|error| Error::component(&function.name, &error))?;
            kinds.insert(function.name.clone(), kind);
            let code_size = tokio::fs::metadata(&path)
                .await
                .map_or(0, |metadata| metadata.len());
            changes.push(Change::Deploy {
                deployment: Box::new(Deployment {
                    name: function.name.clone(),
                    version: Version::Latest,
                    code: function.code,
                    code_size,
                    kind,
                    configuration: function.configuration.clone(),
                    app: deploy.app.clone(),
                    modified_ms: now_ms(),
                    revision: 0,
                    lambda: LambdaSettings::default(),
                }),
                expected: None,
            });
        }
        if let Some(app) = &deploy.app {
            for route in &deploy.routes {
                self.check_route(route, &kinds)?;
            }
            changes.extend(self.place(Some(app), deploy.distributions, &kinds).await?);
            changes.extend(removals(&deployed, app, &names));
            changes.push(Change::Route {
                app: app.clone(),
                routes: serde_json::to_value(&deploy.routes).map_err(|_| Error::Internal)?,
            });
        } else if !deploy.routes.is_empty() || !deploy.distributions.is_empty() {
            return Err(Error::Invalid(
                "routes and distributions belong to an app; name it".to_owned(),
            ));
        }
        let revision = self.apply(changes).await?;
        let functions = deploy
            .functions
            .iter()
            .filter_map(|function| self.invoke.find(function.name.as_str()))
            .map(|function| self.summary(&function))
            .collect();
        Ok(Deployed {
            revision,
            functions,
            warnings,
        })
    }

    fn check_route(
        &self,
        route: &crate::model::Route,
        kinds: &HashMap<FunctionName, Kind>,
    ) -> Result<(), Error> {
        let name = match &route.answer {
            Answer::Function(name) => name,
            Answer::Respond { .. } | Answer::Redirect { .. } => return Ok(()),
        };
        let served = || Some(self.invoke.find(name.as_str())?.deployment().kind);
        match kinds.get(name).copied().or_else(served) {
            None => Err(Error::Invalid(format!(
                "a route leads to the function `{name}`, which is not there"
            ))),
            Some(kind) => match why_not_invocable(kind) {
                Some(why) => Err(Error::Invalid(format!(
                    "a route leads to `{name}`, which answers no requests: {why}"
                ))),
                None => Ok(()),
            },
        }
    }

    /// Removes a function, served or not. What is in flight ends by itself.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let name: FunctionName = name.parse().map_err(|_| Error::no_function(name))?;
        let deployed = self.catalog.versions(&name).await?;
        if deployed.is_empty() {
            return Err(Error::no_function(name.as_str()));
        }
        self.apply(removal(&name, &deployed)).await?;
        Ok(())
    }

    /// Removes an app: its functions and its routes.
    pub async fn remove_app(&self, app: &str) -> Result<(), Error> {
        let deployed = self.catalog.of_app(app).await?;
        let mut changes = removals(&deployed, app, &HashSet::new());
        changes.extend(self.place(Some(app), Vec::new(), &HashMap::new()).await?);
        changes.push(Change::Unroute {
            app: app.to_owned(),
        });
        self.apply(changes).await?;
        Ok(())
    }

    /// Writes changes and waits until they are served.
    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<u64, Error> {
        let revision = self.catalog.apply(Changes::from(changes)).await?;
        let mut served = self.served.clone();
        served
            .wait_for(|served| *served >= revision)
            .await
            .map_err(|_| Error::Unavailable("the node is shutting down".to_owned()))?;
        Ok(revision)
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, Error> {
        self.invoke
            .find(name)
            .ok_or_else(|| Error::no_function(name))
    }

    /// Takes over an event for asynchronous invocation. When this returns, it is on disk and will be run under the id.
    /// An alias is looked up when it is run.
    pub async fn enqueue(
        &self,
        target: &EventTarget,
        event: String,
        client_context: Option<Box<str>>,
    ) -> Result<RequestId, Error> {
        let request_id = RequestId::generate();
        let event = AsyncEvent {
            request_id,
            event,
            client_context,
            hops: 0,
        };
        let now_ms = now_ms();
        self.queue
            .enqueue(NewEvent {
                target: target.to_string(),
                body: serde_json::to_vec(&event).map_err(|_| Error::Internal)?,
                enqueued_ms: now_ms,
                due_ms: now_ms,
            })
            .await?;
        self.invoke.received(&target.function);
        Ok(request_id)
    }

    /// All functions, by name.
    pub fn functions(&self) -> Vec<FunctionSummary> {
        let functions = self.invoke.functions();
        let mut summaries: Vec<_> = functions
            .values()
            .filter_map(|versions| versions.latest())
            .map(|function| self.summary(function))
            .collect();
        summaries.sort_by(|one, other| one.name.cmp(&other.name));
        summaries
    }

    fn summary(&self, function: &Function) -> FunctionSummary {
        let deployment = function.deployment();
        let mut configuration = deployment.configuration.clone();
        let limits = deployment.limits();
        configuration.memory = Some(limits.memory);
        configuration.timeout = Some(limits.timeout);
        configuration.fuel = Some(limits.fuel);
        // Values are often secrets, whatever their name.
        configuration
            .environment
            .values_mut()
            .for_each(|value| "…".clone_into(value));
        FunctionSummary {
            name: deployment.name.clone(),
            version: deployment.version.to_string(),
            kind: deployment.kind,
            code: deployment.code,
            code_size: deployment.code_size,
            app: deployment.app.clone(),
            modified_ms: deployment.modified_ms,
            url: why_not_invocable(deployment.kind).is_none().then(|| {
                let host = |domain: &str| format!("{}.{domain}", deployment.name);
                self.doors.url(host)
            }),
            in_flight: function.in_flight(),
            configuration,
        }
    }

    /// The lines of a function's log, and with `follow` those to come.
    pub fn tail(&self, name: &str, from: TailFrom, follow: bool) -> Result<Tail, Error> {
        let function = self.function(name)?;
        Ok(self.logs.tail(&function.deployment().name, from, follow))
    }

    /// The last 4 KB of what an invocation left in its function's log (Lambda API, Invoke, `LogType: Tail`).
    pub async fn log_of(&self, function: &Function, request_id: RequestId) -> String {
        const MOST: usize = 4096;
        let logs = self.logs.clone();
        // The writer comes by every few milliseconds; a caller who wants the log waits for it.
        let _ = tokio::task::spawn_blocking(move || logs.flush()).await;
        let name = &function.deployment().name;
        let mut tail = self.logs.tail(name, TailFrom::Last(1000), false);
        let wanted = request_id.to_string();
        let mut text = String::new();
        while let Some(line) = tail.next().await {
            if line.request_id.as_deref() == Some(wanted.as_str()) {
                text.push_str(&line.message);
                text.push('\n');
            }
        }
        let mut from = text.len().saturating_sub(MOST);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.split_off(from)
    }

    /// What the node is.
    pub fn node(&self) -> NodeSummary {
        NodeSummary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: format!("http://{}", self.doors.http),
            functions: self.invoke.functions().len(),
            in_flight: self.invoke.in_flight(),
            free_slots: self.runtime.free_slots(),
            idle_instances: self.runtime.idle(),
            prepared_components: self.runtime.prepared().0,
            more: std::collections::BTreeMap::new(),
        }
    }
}

/// What removes the functions of an app but for those to keep.
fn removals(deployed: &[Deployment], app: &str, keep: &HashSet<FunctionName>) -> Vec<Change> {
    let latest = deployed.iter().filter(|deployment| {
        deployment.version == Version::Latest
            && deployment.app.as_deref() == Some(app)
            && !keep.contains(&deployment.name)
    });
    latest
        .flat_map(|deployment| removal(&deployment.name, deployed))
        .collect()
}

/// What removes a function: its versions, and the documents about it.
pub(super) fn removal(name: &FunctionName, deployed: &[Deployment]) -> Vec<Change> {
    let versions = deployed
        .iter()
        .filter(|deployment| deployment.name == *name)
        .map(|deployment| Change::Remove {
            name: name.clone(),
            version: deployment.version,
        });
    let documents = OF_FUNCTIONS.iter().map(|kind| Change::DeleteAll {
        kind,
        prefix: of_function(name),
    });
    versions.chain(documents).collect()
}

/// Whether the folders that a function is granted are there.
async fn check_folders(function: &DeployFunction) -> Result<(), Error> {
    for grant in &function.configuration.files {
        let problem = match tokio::fs::metadata(&grant.source).await {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(_) => "it is no folder".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Error::Invalid(format!(
            "function `{}`: cannot open the folder {}: {problem}",
            function.name,
            grant.source.display()
        )));
    }
    Ok(())
}

/// Reads the secrets of a function where they are kept: on this node.
///
/// # Errors
///
/// One is not there. Its name and place are in the message, never its value.
pub fn resolve_secrets(
    function: &FunctionName,
    secrets: &std::collections::BTreeMap<String, SecretSource>,
) -> Result<Vec<(String, String)>, Error> {
    secrets
        .iter()
        .map(|(name, source)| {
            let value = match source {
                SecretSource::Env(variable) => std::env::var(variable)
                    .map_err(|_| format!("the node's environment has no `{variable}`")),
                SecretSource::File(path) => std::fs::read_to_string(path)
                    .map(|text| text.strip_suffix('\n').map_or(text.clone(), str::to_owned))
                    .map_err(|error| format!("cannot read {}: {error}", path.display())),
            };
            value.map(|value| (name.clone(), value)).map_err(|problem| {
                Error::Invalid(format!("function `{function}`: secret `{name}`: {problem}"))
            })
        })
        .collect()
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

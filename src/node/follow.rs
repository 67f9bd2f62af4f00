//! Turns the catalog into what is served.
//!
//! The catalog is read when it changes, and only what changed since. From that come the two immutable snapshots that
//! requests see, the functions and the routes. What did not change is what it was before, warm instances and all, so that
//! a deployment costs little however many functions there are. A request never waits for any of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{
    known::{Deployed, Known, SERVED},
    url::{Policies, UrlAccess},
};
use crate::{
    control::{code::Layers, verbs},
    edge::{
        Distribution, Edge,
        cache::{Purge, PurgeMode},
    },
    ingress::{Certificates, DataPlane, HostCertificate, Target, UrlTarget},
    invoke::{Function, Invoke, Versions},
    model::{
        Alias, Answer, Arns, Certificate, DeployedDistribution, Deployment, FunctionName,
        IssuedCertificate, Qualifier, RoutePattern, Version, url_id,
    },
    router::Router,
    runtime::Runtime,
    store::{Catalog, Sealer},
    telemetry::{logs::Logs, metrics::Metrics},
    tls::Pair,
};

/// The functions that are served.
type Functions = HashMap<FunctionName, Arc<Versions>>;

/// What the catalog is turned into functions with.
pub(super) struct Follower {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) invoke: Arc<Invoke>,
    pub(super) plane: Arc<DataPlane>,
    pub(super) urls: Arc<UrlAccess>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) logs: Arc<Logs>,
    pub(super) runtime: Runtime,
    pub(super) layers: Layers,
    pub(super) domain: Option<String>,
    pub(super) arns: Arns,
    /// The revision that is served, for those who wait for it.
    pub(super) served: watch::Sender<u64>,
    pub(super) known: Known,
    pub(super) edge: Arc<Edge>,
    /// The distributions that are served, by name.
    pub(super) distributions: BTreeMap<String, Arc<Distribution>>,
    /// What opens the private keys of certificates.
    pub(super) sealer: Arc<Sealer>,
    /// Where the certificates of distributions are presented, if there is TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// The certificates that distributions bring, by the distribution's name.
    pub(super) pairs: BTreeMap<String, HostCertificate>,
    /// Functions of which something is not served for want of what it needs. They are tried again with every change.
    pub(super) lacking: BTreeSet<FunctionName>,
}

impl Follower {
    /// Serves what the catalog says, whenever it changes. A store that fails leaves what is served as it is.
    pub(super) async fn run(mut self) {
        let mut changes = self.catalog.watch();
        loop {
            if let Err(error) = self.serve().await {
                tracing::error!(error = %format!("{error:#}"), "cannot read the catalog, what was served is served on");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Serves what the catalog says.
    pub(super) async fn serve(&mut self) -> anyhow::Result<()> {
        // Nothing is taken in before all of it was read: after an error the same is asked for again.
        let delta = self.catalog.changes(self.known.revision, SERVED).await?;
        let mut touched = self.known.learn(delta);
        touched.functions.append(&mut self.lacking);
        let before = self.invoke.functions();
        let mut functions = Functions::clone(&before);
        let mut rerouted = touched.routes;
        for name in &touched.functions {
            let present = before.get(name);
            let versions = self.versions(name, present);
            rerouted |= !same(
                present.and_then(|versions| versions.latest()),
                versions.as_ref().and_then(|versions| versions.latest()),
            );
            match versions {
                Some(versions) => functions.insert(name.clone(), Arc::new(versions)),
                None => functions.remove(name),
            };
        }
        for name in &touched.distributions {
            self.distribution(name);
        }
        let is_gone = |name: &&String| !self.known.distributions.contains_key(*name);
        let gone: Vec<String> = touched
            .distributions
            .iter()
            .filter(is_gone)
            .cloned()
            .collect();
        for name in &touched.certificates {
            self.certificate(name);
        }
        if !touched.certificates.is_empty() {
            self.publish_certificates();
        }
        let router = rerouted.then(|| self.router(&functions));
        let removed: Vec<&FunctionName> = touched
            .functions
            .iter()
            .filter(|name| before.contains_key(*name) && !functions.contains_key(*name))
            .collect();
        let replaced: Vec<&Arc<Function>> = touched
            .functions
            .iter()
            .filter_map(|name| Some((before.get(name)?, functions.get(name))))
            .flat_map(|(present, now)| {
                present.all().filter(move |function| {
                    let now = now.and_then(|now| now.version(function.deployment().version));
                    !same(Some(function), now)
                })
            })
            .collect();
        self.invoke.publish(functions);
        if touched.permissions {
            self.urls.publish(self.policies());
        }
        if let Some(router) = router {
            self.plane.route(router);
        }
        for function in replaced {
            function.close();
        }
        for name in removed {
            self.metrics.remove(name);
            self.logs.forget(name);
        }
        for name in &gone {
            // Another one of that name is not to find what this one had.
            let cache = self.edge.cache();
            cache.purge(name, &Purge::All, PurgeMode::Hard).await;
            self.edge.forget(name);
        }
        self.served.send_replace(self.known.revision);
        Ok(())
    }

    /// A function as it is to be served, if any of its versions can be.
    fn versions(
        &mut self,
        name: &FunctionName,
        present: Option<&Arc<Versions>>,
    ) -> Option<Versions> {
        let deployed = self.known.function(name)?;
        let reserved = deployed
            .settings
            .as_ref()
            .and_then(|settings| settings.concurrency)
            .or_else(|| {
                let (_, first) = deployed.versions.first_key_value()?;
                first.configuration.concurrency
            });
        self.invoke.limit(name, reserved);
        let mut functions = Vec::with_capacity(deployed.versions.len());
        for deployment in deployed.versions.values() {
            let ready = ready(deployed, deployment);
            let unchanged = present
                .and_then(|present| present.version(deployment.version))
                .filter(|present| {
                    let present = present.deployment();
                    present.revision == deployment.revision
                        && present.configuration.pool.min == ready
                });
            let function = match unchanged {
                Some(function) => Some(function.clone()),
                None => {
                    let mut deployment = deployment.clone();
                    deployment.configuration.pool.min = ready;
                    self.function(deployment, reserved)
                }
            };
            functions.extend(function);
        }
        if functions.len() < deployed.versions.len() {
            self.lacking.insert(name.clone());
        }
        if functions.is_empty() {
            return None;
        }
        let versions = Versions::new(functions, deployed.aliases().cloned());
        Some(versions.with_events(deployed.events().cloned()))
    }

    /// A function of this deployment, unless something it needs is missing on this node: then it is not served, and the
    /// log says why.
    fn function(
        &self,
        mut deployment: Deployment,
        concurrency: Option<u32>,
    ) -> Option<Arc<Function>> {
        let lambda = &deployment.lambda;
        let mounted = self
            .layers
            .grants(lambda.opt.as_ref(), lambda.task.as_ref());
        deployment.configuration.files.extend(mounted);
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

    /// Makes a distribution what the catalog says. One that cannot be is left out, and the log says why.
    fn distribution(&mut self, name: &str) {
        let Some(deployed) = self.known.distributions.get(name) else {
            self.distributions.remove(name);
            return;
        };
        if let Some(warning) = self.edge.warning(&deployed.distribution) {
            tracing::warn!(
                distribution = name,
                warning,
                "a distribution lacks something"
            );
        }
        match self.edge.distribution(deployed.distribution.clone()) {
            Ok(distribution) => {
                self.distributions.insert(name.to_owned(), distribution);
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(distribution = name, error, "a distribution is not served");
                self.distributions.remove(name);
            }
        }
    }

    /// Makes the certificate of a distribution what the catalog says.
    fn certificate(&mut self, name: &str) {
        self.pairs.remove(name);
        let Some(deployed) = self.known.distributions.get(name) else {
            return;
        };
        match self.pair(deployed) {
            Ok(None) => {}
            Ok(Some(pair)) => {
                let certificate = HostCertificate {
                    hosts: deployed.distribution.hosts.clone(),
                    pair: Arc::new(pair),
                };
                self.pairs.insert(name.to_owned(), certificate);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(distribution = name, error, "a certificate is not served");
            }
        }
    }

    fn pair(&self, deployed: &DeployedDistribution) -> anyhow::Result<Option<Pair>> {
        let name = &deployed.distribution.name;
        let (chain, sealed, context) = match &deployed.distribution.certificate {
            Some(Certificate::Chain(chain)) => {
                let sealed = deployed.sealed_key.as_ref();
                let sealed = sealed.context("its private key is not in the catalog")?;
                (chain, sealed, DeployedDistribution::key_context(name))
            }
            Some(Certificate::Automatic) => match self.known.issued.get(name.as_str()) {
                Some(issued) => (
                    &issued.chain,
                    &issued.sealed_key,
                    IssuedCertificate::key_context(name),
                ),
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        let key = self.sealer.open(&context, sealed)?;
        Ok(Some(Pair::from_pem(chain.as_bytes(), &key)?))
    }

    /// Distributions that want certificates which somebody has to get.
    pub(super) fn want_certificates(&self) -> Vec<&str> {
        let deployed = self.known.distributions.iter();
        deployed
            .filter(|(_, it)| it.distribution.certificate == Some(Certificate::Automatic))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn publish_certificates(&self) {
        match &self.certificates {
            Some(certificates) => certificates.publish(self.pairs.values().cloned().collect()),
            None if self.pairs.is_empty() => {}
            None => tracing::warn!(
                distributions = ?self.pairs.keys().collect::<Vec<_>>(),
                "certificates are not served: this node serves no TLS, for want of --https"
            ),
        }
    }

    /// The routes of all apps, the hosts of all distributions, and the URLs of all functions. Of two routes for the same requests the one of the app that
    /// comes first in the alphabet is served.
    fn router(&self, functions: &Functions) -> Router<Target> {
        let mut routes: Vec<(&RoutePattern, Target)> = Vec::new();
        for (app, app_routes) in &self.known.apps {
            for route in app_routes {
                let Some(target) = target(&route.answer, functions) else {
                    tracing::warn!(%app, route = %route.pattern, "a route leads to a function that is not there");
                    continue;
                };
                routes.push((&route.pattern, target));
            }
        }
        let hosts: Vec<(RoutePattern, Target)> = self
            .distributions
            .values()
            .flat_map(|distribution| {
                let patterns = distribution.hosts().map(RoutePattern::of_host);
                let target = Target::Distribution(distribution.clone());
                patterns.map(move |pattern| (pattern, target.clone()))
            })
            .collect();
        routes.extend(
            hosts
                .iter()
                .map(|(pattern, target)| (pattern, target.clone())),
        );
        let urls = || {
            functions.iter().filter_map(|(name, versions)| {
                let latest = versions.latest()?;
                Some((name.clone(), Target::Function(latest.clone())))
            })
        };
        loop {
            let pairs = routes
                .iter()
                .map(|(pattern, target)| (*pattern, target.clone()));
            let conflict = match Router::new(pairs, urls(), self.domain.as_deref()) {
                Ok(router) => return router.with_urls(&self.arns.region, self.urls()),
                Err(conflict) => conflict,
            };
            tracing::warn!(%conflict, "a route is not served");
            let second = routes
                .iter()
                .rposition(|(pattern, _)| **pattern == *conflict.second)
                .expect("a conflict is between two of these routes");
            routes.remove(second);
        }
    }

    /// The function URLs that were configured, by id. What one leads to is found when a request comes.
    fn urls(&self) -> impl Iterator<Item = (String, Target)> {
        self.known.urls().map(|config| {
            let target = UrlTarget {
                id: url_id(
                    &self.arns.account,
                    &config.function,
                    config.alias.as_deref(),
                ),
                function: config.function.clone(),
                alias: config.alias.clone(),
                url: config.url.clone(),
            };
            (target.id.clone(), Target::Url(Arc::new(target)))
        })
    }

    /// The policies that say who may call function URLs.
    fn policies(&self) -> Policies {
        let permissions = self.known.permissions();
        let policies = permissions.filter_map(|permissions| match permissions.parse() {
            Ok(policy) => Some((permissions.of(), Arc::new(policy))),
            Err(error) => {
                tracing::error!(%error, "the policy of a function allows nothing");
                None
            }
        });
        policies.collect()
    }

    /// Has what is deployed compiled, where it is not.
    pub(super) fn compile_missing(&self) {
        let functions = self.invoke.functions();
        let deployed = functions
            .values()
            .flat_map(|versions| versions.all())
            .map(|function| function.deployment().code);
        self.runtime.compile_missing(deployed);
    }
}

/// Whether two are one, or both none.
fn same(one: Option<&Arc<Function>>, other: Option<&Arc<Function>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// How many instances of a version are kept ready: its own minimum, or what is provisioned for it and for its aliases.
fn ready(deployed: &Deployed, deployment: &Deployment) -> u32 {
    let provisioned = deployed
        .provisioned()
        .filter(|concurrency| {
            stands_for(
                &concurrency.qualifier,
                deployment.version,
                deployed.aliases(),
            )
        })
        .map(|concurrency| concurrency.instances)
        .sum();
    deployment.configuration.pool.min.max(provisioned)
}

/// Whether instances that are provisioned for a qualifier are instances of this version.
fn stands_for<'a>(
    qualifier: &Qualifier,
    version: Version,
    mut aliases: impl Iterator<Item = &'a Alias>,
) -> bool {
    match qualifier {
        Qualifier::Version(wanted) => *wanted == version,
        Qualifier::Alias(name) => {
            aliases.any(|alias| alias.name == *name && alias.version == version)
        }
    }
}

fn target(answer: &Answer, functions: &Functions) -> Option<Target> {
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

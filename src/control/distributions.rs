//! Distributions: deployed with an app or on their own, listed, removed; and what their cache holds.

use std::collections::{BTreeSet, HashMap};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use http::StatusCode;
use jiff::Timestamp;

use super::{
    Error, MAX_DOCUMENT, Shared,
    api::{
        CacheCounts, CacheSummary, DeployDistribution, DistributionStatus, DistributionSummary,
        OriginStatus, PurgeRequest, Purged, ServerStatus, TierSummary,
    },
    body_error,
    verbs::Control,
};
use crate::{
    edge::{
        self,
        cache::{Counts, Purge, PurgeMode},
        origin::ServerStatistics,
    },
    invoke::why_not_invocable,
    model::{
        Certificate, DeployedDistribution, Distribution, DistributionName, FunctionName,
        IssuedCertificate, Kind, PrivateKey, distribution::Role,
    },
    store::{Change, Resource as _, Stored},
    tls::Pair,
};

impl Control {
    /// The changes that make `wanted` the distributions of an app, or add them to those that no app has. `kinds` are those of
    /// functions that are deployed in the same change.
    pub(super) async fn place(
        &self,
        app: Option<&str>,
        wanted: Vec<DeployDistribution>,
        kinds: &HashMap<FunctionName, Kind>,
    ) -> Result<Vec<Change>, Error> {
        let present = self.placed().await?;
        let mut changes = Vec::new();
        let mut names = BTreeSet::new();
        for wanted in wanted {
            let DeployDistribution {
                distribution,
                private_key,
            } = wanted;
            let name = distribution.name.clone();
            let invalid =
                |problem: String| Error::Invalid(format!("distribution `{name}`: {problem}"));
            if !names.insert(name.clone()) {
                return Err(invalid("it is there twice".to_owned()));
            }
            if let Some(problem) = distribution.problems().into_iter().next() {
                let key = problem.key.join(".");
                return Err(invalid(format!("{key}: {}", problem.problem)));
            }
            let sealed_key = match self.judge(&distribution, private_key.as_ref()) {
                Ok(Some(key)) => Some(self.seal(&name, key)?),
                Ok(None) => None,
                Err(problem) => return Err(invalid(problem)),
            };
            for (key, function, role) in distribution.functions() {
                let served = || Some(self.invoke.find(function.as_str())?.deployment().kind);
                let kind = kinds.get(function).copied().or_else(served);
                let problem = match kind {
                    None => Some(format!("there is no function `{function}`")),
                    Some(kind) => unfit(function, kind, role),
                };
                if let Some(problem) = problem {
                    return Err(invalid(format!("{}: {problem}", key.join("."))));
                }
            }
            for other in &present {
                if other.distribution.name == name {
                    if other.app.as_deref() != app {
                        let owner = other.app.as_deref().map_or_else(
                            || "no app".to_owned(),
                            |owner| format!("the app `{owner}`"),
                        );
                        return Err(invalid(format!(
                            "it belongs to {owner}; remove it there or give it another name"
                        )));
                    }
                    continue;
                }
                // Those of the app itself are replaced, and were held against each other before.
                let replaced = app.is_some() && other.app.as_deref() == app;
                let mut hosts = distribution.hosts.iter();
                let shared = hosts.find(|host| other.distribution.hosts.contains(host));
                if let (Some(host), false) = (shared, replaced) {
                    return Err(invalid(format!(
                        "the host `{host}` belongs to the distribution `{}`",
                        other.distribution.name
                    )));
                }
            }
            if distribution.certificate != Some(Certificate::Automatic) {
                changes.push(Change::delete::<IssuedCertificate>(name.as_str()));
            }
            changes.push(Change::put(&DeployedDistribution {
                app: app.map(str::to_owned),
                distribution,
                sealed_key,
            })?);
        }
        if let Some(app) = app {
            let gone = present.iter().filter(|present| {
                present.app.as_deref() == Some(app) && !names.contains(&present.distribution.name)
            });
            changes.extend(gone.flat_map(|gone| removal(gone.key())));
        }
        Ok(changes)
    }

    /// The private key to keep, if the distribution brings a certificate, or what is wrong with that.
    fn judge<'a>(
        &self,
        distribution: &Distribution,
        key: Option<&'a PrivateKey>,
    ) -> Result<Option<&'a PrivateKey>, String> {
        let pair = match (&distribution.certificate, key) {
            (None, None) => return Ok(None),
            (Some(Certificate::Automatic), None) => None,
            (None | Some(Certificate::Automatic), Some(_)) => {
                return Err("private_key: there is no certificate that it is of".to_owned());
            }
            (Some(Certificate::Chain(_)), None) => {
                return Err("private_key: the certificate is of no use without its key".to_owned());
            }
            (Some(Certificate::Chain(chain)), Some(key)) => Some((chain, key)),
        };
        if self.doors.https.is_none() {
            return Err(
                "certificate: this node serves no TLS; start it with --https ADDRESS".to_owned(),
            );
        }
        let Some((chain, key)) = pair else {
            return match self.acme {
                true => Ok(None),
                false => Err(
                    "certificate: this node gets no automatic certificates; start it with --acme-agree, if you agree to the \
                     terms of service of the authority"
                        .to_owned(),
                ),
            };
        };
        Pair::from_pem(chain.as_bytes(), key.expose().as_bytes())
            .and_then(|pair| pair.check(&distribution.hosts, Timestamp::now()))
            .map_err(|error| {
                let key = match error.is_of_key() {
                    true => "private_key",
                    false => "certificate.chain",
                };
                format!("{key}: {:#}", anyhow::Error::from(error))
            })?;
        Ok(Some(key))
    }

    fn seal(&self, name: &DistributionName, key: &PrivateKey) -> Result<String, Error> {
        let context = DeployedDistribution::key_context(name);
        Ok(self.sealer.seal(&context, key.expose().as_bytes())?)
    }

    async fn placed(&self) -> Result<Vec<DeployedDistribution>, Error> {
        let stored = self
            .catalog
            .list::<DeployedDistribution>("", None, usize::MAX)
            .await?;
        Ok(stored.into_iter().map(|stored| stored.value).collect())
    }

    async fn distribution(&self, name: &str) -> Result<DeployedDistribution, Error> {
        let stored = self.catalog.get::<DeployedDistribution>(name).await?;
        match stored {
            Some(Stored { value, .. }) => Ok(value),
            None => Err(Error::NoDistribution(name.chars().take(80).collect())),
        }
    }

    /// Takes answers away that the cache has of a distribution, or marks them stale.
    async fn purge(&self, name: &str, request: PurgeRequest) -> Result<Purged, Error> {
        self.distribution(name).await?;
        let named = request.urls.len() + request.prefixes.len() + request.tags.len();
        let what: Vec<Purge> = match (request.all, named) {
            (true, 0) => vec![Purge::All],
            (false, 1..) => {
                let urls = request.urls.into_iter().map(Purge::Url);
                let prefixes = request.prefixes.into_iter().map(Purge::Prefix);
                let tags = request.tags.into_iter().map(Purge::Tag);
                urls.chain(prefixes).chain(tags).collect()
            }
            _ => {
                return Err(Error::Invalid(
                    "say what is purged: `urls`, `prefixes` or `tags`, or `all` and none of these"
                        .to_owned(),
                ));
            }
        };
        let mode = match request.soft {
            true => PurgeMode::Soft,
            false => PurgeMode::Hard,
        };
        let mut objects = 0;
        for what in what {
            let purged = self.edge.cache().purge(name, &what, mode).await;
            objects += purged.objects;
        }
        Ok(Purged { objects })
    }

    fn summarize(&self, placed: DeployedDistribution) -> DistributionSummary {
        let served = self.edge.find(placed.distribution.name.as_str());
        DistributionSummary {
            app: placed.app,
            distribution: placed.distribution,
            status: served.map(|served| status(&served)),
        }
    }

    fn cache(&self) -> CacheSummary {
        let statistics = self.edge.cache().statistics();
        CacheSummary {
            memory: TierSummary {
                bytes: statistics.memory_bytes,
                objects: statistics.memory_objects,
            },
            disk: TierSummary {
                bytes: statistics.disk_bytes,
                objects: statistics.disk_objects,
            },
            corrupt: statistics.corrupt,
            disk_failures: statistics.disk_failures,
            distributions: statistics
                .distributions
                .into_iter()
                .map(|(name, counts)| (name, CacheCounts::from(counts)))
                .collect(),
        }
    }
}

/// Why a function of a kind is not what a distribution has it for.
fn unfit(function: &FunctionName, kind: Kind, role: Role) -> Option<String> {
    match role {
        Role::Answer => {
            let why = why_not_invocable(kind)?;
            Some(format!("`{function}` answers no requests: {why}"))
        }
        Role::Hook(point) => {
            let has = match kind.points() {
                points if points.contains(point) => return None,
                points if points.is_empty() => "is no request hook".to_owned(),
                points => format!("has {points}"),
            };
            Some(format!("`{function}` has no hook {point}: it {has}"))
        }
        Role::Transform if kind == Kind::Middleware => None,
        Role::Transform => Some(format!(
            "`{function}` is no middleware, which exports and imports wasi:http/handler@0.3: it is called as {kind}"
        )),
    }
}

pub(super) async fn list(State(api): Shared) -> Result<Json<Vec<DistributionSummary>>, Error> {
    let control = &api.control;
    let placed = control.placed().await?.into_iter();
    Ok(Json(
        placed.map(|placed| control.summarize(placed)).collect(),
    ))
}

pub(super) async fn get(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Json<DistributionSummary>, Error> {
    let placed = api.control.distribution(&name).await?;
    Ok(Json(api.control.summarize(placed)))
}

pub(super) async fn put(
    State(api): Shared,
    Path(name): Path<String>,
    body: Body,
) -> Result<StatusCode, Error> {
    let bytes = axum::body::to_bytes(body, MAX_DOCUMENT)
        .await
        .map_err(|error| body_error(&error, MAX_DOCUMENT))?;
    let wanted: DeployDistribution = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("not a distribution: {error}")))?;
    let named: Result<DistributionName, _> = name.parse();
    if named.as_ref() != Ok(&wanted.distribution.name) {
        return Err(Error::Invalid(format!(
            "the document's name is `{}`, and the path's `{name}`",
            wanted.distribution.name
        )));
    }
    // A client that hangs up does not leave it half done.
    let placed = tokio::spawn(async move {
        let control = &api.control;
        let changes = control.place(None, vec![wanted], &HashMap::new()).await?;
        control.apply(changes).await
    });
    placed.await.map_err(|_| Error::Internal)??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    let control = &api.control;
    let placed = control.distribution(&name).await?;
    control.apply(removal(placed.key()).into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn purge(
    State(api): Shared,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Purged>, Error> {
    let bytes = axum::body::to_bytes(body, MAX_DOCUMENT)
        .await
        .map_err(|error| body_error(&error, MAX_DOCUMENT))?;
    let request = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("not a purge: {error}")))?;
    Ok(Json(api.control.purge(&name, request).await?))
}

pub(super) async fn cache(State(api): Shared) -> Json<CacheSummary> {
    Json(api.control.cache())
}

/// What removes a distribution.
fn removal(name: String) -> [Change; 2] {
    [
        Change::delete::<IssuedCertificate>(name.clone()),
        Change::delete::<DeployedDistribution>(name),
    ]
}

fn status(distribution: &edge::Distribution) -> DistributionStatus {
    let metrics = distribution.metrics();
    let (requests, from_cache) = metrics.requests();
    let server = |server: ServerStatistics| ServerStatus {
        state: server.state.code().to_owned(),
        requests: server.requests,
        failures: server.failures,
        first_byte_us: u64::try_from(server.latency.as_micros())
            .ok()
            .and_then(|latency| latency.checked_div(server.answers)),
        in_use: server.in_use,
        waiting: server.waiting,
        url: server.url,
    };
    let origins = distribution.origins().into_iter().map(|(name, origin)| {
        let origin = OriginStatus {
            retries: origin.retries,
            failovers: origin.failovers,
            servers: origin.servers.into_iter().map(server).collect(),
        };
        (name.to_owned(), origin)
    });
    DistributionStatus {
        requests,
        from_cache,
        viewer_bytes: metrics.viewer_bytes.get(),
        origin_bytes: metrics.origin_bytes(),
        origins: origins.collect(),
    }
}

impl From<Counts> for CacheCounts {
    fn from(counts: Counts) -> Self {
        Self {
            hits: counts.hits,
            misses: counts.misses,
            stale: counts.stale,
            revalidated: counts.revalidated,
            collapsed: counts.collapsed,
            bypass: counts.bypass,
            evicted: counts.memory.evicted_objects + counts.disk.evicted_objects,
        }
    }
}

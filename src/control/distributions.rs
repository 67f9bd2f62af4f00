//! Distributions: deployed with an app or on their own, listed, removed; and what their cache holds.

use std::collections::{BTreeSet, HashMap};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use http::StatusCode;

use super::{
    Error, MAX_DOCUMENT, Shared,
    api::{CacheCounts, CacheSummary, DistributionSummary, PurgeRequest, Purged, TierSummary},
    body_error,
    verbs::Control,
};
use crate::{
    edge::cache::{Counts, Purge, PurgeMode},
    invoke::why_not_invocable,
    model::{
        DeployedDistribution, Distribution, DistributionName, FunctionName, Kind,
        distribution::Role,
    },
    store::{Change, Resource as _, Stored},
};

impl Control {
    /// The changes that make `wanted` the distributions of an app, or add them to those that no app has. `kinds` are those of
    /// functions that are deployed in the same change.
    pub(super) async fn place(
        &self,
        app: Option<&str>,
        wanted: Vec<Distribution>,
        kinds: &HashMap<FunctionName, Kind>,
    ) -> Result<Vec<Change>, Error> {
        let present = self.placed().await?;
        let mut changes = Vec::new();
        let mut names = BTreeSet::new();
        for distribution in wanted {
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
            if distribution.certificate.is_some() {
                return Err(invalid(
                    "certificate: this node has its certificates in the folder of --certificates; put the pair there, and leave \
                     it out"
                        .to_owned(),
                ));
            }
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
            changes.push(Change::put(&DeployedDistribution {
                app: app.map(str::to_owned),
                distribution,
            })?);
        }
        if let Some(app) = app {
            let gone = present.iter().filter(|present| {
                present.app.as_deref() == Some(app) && !names.contains(&present.distribution.name)
            });
            changes.extend(gone.map(|gone| Change::delete::<DeployedDistribution>(gone.key())));
        }
        Ok(changes)
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
    let placed = api.control.placed().await?;
    Ok(Json(placed.into_iter().map(summary).collect()))
}

pub(super) async fn get(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Json<DistributionSummary>, Error> {
    Ok(Json(summary(api.control.distribution(&name).await?)))
}

pub(super) async fn put(
    State(api): Shared,
    Path(name): Path<String>,
    body: Body,
) -> Result<StatusCode, Error> {
    let bytes = axum::body::to_bytes(body, MAX_DOCUMENT)
        .await
        .map_err(|error| body_error(&error, MAX_DOCUMENT))?;
    let distribution: Distribution = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("not a distribution: {error}")))?;
    let named: Result<DistributionName, _> = name.parse();
    if named.as_ref() != Ok(&distribution.name) {
        return Err(Error::Invalid(format!(
            "the document's name is `{}`, and the path's `{name}`",
            distribution.name
        )));
    }
    // A client that hangs up does not leave it half done.
    let placed = tokio::spawn(async move {
        let control = &api.control;
        let changes = control
            .place(None, vec![distribution], &HashMap::new())
            .await?;
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
    let change = Change::delete::<DeployedDistribution>(placed.key());
    control.apply(vec![change]).await?;
    // Another one of that name is not to find what this one had.
    let cache = control.edge.cache();
    cache.purge(&name, &Purge::All, PurgeMode::Hard).await;
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

fn summary(placed: DeployedDistribution) -> DistributionSummary {
    DistributionSummary {
        app: placed.app,
        distribution: placed.distribution,
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
        }
    }
}

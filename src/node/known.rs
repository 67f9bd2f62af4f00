//! The catalog in memory, as far as it concerns what is served.
//!
//! A function is made of several things in the catalog, and seldom more than one of them changes. The catalog tells what
//! changed; what else there is of that function is kept here, so that it alone is made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    control::Permissions,
    model::{
        Alias, DeployedDistribution, Deployment, EventInvokeConfig, FunctionName, FunctionSettings,
        IssuedCertificate, ProvisionedConcurrency, Route, UrlConfig, Version,
    },
    store::{Delta, Document, Resource},
};

/// The documents that concern what is served. What is of a function has keys that begin with `NAME/`.
pub(super) const SERVED: &[&str] = &[
    FunctionSettings::KIND,
    Alias::KIND,
    ProvisionedConcurrency::KIND,
    UrlConfig::KIND,
    EventInvokeConfig::KIND,
    Permissions::KIND,
    DeployedDistribution::KIND,
    IssuedCertificate::KIND,
];

/// What is known of the catalog.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Known {
    /// The revision that this is the catalog of.
    pub(super) revision: u64,
    functions: HashMap<FunctionName, Deployed>,
    /// The routes of each app.
    pub(super) apps: BTreeMap<String, Vec<Route>>,
    /// The distributions, by name.
    pub(super) distributions: BTreeMap<String, DeployedDistribution>,
    /// The certificates that were given for them, by their name.
    pub(super) issued: BTreeMap<String, IssuedCertificate>,
}

/// What is known of one function.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Deployed {
    pub(super) versions: BTreeMap<Version, Deployment>,
    pub(super) settings: Option<FunctionSettings>,
    aliases: BTreeMap<String, Alias>,
    provisioned: BTreeMap<String, ProvisionedConcurrency>,
    urls: BTreeMap<String, UrlConfig>,
    events: BTreeMap<String, EventInvokeConfig>,
    permissions: BTreeMap<String, Permissions>,
}

/// What is not as it was.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Touched {
    pub(super) functions: BTreeSet<FunctionName>,
    pub(super) distributions: BTreeSet<String>,
    /// Distributions that may have other certificates.
    pub(super) certificates: BTreeSet<String>,
    pub(super) routes: bool,
    pub(super) permissions: bool,
}

impl Known {
    /// The function of that name, if anything is known of it.
    pub(super) fn function(&self, name: &FunctionName) -> Option<&Deployed> {
        self.functions.get(name)
    }

    /// The URLs of functions.
    pub(super) fn urls(&self) -> impl Iterator<Item = &UrlConfig> {
        self.functions
            .values()
            .flat_map(|deployed| deployed.urls.values())
    }

    /// The resource policies of functions and aliases.
    pub(super) fn permissions(&self) -> impl Iterator<Item = &Permissions> {
        self.functions
            .values()
            .flat_map(|deployed| deployed.permissions.values())
    }

    /// Takes in what changed, and says which functions it concerns.
    pub(super) fn learn(&mut self, delta: Delta) -> Touched {
        let mut touched = Touched::default();
        if delta.complete {
            // What is not told again is no more.
            touched.functions = std::mem::take(&mut self.functions).into_keys().collect();
            touched.routes = !std::mem::take(&mut self.apps).is_empty();
            touched.distributions = std::mem::take(&mut self.distributions)
                .into_keys()
                .collect();
            touched.certificates = touched.distributions.clone();
            self.issued.clear();
            touched.permissions = true;
        }
        self.revision = delta.revision;
        for (name, version) in delta.removed {
            self.deployed(&name).versions.remove(&version);
            touched.functions.insert(name);
        }
        for deployment in delta.deployments {
            let name = deployment.name.clone();
            let versions = &mut self.deployed(&name).versions;
            versions.insert(deployment.version, deployment);
            touched.functions.insert(name);
        }
        let deleted = delta
            .deleted
            .into_iter()
            .flat_map(|(kind, keys)| keys.into_iter().map(move |key| (kind, key, None)));
        let written = delta.documents.into_iter().flat_map(|(kind, documents)| {
            let keyed = |document: Document| (kind, document.key.clone(), Some(document));
            documents.into_iter().map(keyed).collect::<Vec<_>>()
        });
        for (kind, key, document) in deleted.chain(written) {
            if kind == DeployedDistribution::KIND {
                touched.routes = true;
                touched.distributions.insert(key.clone());
                touched.certificates.insert(key.clone());
                set(&mut self.distributions, key, document);
                continue;
            }
            if kind == IssuedCertificate::KIND {
                touched.certificates.insert(key.clone());
                set(&mut self.issued, key, document);
                continue;
            }
            let name = key.split_once('/').map(|(name, _)| name.parse());
            let Some(Ok(name)) = name else {
                tracing::error!(
                    kind,
                    key,
                    "a document of the catalog belongs to no function"
                );
                continue;
            };
            self.deployed(&name).document(kind, key, document);
            touched.routes |= kind == UrlConfig::KIND;
            touched.permissions |= kind == Permissions::KIND;
            touched.functions.insert(name);
        }
        touched.routes |= !delta.routes.is_empty();
        for (app, routes) in delta.routes {
            match routes.map(serde_json::from_value) {
                Some(Ok(routes)) => {
                    self.apps.insert(app, routes);
                }
                None => {
                    self.apps.remove(&app);
                }
                Some(Err(error)) => {
                    tracing::error!(%app, %error, "the routes of an app are not served");
                    self.apps.remove(&app);
                }
            }
        }
        let nothing = Deployed::default();
        for name in &touched.functions {
            if self.functions.get(name) == Some(&nothing) {
                self.functions.remove(name);
            }
        }
        touched
    }

    fn deployed(&mut self, name: &FunctionName) -> &mut Deployed {
        self.functions.entry(name.clone()).or_default()
    }
}

impl Deployed {
    /// Its aliases, by name.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &Alias> {
        self.aliases.values()
    }

    /// What is provisioned for its versions and aliases.
    pub(super) fn provisioned(&self) -> impl Iterator<Item = &ProvisionedConcurrency> {
        self.provisioned.values()
    }

    /// What becomes of events for its versions and aliases.
    pub(super) fn events(&self) -> impl Iterator<Item = &EventInvokeConfig> {
        self.events.values()
    }

    /// Takes in a document of one of [`SERVED`]; none is one that was removed.
    fn document(&mut self, kind: &str, key: String, document: Option<Document>) {
        if kind == FunctionSettings::KIND {
            self.settings = document.and_then(read);
        } else if kind == Alias::KIND {
            set(&mut self.aliases, key, document);
        } else if kind == ProvisionedConcurrency::KIND {
            set(&mut self.provisioned, key, document);
        } else if kind == UrlConfig::KIND {
            set(&mut self.urls, key, document);
        } else if kind == EventInvokeConfig::KIND {
            set(&mut self.events, key, document);
        } else if kind == Permissions::KIND {
            set(&mut self.permissions, key, document);
        }
    }
}

fn set<R: Resource>(map: &mut BTreeMap<String, R>, key: String, document: Option<Document>) {
    match document.and_then(read) {
        Some(resource) => map.insert(key, resource),
        None => map.remove(&key),
    };
}

/// The resource that a document is. One that cannot be read is left out, and the node's log says so.
fn read<R: Resource>(document: Document) -> Option<R> {
    match document.read() {
        Ok(stored) => Some(stored.value),
        Err(error) => {
            tracing::error!(%error, "a document of the catalog is passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Digest, FunctionConfiguration, Kind, LambdaSettings, Qualifier};

    fn deployment(name: &str, version: Version) -> Deployment {
        Deployment {
            name: name.parse().unwrap(),
            version,
            code: Digest::of(b"1"),
            code_size: 1,
            kind: Kind::HttpP2,
            configuration: FunctionConfiguration::default(),
            app: None,
            modified_ms: 1,
            revision: 1,
            lambda: LambdaSettings::default(),
        }
    }

    fn document<R: Resource>(resource: &R) -> (&'static str, Vec<Document>) {
        let document = Document {
            key: resource.key(),
            revision: 1,
            value: serde_json::to_value(resource).unwrap(),
        };
        (R::KIND, vec![document])
    }

    /// `a` with two versions, an alias, settings and an instance, `b` with nothing but its code, and routes.
    fn everything() -> Delta {
        let a: FunctionName = "a".parse().unwrap();
        let alias = Alias {
            function: a.clone(),
            name: "live".to_owned(),
            version: Version::Published(1),
            additional: None,
            description: String::new(),
        };
        let provisioned = ProvisionedConcurrency {
            function: a.clone(),
            qualifier: Qualifier::Alias("live".to_owned()),
            instances: 1,
            modified_ms: 1,
        };
        Delta {
            revision: 3,
            complete: true,
            deployments: vec![
                deployment("a", Version::Latest),
                deployment("a", Version::Published(1)),
                deployment("b", Version::Latest),
            ],
            routes: [("shop".to_owned(), Some(json!([])))].into(),
            documents: [
                document(&alias),
                document(&provisioned),
                document(&FunctionSettings::new(a)),
            ]
            .into(),
            ..Delta::default()
        }
    }

    fn names(touched: &Touched) -> Vec<&str> {
        touched.functions.iter().map(FunctionName::as_str).collect()
    }

    #[test]
    fn what_changed_concerns_its_function_and_no_other() {
        let mut known = Known::default();
        let touched = known.learn(everything());
        assert_eq!((names(&touched), touched.routes), (vec!["a", "b"], true));
        assert_eq!((known.revision, known.apps.len()), (3, 1));

        let touched = known.learn(Delta {
            revision: 4,
            deleted: [(Alias::KIND, vec!["a/live".to_owned()])].into(),
            ..Delta::default()
        });
        assert_eq!((names(&touched), touched.routes), (vec!["a"], false));
        let a = known.function(&"a".parse().unwrap()).unwrap();
        assert_eq!((a.versions.len(), a.aliases().count()), (2, 0));
        assert_eq!(a.provisioned().count(), 1);
        assert!(a.settings.is_some());

        let touched = known.learn(Delta {
            revision: 5,
            removed: vec![("b".parse().unwrap(), Version::Latest)],
            routes: [("shop".to_owned(), None)].into(),
            ..Delta::default()
        });
        assert_eq!((names(&touched), touched.routes), (vec!["b"], true));
        assert!(known.function(&"b".parse().unwrap()).is_none());
        assert_eq!(known.apps.len(), 0);
    }

    #[test]
    fn what_is_not_told_again_with_everything_is_no_more() {
        let mut known = Known::default();
        known.learn(everything());
        let touched = known.learn(Delta {
            revision: 9,
            complete: true,
            deployments: vec![deployment("c", Version::Latest)],
            ..Delta::default()
        });
        assert_eq!(
            (names(&touched), touched.routes),
            (vec!["a", "b", "c"], true)
        );
        let mut fresh = Known::default();
        fresh.learn(Delta {
            revision: 9,
            complete: true,
            deployments: vec![deployment("c", Version::Latest)],
            ..Delta::default()
        });
        assert_eq!(known, fresh);
    }

    #[test]
    fn what_makes_no_sense_is_passed_over_and_the_rest_is_served() {
        let mut known = Known::default();
        known.learn(everything());
        let nonsense = |key: &str| Document {
            key: key.to_owned(),
            revision: 4,
            value: Value::Null,
        };
        known.learn(Delta {
            revision: 4,
            routes: [("shop".to_owned(), Some(json!("?")))].into(),
            documents: [(
                Alias::KIND,
                vec![nonsense("a/live"), nonsense("no function")],
            )]
            .into(),
            ..Delta::default()
        });
        let a = known.function(&"a".parse().unwrap()).unwrap();
        assert_eq!((a.versions.len(), a.aliases().count()), (2, 0));
        assert_eq!(known.apps.len(), 0);
    }
}

//! A function's versions and aliases, as they are served.

use std::{collections::BTreeMap, sync::Arc};

use super::Function;
use crate::model::{Alias, EventInvokeConfig, Qualifier, Version};

/// A function: its versions, and the names of some of them. Immutable, as everything that requests see.
#[derive(Default)]
pub struct Versions {
    versions: BTreeMap<Version, Arc<Function>>,
    aliases: Vec<Alias>,
    events: Vec<Arc<EventInvokeConfig>>,
}

/// What a qualifier stood for.
pub struct Resolved {
    /// The version.
    pub function: Arc<Function>,
    /// The alias that led to it.
    pub alias: Option<String>,
}

impl Versions {
    /// These versions, with these aliases.
    pub fn new(
        versions: impl IntoIterator<Item = Arc<Function>>,
        aliases: impl IntoIterator<Item = Alias>,
    ) -> Self {
        let versions = versions
            .into_iter()
            .map(|function| (function.deployment().version, function));
        Self {
            versions: versions.collect(),
            aliases: aliases.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same, and what becomes of their events.
    #[must_use]
    pub fn with_events(self, configs: impl IntoIterator<Item = EventInvokeConfig>) -> Self {
        Self {
            events: configs.into_iter().map(Arc::new).collect(),
            ..self
        }
    }

    /// What becomes of events for this qualifier, as far as somebody said. An alias has a configuration of its own, and not
    /// the one of the version that it stands for.
    pub fn events(&self, qualifier: Option<&Qualifier>) -> Option<&Arc<EventInvokeConfig>> {
        let latest = Qualifier::default();
        let qualifier = qualifier.unwrap_or(&latest);
        self.events
            .iter()
            .find(|config| config.qualifier == *qualifier)
    }

    /// `$LATEST`.
    pub fn latest(&self) -> Option<&Arc<Function>> {
        self.versions.get(&Version::Latest)
    }

    /// A version.
    pub fn version(&self, version: Version) -> Option<&Arc<Function>> {
        self.versions.get(&version)
    }

    /// All versions, `$LATEST` first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.versions.values()
    }

    /// The aliases.
    pub fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    /// What a qualifier stands for; without one, `$LATEST`.
    pub fn resolve(&self, qualifier: Option<&Qualifier>) -> Option<Resolved> {
        let (version, alias) = match qualifier {
            None => (Version::Latest, None),
            Some(Qualifier::Version(version)) => (*version, None),
            Some(Qualifier::Alias(name)) => {
                let alias = self.aliases.iter().find(|alias| alias.name == *name)?;
                let version = match alias.additional {
                    Some(_) => alias.pick(draw()),
                    None => alias.version,
                };
                (version, Some(name.clone()))
            }
        };
        Some(Resolved {
            function: self.versions.get(&version)?.clone(),
            alias,
        })
    }
}

/// A number from 0 up to, not including, 1.
fn draw() -> f64 {
    let mut random = [0; 4];
    // Without the machine's randomness the first version gets it all.
    if getrandom::fill(&mut random).is_err() {
        return 1.0;
    }
    f64::from(u32::from_ne_bytes(random)) / (f64::from(u32::MAX) + 1.0)
}

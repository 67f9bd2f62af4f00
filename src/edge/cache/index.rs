//! Which stored responses a purge takes, in whichever tier they are.
//!
//! A tag has the list of its responses, so purging it costs what it takes and no more. URLs are kept in order: a prefix
//! is one stretch of them.
//!
//! Not on the way of a hit: only storing, evicting and purging come here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, Uri};

use super::{
    key::{self, Digest},
    purge::{Matcher, covers, local},
};
use crate::model::KeyPolicy;

/// A tier of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    Memory,
    Disk,
}

/// What a purge compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) distribution: Arc<str>,
    pub(super) url: Arc<str>,
    /// The URL that the viewer asked for, if a hook made another of it.
    pub(super) asked: Option<Arc<str>>,
    pub(super) tags: Arc<[Arc<str>]>,
}

impl Label {
    /// Of what a request asks for: its URL, and the viewer's where a hook made another of it.
    pub(super) fn of_request(
        distribution: Arc<str>,
        policy: &KeyPolicy,
        (uri, viewed): (&Uri, Option<&Uri>),
        headers: &HeaderMap,
    ) -> Self {
        let url = key::url(policy, uri, headers);
        let asked = viewed.map(|viewed| key::url(policy, viewed, headers));
        Self {
            distribution,
            asked: asked.filter(|asked| *asked != url).map(Arc::from),
            url: url.into(),
            tags: [].into(),
        }
    }

    /// The URLs that it is known by.
    pub(super) fn urls(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        std::iter::once(&self.url).chain(&self.asked)
    }
}

/// All stored responses, by what purges ask for.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Digest, Entry>,
    tags: HashMap<(Arc<str>, Arc<str>), HashSet<Digest>>,
    urls: BTreeMap<(Arc<str>, Arc<str>), HashSet<Digest>>,
}

#[derive(Debug)]
struct Entry {
    label: Label,
    /// The version that each tier has.
    memory: Option<u64>,
    disk: Option<u64>,
}

impl Entry {
    fn tier(&mut self, tier: Tier) -> &mut Option<u64> {
        match tier {
            Tier::Memory => &mut self.memory,
            Tier::Disk => &mut self.disk,
        }
    }
}

impl Index {
    /// Notes that a tier has a version of a response. The label is that of the latest, with the tags of the other tier's version while
    /// that is another one: until it is replaced, it is to be found by them.
    pub(super) fn add(&self, digest: Digest, label: &Label, tier: Tier, version: u64) {
        let mut inner = self.lock();
        let kept = match inner.entries.get_mut(&digest) {
            Some(entry) if entry.label == *label => {
                *entry.tier(tier) = Some(version);
                return;
            }
            Some(entry) => (entry.memory, entry.disk),
            None => (None, None),
        };
        let other = match tier {
            Tier::Memory => kept.1,
            Tier::Disk => kept.0,
        };
        let before = inner.forget(&digest);
        let mut label = label.clone();
        if let Some(before) = before
            && other.is_some_and(|other| other != version)
        {
            let tags: BTreeSet<_> = before.tags.iter().chain(&*label.tags).cloned().collect();
            label.tags = tags.into_iter().collect();
        }
        let mut entry = Entry {
            label,
            memory: kept.0,
            disk: kept.1,
        };
        *entry.tier(tier) = Some(version);
        inner.remember(digest, entry);
    }

    /// Notes that a tier does not have that version any more.
    pub(super) fn remove(&self, digest: &Digest, tier: Tier, version: u64) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(digest) else {
            return;
        };
        if *entry.tier(tier) == Some(version) {
            *entry.tier(tier) = None;
        }
        if entry.memory.is_none() && entry.disk.is_none() {
            inner.forget(digest);
        }
    }

    /// The responses of a distribution that a purge takes.
    pub(super) fn find(&self, distribution: &str, matcher: &Matcher) -> Vec<Digest> {
        let inner = self.lock();
        let mut found = match matcher {
            Matcher::Nothing => Vec::new(),
            Matcher::Tag(tag) => inner
                .tags
                .get(&(distribution.into(), tag.as_str().into()))
                .map(|digests| digests.iter().copied().collect())
                .unwrap_or_default(),
            Matcher::All => inner.stretch(distribution, "", |_| true),
            Matcher::Prefix(prefix) => inner.stretch(distribution, prefix, |_| true),
            // URLs are in order of their hosts first: all of the distribution's are looked at.
            Matcher::Path(path) => {
                inner.stretch(distribution, "", |stored| covers(path, local(stored)))
            }
            Matcher::PathPrefix(prefix) => inner.stretch(distribution, "", |stored| {
                local(stored).starts_with(prefix.as_str())
            }),
            Matcher::Exactly(url) => inner.under(distribution, url).collect(),
            Matcher::Url(url) => {
                let (path, has_query) = match url.split_once('?') {
                    Some((path, _)) => (path, true),
                    None => (url.as_str(), false),
                };
                let mut found: Vec<Digest> = inner.under(distribution, path).collect();
                if has_query {
                    let queries = format!("{path}?");
                    let covered = |stored: &str| covers(url, stored);
                    found.extend(inner.stretch(distribution, &queries, covered));
                }
                found
            }
        };
        // One may be known by two URLs.
        found.sort_unstable();
        found.dedup();
        found
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let inner = self.lock();
        assert!(inner.urls.len() <= 2 * inner.entries.len());
        inner.entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remember(&mut self, digest: Digest, entry: Entry) {
        let label = &entry.label;
        let named = |name: &Arc<str>| (Arc::clone(&label.distribution), Arc::clone(name));
        for tag in label.tags.iter() {
            self.tags.entry(named(tag)).or_default().insert(digest);
        }
        for url in label.urls() {
            self.urls.entry(named(url)).or_default().insert(digest);
        }
        self.entries.insert(digest, entry);
    }

    fn forget(&mut self, digest: &Digest) -> Option<Label> {
        let Entry { label, .. } = self.entries.remove(digest)?;
        let named = |name: &Arc<str>| (Arc::clone(&label.distribution), Arc::clone(name));
        for tag in label.tags.iter() {
            let name = named(tag);
            if let Some(digests) = self.tags.get_mut(&name) {
                digests.remove(digest);
                if digests.is_empty() {
                    self.tags.remove(&name);
                }
            }
        }
        for url in label.urls() {
            let name = named(url);
            if let Some(digests) = self.urls.get_mut(&name) {
                digests.remove(digest);
                if digests.is_empty() {
                    self.urls.remove(&name);
                }
            }
        }
        Some(label)
    }

    /// The responses with that URL.
    fn under(&self, distribution: &str, url: &str) -> impl Iterator<Item = Digest> {
        let found = self.urls.get(&(distribution.into(), url.into()));
        found.into_iter().flatten().copied()
    }

    /// The responses whose URLs begin so, in order, and are wanted.
    fn stretch(
        &self,
        distribution: &str,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<Digest> {
        let first: (Arc<str>, Arc<str>) = (distribution.into(), prefix.into());
        self.urls
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(|((of, url), _)| **of == *distribution && url.starts_with(prefix))
            .filter(|((_, url), _)| wanted(url))
            .flat_map(|(_, digests)| digests.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(distribution: &str, url: &str, tags: &[&str]) -> Label {
        Label {
            distribution: distribution.into(),
            url: url.into(),
            asked: None,
            tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
        }
    }

    fn index() -> Index {
        let index = Index::default();
        for (number, label) in [
            label("a", "http://h/x", &["t", "u"]),
            label("a", "http://h/x?q=1", &["t"]),
            label("a", "http://h/xy", &[]),
            label("b", "http://h/x", &["t"]),
        ]
        .iter()
        .enumerate()
        {
            let digest = [u8::try_from(number).unwrap(); 32];
            index.add(digest, label, Tier::Memory, 1);
        }
        index
    }

    fn found(index: &Index, distribution: &str, matcher: &Matcher) -> Vec<u8> {
        let found = index.find(distribution, matcher);
        let mut numbers: Vec<u8> = found.iter().map(|digest| digest[0]).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_purge_takes_what_it_names_of_its_own_distribution_only() {
        let index = index();
        for (matcher, expected) in [
            (Matcher::Url("http://h/x".into()), &[0][..]),
            (Matcher::Url("http://h/x?q=1".into()), &[0, 1]),
            (Matcher::Exactly("http://h/x?q=1".into()), &[1]),
            (Matcher::Exactly("http://h/x".into()), &[0]),
            (Matcher::Exactly("http://h/x?".into()), &[]),
            (Matcher::Prefix("http://h/x".into()), &[0, 1, 2]),
            (Matcher::Prefix("http://h/x?".into()), &[1]),
            (Matcher::Tag("t".into()), &[0, 1]),
            (Matcher::Tag("u".into()), &[0]),
            (Matcher::Tag("v".into()), &[]),
            (Matcher::All, &[0, 1, 2]),
            (Matcher::Path("/x".into()), &[0]),
            (Matcher::Path("/x?q=1".into()), &[0, 1]),
            (Matcher::PathPrefix("/x?".into()), &[1]),
            (Matcher::PathPrefix("/".into()), &[0, 1, 2]),
            (Matcher::Nothing, &[]),
        ] {
            assert_eq!(found(&index, "a", &matcher), expected, "{matcher:?}");
        }
        assert_eq!(found(&index, "b", &Matcher::All), [3]);
    }

    #[test]
    fn a_response_is_found_once_by_either_of_its_urls() {
        let index = Index::default();
        for (number, url) in ["http://h/a/", "http://h/b/"].into_iter().enumerate() {
            let label = Label {
                asked: Some("http://h/".into()),
                ..label("a", url, &[])
            };
            let digest = [u8::try_from(number).unwrap(); 32];
            index.add(digest, &label, Tier::Memory, 1);
        }
        for (matcher, expected) in [
            (Matcher::Url("http://h/".into()), &[0, 1][..]),
            (Matcher::Path("/".into()), &[0, 1]),
            (Matcher::Path("/b/".into()), &[1]),
            (Matcher::Prefix("http://h/".into()), &[0, 1]),
            (Matcher::All, &[0, 1]),
        ] {
            assert_eq!(found(&index, "a", &matcher), expected, "{matcher:?}");
        }
        for number in [0, 1] {
            index.remove(&[number; 32], Tier::Memory, 1);
        }
        assert!(index.lock().urls.is_empty());
    }

    #[test]
    fn a_response_stays_in_the_index_while_a_tier_has_its_version() {
        let index = index();
        let (digest, label) = ([0; 32], label("a", "http://h/x", &["t", "u"]));
        index.add(digest, &label, Tier::Disk, 1);
        index.add(digest, &label, Tier::Memory, 2);
        index.remove(&digest, Tier::Memory, 1);
        index.remove(&digest, Tier::Disk, 1);
        assert_eq!(found(&index, "a", &Matcher::Tag("u".into())), [0]);
        index.remove(&digest, Tier::Memory, 2);
        assert!(found(&index, "a", &Matcher::Tag("u".into())).is_empty());
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn an_older_version_on_disk_is_found_by_its_tags_until_it_is_replaced() {
        let index = Index::default();
        let (old, new) = (
            label("a", "http://h/x", &["t"]),
            label("a", "http://h/x", &["u"]),
        );
        index.add([0; 32], &old, Tier::Disk, 1);
        index.add([0; 32], &new, Tier::Memory, 2);
        for tag in ["t", "u"] {
            assert_eq!(found(&index, "a", &Matcher::Tag(tag.into())), [0], "{tag}");
        }
        index.add([0; 32], &new, Tier::Disk, 2);
        assert!(found(&index, "a", &Matcher::Tag("t".into())).is_empty());
        assert_eq!(found(&index, "a", &Matcher::Tag("u".into())), [0]);
    }

    #[test]
    fn a_response_that_loses_a_tag_is_not_found_by_it() {
        let index = index();
        index.add([0; 32], &label("a", "http://h/x", &["u"]), Tier::Memory, 2);
        assert_eq!(found(&index, "a", &Matcher::Tag("t".into())), [1]);
        assert_eq!(found(&index, "a", &Matcher::Tag("u".into())), [0]);
    }
}

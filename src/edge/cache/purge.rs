//! Purging, and what it means for responses that are still on their way.
//!
//! A response is stored only if nothing that was purged since its request went forward would have taken it: every purge is
//! noted in a [`Log`] before the index is looked through, and whoever stores asks the log while he holds it. So a
//! response is either seen by the purge in the index, or sees the purge in the log.
//!
//! Who writes to disk may take as long as the disk does, so he holds a lock of his own instead, from before he asks the log until what he
//! wrote is in the index. A purge waits for him without holding up anybody else.
//!
//! What is read from disk while it is purged is neither: it was stored before the purge, and asked for after it. So the disk's
//! record goes, or is marked, before what is in memory; and whoever takes a response from disk into memory holds the log and looks at
//! the record.
//!
//! The log is short. A request that has been under way for longer than the log reaches back is taken for purged. What is noted for
//! one distribution does not shorten the log of another: anybody who may send a POST fills it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::task::spawn_blocking;

use super::key;

/// How many different purges of a distribution the log reaches back, and how many bytes of texts. Who may send a POST chooses its URL.
const MOST_NOTES: usize = 16 << 10;
const MOST_TEXTS: usize = 4 << 20;

/// What is to be purged of a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// What is stored for this URL, in all its variants; also what is stored for it under fewer parameters, as a policy may
    /// have left them out. One that begins with `/` is meant on every host. Where a hook made another URL of the one that a
    /// viewer asked for, what was fetched then is taken by both.
    Url(String),
    /// What is stored for URLs that begin so, on every host if it begins with `/`.
    Prefix(String),
    /// What its origin gave this tag in `Cache-Tag` or `Surrogate-Key`.
    Tag(String),
    /// Everything.
    All,
}

/// What becomes of what is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeMode {
    /// It is stale from now on: it may be served while it is revalidated or when the origin fails.
    Soft,
    /// It is gone.
    Hard,
}

/// What purging came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Stored responses that were taken, and lists of the variants of a resource.
    pub objects: usize,
}

/// A purge whose texts are written as stored responses write them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Matcher {
    Url(String),
    /// What is stored for it as it is written, and nothing else.
    Exactly(String),
    Prefix(String),
    /// On whatever host.
    Path(String),
    PathPrefix(String),
    Tag(String),
    All,
    /// No URL begins so.
    Nothing,
}

impl Matcher {
    pub(super) fn new(purge: &Purge) -> Self {
        match purge {
            Purge::Url(path) if path.starts_with('/') => {
                let url = key::normal_url(&format!("http://h{path}"));
                url.map_or(Self::Nothing, |url| Self::Path(local(&url).to_owned()))
            }
            Purge::Prefix(path) if path.starts_with('/') => Self::PathPrefix(path.clone()),
            Purge::Url(url) => key::normal_url(url).map_or(Self::Nothing, Self::Url),
            Purge::Prefix(prefix) => normal_prefix(prefix).map_or(Self::Nothing, Self::Prefix),
            Purge::Tag(tag) => Self::Tag(tag.clone()),
            Purge::All => Self::All,
        }
    }

    /// What it names.
    fn text(&self) -> &str {
        match self {
            Self::Url(text)
            | Self::Exactly(text)
            | Self::Prefix(text)
            | Self::Path(text)
            | Self::PathPrefix(text)
            | Self::Tag(text) => text,
            Self::All | Self::Nothing => "",
        }
    }

    /// Whether it takes a response. Where its tags are not known yet, it may have any.
    fn takes(&self, url: &str, tags: Option<&[Arc<str>]>) -> bool {
        match self {
            Self::Url(purged) => covers(purged, url),
            Self::Exactly(purged) => purged == url,
            Self::Prefix(prefix) => url.starts_with(prefix.as_str()),
            Self::Path(purged) => covers(purged, local(url)),
            Self::PathPrefix(prefix) => local(url).starts_with(prefix.as_str()),
            Self::Tag(tag) => tags.is_none_or(|tags| tags.iter().any(|other| **other == **tag)),
            Self::All => true,
            Self::Nothing => false,
        }
    }
}

/// Path and query of an absolute URL.
pub(super) fn local(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.find('/').map_or("", |slash| &rest[slash..])
}

/// Whether purging one URL takes what is stored under another: the same, or the same with fewer parameters.
pub(super) fn covers(purged: &str, stored: &str) -> bool {
    if purged == stored {
        return true;
    }
    let (purged, parameters) = purged.split_once('?').unwrap_or((purged, ""));
    let (stored, kept) = stored.split_once('?').unwrap_or((stored, ""));
    let mut parameters = parameters.split('&');
    purged == stored
        && (kept.is_empty()
            || kept
                .split('&')
                .all(|kept| parameters.any(|one| one == kept)))
}

/// The scheme and the authority of a prefix in lower case; what is behind them stays.
fn normal_prefix(prefix: &str) -> Option<String> {
    let (scheme, rest) = prefix.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let Some(slash) = rest.find('/') else {
        return Some(format!("{scheme}://{}", rest.to_ascii_lowercase()));
    };
    let (authority, path) = rest.split_at(slash);
    let root = key::normal_url(&format!("{scheme}://{authority}/"))?;
    Some(format!("{root}{}", &path[1..]))
}

/// How many purges there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The purges of late.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Of all distributions.
    count: AtomicU64,
    /// Never held while anything is read or written: requests wait for it.
    notes: RwLock<Distributions>,
    /// Who writes to disk reads it.
    writing: RwLock<()>,
}

/// The notes of each distribution that was ever purged. Of one that is gone there is no more than its name and a number: only who
/// may remove distributions makes these more.
type Distributions = HashMap<String, Notes>;

/// Each purge stands once, at the time when it was made last: unsafe requests purge the same URLs again and again.
#[derive(Debug, Default)]
struct Notes {
    in_order: BTreeMap<u64, Arc<Matcher>>,
    latest: HashMap<Arc<Matcher>, u64>,
    /// The bytes of their texts.
    texts: usize,
    /// Purges up to this one are not all here.
    forgotten: u64,
}

impl Notes {
    fn add(&mut self, number: u64, matcher: Matcher) {
        let matcher = Arc::new(matcher);
        self.texts += matcher.text().len();
        if let Some(earlier) = self.latest.insert(Arc::clone(&matcher), number) {
            self.in_order.remove(&earlier);
            self.texts -= matcher.text().len();
        }
        self.in_order.insert(number, matcher);
        while (self.in_order.len() > MOST_NOTES || self.texts > MOST_TEXTS)
            && let Some((number, matcher)) = self.in_order.pop_first()
        {
            self.latest.remove(&matcher);
            self.texts -= matcher.text().len();
            self.forgotten = number;
        }
    }
}

impl Log {
    /// What is asked for after this is younger than all purges so far.
    pub(super) fn generation(&self) -> Generation {
        Generation(self.count.load(SeqCst))
    }

    /// The generation of what was there before anything was purged.
    pub(super) const fn beginning() -> Generation {
        Generation(0)
    }

    /// When this returns, whoever stores sees the purge. Who [writes](Self::writing) by then may not.
    pub(super) fn note(&self, distribution: &str, matcher: Matcher) {
        let mut distributions = self.write();
        let number = self.count.load(SeqCst) + 1;
        let notes = distributions.entry(distribution.to_owned()).or_default();
        notes.add(number, matcher);
        self.count.store(number, SeqCst);
    }

    /// Forgets the purges of a distribution that is gone. What has been under way since before the last of them is taken for
    /// purged: another distribution may have that name by now.
    pub(super) fn forget(&self, distribution: &str) {
        if let Some(notes) = self.write().get_mut(distribution) {
            let last = notes.in_order.last_key_value().map(|(number, _)| *number);
            *notes = Notes {
                forgotten: last.unwrap_or(notes.forgotten),
                ..Notes::default()
            };
        }
    }

    /// Waits for whoever holds it now.
    pub(super) fn pass(&self) {
        drop(self.write());
    }

    /// Keeps purges waiting that are noted from now on, until what is written now is in the index. To be taken before the log is asked, by
    /// who may block.
    pub(super) fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.writing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for whoever writes to disk now.
    pub(super) async fn pass_writers(self: &Arc<Self>) {
        // Most often nobody does.
        if self.writing.try_write().is_ok() {
            return;
        }
        let log = Arc::clone(self);
        let pass = move || drop(log.writing.write());
        // It ends early only when the node does.
        let _ = spawn_blocking(pass).await;
    }

    fn write(&self) -> RwLockWriteGuard<'_, Distributions> {
        self.notes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps purges out. What is in the index when this is dropped is seen by the next purge.
    pub(super) fn hold(&self) -> Held<'_> {
        Held(self.notes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// While it lives, nothing is purged.
#[derive(Debug)]
pub(super) struct Held<'a>(RwLockReadGuard<'a, Distributions>);

impl Held<'_> {
    /// Whether a purge since that generation takes a response, or may take it.
    pub(super) fn was_purged<'a>(
        &self,
        since: Generation,
        distribution: &str,
        urls: impl Iterator<Item = &'a Arc<str>> + Clone,
        tags: Option<&[Arc<str>]>,
    ) -> bool {
        let Some(notes) = self.0.get(distribution) else {
            return false;
        };
        if since.0 < notes.forgotten {
            return true;
        }
        let mut later = notes.in_order.range(since.0 + 1..);
        later.any(|(_, matcher)| urls.clone().any(|url| matcher.takes(url, tags)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static URL: LazyLock<Arc<str>> = LazyLock::new(|| "http://a/x".into());

    fn url() -> impl Iterator<Item = &'static Arc<str>> + Clone {
        std::iter::once(&*URL)
    }

    /// One more than the log has room for; none takes a response without tags.
    fn fill(log: &Log, distribution: &str) {
        for number in 0..=MOST_NOTES {
            log.note(distribution, Matcher::Tag(number.to_string()));
        }
    }

    #[test]
    fn a_purge_of_a_url_takes_what_is_stored_under_fewer_of_its_parameters() {
        for (purged, stored, expected) in [
            ("http://a/x", "http://a/x", true),
            ("http://a/x", "http://a/x?q", false),
            ("http://a/x?q=1&r=2", "http://a/x?q=1&r=2", true),
            ("http://a/x?q=1&r=2", "http://a/x?r=2", true),
            ("http://a/x?q=1&r=2", "http://a/x", true),
            ("http://a/x?q=1&r=2", "http://a/x?r=2&q=1", false),
            ("http://a/x?q=1", "http://a/x?q=2", false),
            ("http://a/x?q=1", "http://a/y?q=1", false),
        ] {
            assert_eq!(covers(purged, stored), expected, "{purged} {stored}");
        }
    }

    #[test]
    fn a_prefix_is_compared_as_urls_are_stored() {
        for (prefix, expected) in [
            (
                "HTTP://A.Example:80/Img/",
                Matcher::Prefix("http://a.example/Img/".into()),
            ),
            ("https://a/", Matcher::Prefix("https://a/".into())),
            ("https://A", Matcher::Prefix("https://a".into())),
            ("/img/", Matcher::PathPrefix("/img/".into())),
            ("img/", Matcher::Nothing),
        ] {
            assert_eq!(Matcher::new(&Purge::Prefix(prefix.into())), expected);
        }
    }

    #[test]
    fn what_went_forward_before_a_purge_is_purged_and_what_went_after_is_not() {
        let log = Log::default();
        let tags: [Arc<str>; 1] = ["t".into()];
        let was = |since, url, tags| {
            let held = log.hold();
            held.was_purged(since, "site", [&Arc::from(url)].into_iter(), tags)
        };
        let before = log.generation();
        log.note("site", Matcher::Url("http://a/x".into()));
        log.note("other", Matcher::All);
        let between = log.generation();
        log.note("site", Matcher::Tag("t".into()));
        assert!(was(before, "http://a/x", Some(&[])));
        assert!(!was(between, "http://a/x", Some(&[])));
        assert!(!was(before, "http://a/y", Some(&[])));
        assert!(was(between, "http://a/y", Some(&tags)));
        assert!(was(between, "http://a/y", None), "it may have the tag");
        assert!(!was(log.generation(), "http://a/x", None));
    }

    #[test]
    fn what_has_two_urls_is_purged_by_either() {
        let log = Log::default();
        let before = log.generation();
        log.note("site", Matcher::Url("http://a/x".into()));
        let urls = |urls: [&str; 2]| {
            let urls = urls.map(Arc::from);
            let held = log.hold();
            held.was_purged(before, "site", urls.iter(), Some(&[]))
        };
        assert!(urls(["http://a/x", "http://a/y"]));
        assert!(urls(["http://a/y", "http://a/x"]));
        assert!(!urls(["http://a/y", "http://a/z"]));
    }

    #[test]
    fn long_texts_do_not_fill_memory() {
        let log = Log::default();
        let before = log.generation();
        for number in 0..1000 {
            let url = format!("http://a/{number}?{}", "q".repeat(16 << 10));
            log.note("site", Matcher::Exactly(url.clone()));
            log.note("site", Matcher::Exactly(url));
        }
        let held = log.hold();
        let notes = &held.0["site"];
        let texts: usize = notes.in_order.values().map(|one| one.text().len()).sum();
        assert_eq!(texts, notes.texts);
        assert!(
            (MOST_TEXTS - (17 << 10)..=MOST_TEXTS).contains(&texts),
            "{texts}"
        );
        assert_eq!(notes.latest.len(), notes.in_order.len());
        assert!(held.was_purged(before, "site", url(), Some(&[])));
    }

    #[test]
    fn what_is_older_than_the_log_is_taken_for_purged() {
        let log = Log::default();
        let before = log.generation();
        fill(&log, "site");
        let after = log.generation();
        log.note("other", Matcher::All);
        assert!(log.hold().was_purged(before, "site", url(), None));
        assert!(!log.hold().was_purged(after, "site", url(), None));
    }

    #[test]
    fn a_log_that_one_distribution_fills_reaches_back_as_far_as_before_for_the_others() {
        let log = Log::default();
        let was = |since, distribution| {
            let held = log.hold();
            held.was_purged(since, distribution, url(), Some(&[]))
        };
        let first = log.generation();
        log.note("site", Matcher::All);
        let second = log.generation();
        fill(&log, "other");
        assert!(was(first, "site"));
        assert!(!was(second, "site"));
        assert!(!was(first, "a third"));
        assert!(was(second, "other"));
    }

    #[test]
    fn what_is_on_its_way_for_a_distribution_that_is_gone_is_purged_without_its_notes() {
        let log = Log::default();
        let before = log.generation();
        fill(&log, "site");
        log.forget("site");
        log.forget("other");
        let after = log.generation();
        assert!(log.hold().was_purged(before, "site", url(), Some(&[])));
        assert!(!log.hold().was_purged(after, "site", url(), None));
        let held = log.hold();
        assert_eq!((held.0.len(), held.0["site"].latest.len()), (1, 0));
    }

    #[test]
    fn the_same_purge_again_and_again_does_not_fill_the_log() {
        let log = Log::default();
        let before = log.generation();
        log.note("site", Matcher::Tag("t".into()));
        for _ in 0..=MOST_NOTES {
            log.note("site", Matcher::Exactly("http://a/y".into()));
        }
        let was = |tags: &[Arc<str>]| log.hold().was_purged(before, "site", url(), Some(tags));
        assert!(!was(&[]));
        assert!(was(&["t".into()]));
    }
}

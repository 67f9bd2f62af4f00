//! The numbers of distributions: what viewers got, what the cache and the hooks had to do with it, and how the origins do.
//!
//! A distribution's numbers are fetched once and kept with it, like a function's. What somebody else counts, the cache and the
//! origins' servers, is [read](Levels) when somebody scrapes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use http::StatusCode;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit,
};

use super::{Counter, Durations, Family, Labels};
use crate::model::{CacheResult, Outcome, hook::Point};

/// The classes of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The numbers of one distribution.
#[derive(Default)]
pub struct DistributionMetrics {
    /// Answers, by class and by the place in [`CacheResult::ALL`]; the last place is for those that the cache had nothing to
    /// do with.
    answers: [[Counter; CacheResult::ALL.len() + 1]; CLASSES.len()],
    /// Requests that the node had to answer itself, by the place in [`Outcome::ALL`].
    failures: [Counter; Outcome::ALL.len()],
    /// Calls of hooks, by the place in [`Point::ALL`].
    hooks: [[Counter; HookResult::ALL.len()]; Point::ALL.len()],
    /// Bytes of answers' bodies that were handed to viewers' connections.
    pub viewer_bytes: Counter,
    origins: RwLock<BTreeMap<String, Arc<OriginMetrics>>>,
    read: RwLock<Option<ReadLevels>>,
}

/// The numbers of one origin of a distribution.
#[derive(Debug, Default)]
pub struct OriginMetrics {
    /// Bytes of its answers' bodies.
    pub bytes: Counter,
    /// From requests to the heads of its answers, further attempts included.
    pub first_byte: Durations,
    failures: [Counter; OriginFailure::ALL.len()],
}

impl OriginMetrics {
    /// It gave no answer, or broke one off.
    pub fn failed(&self, failure: OriginFailure) {
        self.failures[failure as usize].increment();
    }
}

/// What came of a call of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookResult {
    /// It said what becomes of the request.
    Ok,
    /// It failed, and the request with it.
    Failed,
    /// It failed, and the request went on as if it were not there.
    Bypassed,
}

impl HookResult {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Ok, "ok"),
        (Self::Failed, "failed"),
        (Self::Bypassed, "bypassed"),
    ];
}

/// Why an origin gave no answer, or not the whole of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginFailure {
    /// No connection could be made.
    Connect,
    /// Nor in time.
    ConnectTimeout,
    /// The last connections failed, and another was being tried.
    CircuitOpen,
    /// All connections were in use for too long.
    NoConnection,
    /// The head of an answer did not come in time.
    FirstByteTimeout,
    /// The rest of it did not.
    IdleTimeout,
    /// The connection failed, or what came was not HTTP.
    Broken,
    /// What came was HTTP in form and not in meaning.
    Invalid,
}

impl OriginFailure {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Connect, "connect"),
        (Self::ConnectTimeout, "connect_timeout"),
        (Self::CircuitOpen, "circuit_open"),
        (Self::NoConnection, "no_connection"),
        (Self::FirstByteTimeout, "first_byte_timeout"),
        (Self::IdleTimeout, "idle_timeout"),
        (Self::Broken, "broken"),
        (Self::Invalid, "invalid"),
    ];
}

/// What somebody else counts for a distribution.
#[derive(Debug, Default)]
pub struct Levels {
    /// The servers of its origins.
    pub servers: Vec<ServerLevel>,
    /// Its origins' further attempts, by name: after failures, and at a backup because of a status.
    pub attempts: Vec<(String, u64, u64)>,
    /// What the cache's tiers took and gave up of it: their names, objects and bytes stored, objects and bytes evicted.
    pub tiers: Vec<(&'static str, [u64; 4])>,
}

/// How a server of an origin stands.
#[derive(Debug)]
pub struct ServerLevel {
    /// The origin.
    pub origin: String,
    /// The server's URL.
    pub url: String,
    /// Whether it gets its share of the requests.
    pub is_up: bool,
}

/// Reads what somebody else counts. Nothing, when that is gone.
pub type ReadLevels = Box<dyn Fn() -> Option<Levels> + Send + Sync>;

impl DistributionMetrics {
    /// A request was answered.
    pub fn answered(&self, status: StatusCode, cache: Option<CacheResult>) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let cache = cache.map_or(CacheResult::ALL.len(), |cache| cache as usize);
        self.answers[class][cache].increment();
    }

    /// The node had to answer itself.
    pub fn failed(&self, outcome: Outcome) {
        self.failures[outcome as usize].increment();
    }

    /// A hook was called.
    pub fn hook(&self, point: Point, result: HookResult) {
        self.hooks[point as usize][result as usize].increment();
    }

    /// The numbers of its origins, which are these from now on.
    pub fn origins<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<String, Arc<OriginMetrics>> {
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        *origins = names
            .map(|name| {
                let known = origins.get(name).cloned();
                (name.to_owned(), known.unwrap_or_default())
            })
            .collect();
        origins.clone()
    }

    /// Reads what somebody else counts like this, from now on.
    pub fn read_with(&self, read: ReadLevels) {
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }

    fn levels(&self) -> Levels {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().and_then(|read| read()).unwrap_or_default()
    }

    /// Requests answered, and those that the origins did not have to be asked for.
    pub fn requests(&self) -> (u64, u64) {
        let (mut all, mut saved) = (0, 0);
        for class in &self.answers {
            all += class.iter().map(Counter::get).sum::<u64>();
            for result in [CacheResult::Hit, CacheResult::Stale, CacheResult::Collapsed] {
                saved += class[result as usize].get();
            }
        }
        (all, saved)
    }

    /// Bytes of answers' bodies that came from its origins.
    pub fn origin_bytes(&self) -> u64 {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        origins.values().map(|origin| origin.bytes.get()).sum()
    }
}

impl fmt::Debug for DistributionMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DistributionMetrics")
            .finish_non_exhaustive()
    }
}

/// Every distribution's numbers.
#[derive(Debug, Default)]
pub(super) struct Distributions(pub(super) RwLock<BTreeMap<String, Arc<DistributionMetrics>>>);

/// A distribution while it is written: name, numbers, origins, levels.
struct Scraped {
    name: String,
    metrics: Arc<DistributionMetrics>,
    origins: BTreeMap<String, Arc<OriginMetrics>>,
    levels: Levels,
}

impl Collector for Distributions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let distributions = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            known.clone()
        };
        let distributions: Vec<Scraped> = distributions
            .into_iter()
            .map(|(name, metrics)| {
                let origins = metrics.origins.read();
                let origins = origins.unwrap_or_else(PoisonError::into_inner).clone();
                Scraped {
                    name,
                    levels: metrics.levels(),
                    metrics,
                    origins,
                }
            })
            .collect();
        viewers(&mut encoder, &distributions)?;
        origins(&mut encoder, &distributions)?;
        tiers(&mut encoder, &distributions)
    }
}

fn viewers(encoder: &mut DescriptorEncoder<'_>, distributions: &[Scraped]) -> fmt::Result {
    let mut requests = Family::counter(
        encoder,
        "wharf_distribution_requests",
        "Requests to a distribution that were answered, by class of status and by what the cache had to do with them",
    )?;
    let words = CacheResult::ALL.map(CacheResult::code);
    for Scraped { name, metrics, .. } in distributions {
        for (class, counts) in CLASSES.iter().zip(&metrics.answers) {
            for (cache, count) in words.iter().chain([&"none"]).zip(counts) {
                let labels = [
                    ("distribution", name.as_str()),
                    ("status", *class),
                    ("cache", *cache),
                ];
                some(&mut requests, &labels, count)?;
            }
        }
    }
    let mut failures = Family::counter(
        encoder,
        "wharf_distribution_failures",
        "Requests to a distribution that the node had to answer itself, by how they ended",
    )?;
    for Scraped { name, metrics, .. } in distributions {
        for (outcome, count) in Outcome::ALL.iter().zip(&metrics.failures) {
            let labels = [("distribution", name.as_str()), ("outcome", outcome.code())];
            some(&mut failures, &labels, count)?;
        }
    }
    let mut bytes = Family::counter(
        encoder,
        "wharf_distribution_viewer_bytes",
        "Bytes of answers' bodies that were handed to viewers",
    )?;
    for Scraped { name, metrics, .. } in distributions {
        let labels = [("distribution", name.as_str())];
        bytes.count(&labels, metrics.viewer_bytes.get())?;
    }
    let mut hooks = Family::counter(
        encoder,
        "wharf_distribution_hook_calls",
        "Calls of hooks, by point and by what came of them",
    )?;
    for Scraped { name, metrics, .. } in distributions {
        for (point, counts) in Point::ALL.iter().zip(&metrics.hooks) {
            for ((_, result), count) in HookResult::ALL.iter().zip(counts) {
                let labels = [
                    ("distribution", name.as_str()),
                    ("point", point.key()),
                    ("result", *result),
                ];
                some(&mut hooks, &labels, count)?;
            }
        }
    }
    Ok(())
}

fn origins(encoder: &mut DescriptorEncoder<'_>, distributions: &[Scraped]) -> fmt::Result {
    let each = || {
        distributions.iter().flat_map(|scraped| {
            let name = scraped.name.as_str();
            let origins = scraped.origins.iter();
            origins.map(move |(origin, metrics)| {
                (
                    [("distribution", name), ("origin", origin.as_str())],
                    metrics,
                )
            })
        })
    };
    let mut bytes = Family::counter(
        encoder,
        "wharf_origin_bytes",
        "Bytes of answers' bodies that an origin sent",
    )?;
    for (labels, metrics) in each() {
        bytes.count(&labels, metrics.bytes.get())?;
    }
    let mut first_byte = encoder.encode_descriptor(
        "wharf_origin_first_byte",
        "From a request to an origin to the head of its answer, further attempts included.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (labels, metrics) in each() {
        let (buckets, count, sum) = metrics.first_byte.snapshot();
        if count > 0 {
            first_byte
                .encode_family(&Labels(&labels))?
                .encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
        }
    }
    let mut failures = Family::counter(
        encoder,
        "wharf_origin_failures",
        "Requests to an origin without an answer, or without the whole of one, by the reason",
    )?;
    for ([distribution, origin], metrics) in each() {
        for ((_, reason), count) in OriginFailure::ALL.iter().zip(&metrics.failures) {
            some(
                &mut failures,
                &[distribution, origin, ("reason", *reason)],
                count,
            )?;
        }
    }
    type Pick = fn(&(String, u64, u64)) -> u64;
    let attempts: [(&str, &str, Pick); 2] = [
        (
            "wharf_origin_retries",
            "Further attempts at an origin after failures",
            |(_, retries, _)| *retries,
        ),
        (
            "wharf_origin_failovers",
            "Requests that went on to a backup server because of a status",
            |(_, _, failovers)| *failovers,
        ),
    ];
    for (name, help, pick) in attempts {
        let mut family = Family::counter(encoder, name, help)?;
        for scraped in distributions {
            for attempts in &scraped.levels.attempts {
                let labels = [
                    ("distribution", scraped.name.as_str()),
                    ("origin", attempts.0.as_str()),
                ];
                family.count(&labels, pick(attempts))?;
            }
        }
    }
    let mut up = Family::gauge(
        encoder,
        "wharf_origin_server_up",
        "Whether a server of an origin gets its share of the requests: not if its checks fail, it was ejected, or it cannot be connected to",
    )?;
    for scraped in distributions {
        for server in &scraped.levels.servers {
            let labels = [
                ("distribution", scraped.name.as_str()),
                ("origin", server.origin.as_str()),
                ("server", server.url.as_str()),
            ];
            up.value(&labels, i64::from(server.is_up))?;
        }
    }
    Ok(())
}

fn tiers(encoder: &mut DescriptorEncoder<'_>, distributions: &[Scraped]) -> fmt::Result {
    for (place, name, help) in [
        (
            0,
            "wharf_cache_stored_objects",
            "Answers that a tier of the cache took",
        ),
        (1, "wharf_cache_stored_bytes", "Their bytes"),
        (
            2,
            "wharf_cache_evicted_objects",
            "Answers that a tier of the cache gave up for want of room",
        ),
        (3, "wharf_cache_evicted_bytes", "Their bytes"),
    ] {
        let mut family = Family::counter(encoder, name, help)?;
        for scraped in distributions {
            for (tier, numbers) in &scraped.levels.tiers {
                let labels = [("distribution", scraped.name.as_str()), ("tier", *tier)];
                family.count(&labels, numbers[place])?;
            }
        }
    }
    Ok(())
}

/// Writes a number that is not 0: most sets of labels never occur.
fn some(family: &mut Family<'_>, labels: &[(&str, &str)], count: &Counter) -> fmt::Result {
    match count.get() {
        0 => Ok(()),
        count => family.count(labels, count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn what_has_a_place_stands_there() {
        for (place, result) in CacheResult::ALL.iter().enumerate() {
            assert_eq!(*result as usize, place);
        }
        for (place, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, place);
        }
        for (place, (result, _)) in HookResult::ALL.iter().enumerate() {
            assert_eq!(*result as usize, place);
        }
        for (place, (failure, _)) in OriginFailure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, place);
        }
    }

    #[test]
    fn a_distributions_numbers_are_scraped_until_it_is_gone() {
        let metrics = Metrics::new();
        let site = metrics.distribution("site");
        site.answered(StatusCode::OK, Some(CacheResult::Hit));
        site.answered(StatusCode::NOT_FOUND, None);
        site.failed(Outcome::NoRoute);
        site.hook(Point::OriginRequest, HookResult::Bypassed);
        site.viewer_bytes.add(7);
        let origins = site.origins(["main", "former"].into_iter());
        origins["main"].failed(OriginFailure::IdleTimeout);
        origins["main"].bytes.add(5);
        origins["main"]
            .first_byte
            .observe(std::time::Duration::from_micros(1_500));
        site.read_with(Box::new(|| {
            Some(Levels {
                servers: vec![ServerLevel {
                    origin: "main".to_owned(),
                    url: "http://a.example/".to_owned(),
                    is_up: false,
                }],
                attempts: vec![("main".to_owned(), 2, 1)],
                tiers: vec![("memory", [4, 400, 3, 300])],
            })
        }));
        // It is configured anew, without the former origin.
        assert_eq!(site.origins(["main"].into_iter())["main"].bytes.get(), 5);
        let text = metrics.encode();
        for line in [
            r#"wharf_distribution_requests_total{distribution="site",status="2xx",cache="hit"} 1"#,
            r#"wharf_distribution_requests_total{distribution="site",status="4xx",cache="none"} 1"#,
            r#"wharf_distribution_failures_total{distribution="site",outcome="no_route"} 1"#,
            r#"wharf_distribution_hook_calls_total{distribution="site",point="origin_request",result="bypassed"} 1"#,
            r#"wharf_distribution_viewer_bytes_total{distribution="site"} 7"#,
            r#"wharf_origin_bytes_total{distribution="site",origin="main"} 5"#,
            r#"wharf_origin_failures_total{distribution="site",origin="main",reason="idle_timeout"} 1"#,
            r#"wharf_origin_first_byte_seconds_bucket{le="0.002",distribution="site",origin="main"} 1"#,
            r#"wharf_origin_retries_total{distribution="site",origin="main"} 2"#,
            r#"wharf_origin_failovers_total{distribution="site",origin="main"} 1"#,
            r#"wharf_origin_server_up{distribution="site",origin="main",server="http://a.example/"} 0"#,
            r#"wharf_cache_stored_bytes_total{distribution="site",tier="memory"} 400"#,
            r#"wharf_cache_evicted_objects_total{distribution="site",tier="memory"} 3"#,
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }
        assert!(!text.contains("former"), "{text}");
        assert_eq!(site.requests(), (2, 1));
        metrics.remove_distribution("site");
        assert!(!metrics.encode().contains("site"));
    }
}

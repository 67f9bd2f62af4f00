//! Numbers about the node and its functions, for Prometheus.
//!
//! A function's numbers are atomics in a [`FunctionMetrics`], fetched once and kept with what runs the function: counting
//! an invocation is a handful of relaxed additions, without a lock and without looking a label up. (The histogram of
//! prometheus-client takes a mutex and allocates its buckets one by one; the fixed buckets here are a search and two
//! additions.) They are encoded when somebody scrapes.
//!
//! Labels come from closed sets only: what is deployed, [`Outcome`], cold or warm, why an outbound request was refused, and
//! the like. A function or distribution that is removed takes its series along.

mod distribution;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use self::distribution::Distributions;
pub use self::distribution::{
    DistributionMetrics, HookResult, Levels, OriginFailure, OriginMetrics, ReadLevels, ServerLevel,
};
use crate::model::{FunctionName, InvocationRecord, Outcome, Start};

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration buckets, in microseconds: from below a warm hello to the longest timeout.
const BUCKETS: [u64; 20] = [
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    900_000_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds, or takes away what is negative.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Durations {
    /// One a bound of [`BUCKETS`], and one for what is above all of them.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Bounds in seconds, each with the observations between it and the one before.
    fn snapshot(&self) -> ([(f64, u64); BUCKETS.len() + 1], u64, f64) {
        let mut total = 0;
        let buckets = std::array::from_fn(|index| {
            let count = self.buckets[index].load(Relaxed);
            total += count;
            let bound = BUCKETS.get(index).map_or(f64::INFINITY, |us| seconds(*us));
            (bound, count)
        });
        (buckets, total, seconds(self.sum_us.load(Relaxed)))
    }
}

/// The numbers of one function.
#[derive(Debug, Default)]
pub struct FunctionMetrics {
    /// By the place in [`Outcome::ALL`].
    requests: [AtomicU64; Outcome::ALL.len()],
    durations: Durations,
    cpu_us: Counter,
    fuel: Counter,
    cold: Counter,
    warm: Counter,
    concurrent: Gauge,
    events_dropped: [Counter; EventDropped::ALL.len()],
    /// Events for asynchronous invocation that were taken over.
    pub events_received: Counter,
    /// How old events were when an attempt at them began.
    pub event_age: Durations,
    /// Records that did not get to a destination.
    pub destination_failures: Counter,
    /// Events that did not get to a dead-letter target.
    pub dead_letter_errors: Counter,
    /// Events that were not passed on because a chain of them had come round too often.
    pub recursion_dropped: Counter,
}

impl FunctionMetrics {
    /// An invocation ended, and an instance had been there for it.
    pub fn record(&self, record: &InvocationRecord) {
        self.requests[record.outcome as usize].fetch_add(1, Relaxed);
        self.durations.observe(record.duration);
        self.cpu_us
            .add(u64::try_from(record.cpu.as_micros()).unwrap_or(u64::MAX));
        self.fuel.add(record.fuel);
        match record.start {
            Start::Cold => self.cold.increment(),
            Start::Warm => self.warm.increment(),
        }
    }

    /// A request was turned away before an instance was there for it.
    pub fn refuse(&self, outcome: Outcome) {
        self.requests[outcome as usize].fetch_add(1, Relaxed);
    }

    /// An event for asynchronous invocation was given up.
    pub fn event_dropped(&self, reason: EventDropped) {
        self.events_dropped[reason as usize].increment();
    }

    /// An invocation was admitted. It is running until [`released`](Self::released).
    pub fn admitted(&self) {
        self.concurrent.add(1);
    }

    /// An invocation that was admitted runs no more.
    pub fn released(&self) {
        self.concurrent.add(-1);
    }
}

/// Why an event for asynchronous invocation was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventDropped {
    /// The function failed as often as it may.
    Retries,
    /// It was too old.
    Age,
    /// The function is switched off, and somebody is there to take the event instead.
    Off,
    /// The function was removed, or the version or alias that it was for.
    Gone,
}

impl EventDropped {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Retries, "retries"),
        (Self::Age, "age"),
        (Self::Off, "off"),
        (Self::Gone, "gone"),
    ];
}

impl fmt::Display for EventDropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Retries => "its retries are used up",
            Self::Age => "it is too old",
            Self::Off => "the function's concurrency is 0",
            Self::Gone => "its version or alias is not there",
        })
    }
}

/// Why an outbound request of a function was refused, or that it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// It was sent.
    Allowed,
    /// The address is not public, and not granted.
    Private,
    /// The invocation has sent as many as it may.
    Count,
    /// A request hook was not granted it.
    NotGranted,
}

impl Outbound {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Allowed, "allowed"),
        (Self::Private, "private_address"),
        (Self::Count, "count"),
        (Self::NotGranted, "not_granted"),
    ];
}

/// The numbers of the node itself. Each is added to where it happens.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    /// Components that were compiled.
    pub compiled: Counter,
    /// Components that could not be compiled.
    pub compile_failures: Counter,
    /// Compiled components that were mapped from disk.
    pub mapped: Counter,
    outbound: [Counter; Outbound::ALL.len()],
    /// Requests that reached no function, by the place in [`Outcome::ALL`].
    unrouted: [Counter; Outcome::ALL.len()],
}

impl NodeMetrics {
    /// A function wanted to send a request.
    pub fn outbound(&self, outbound: Outbound) {
        self.outbound[outbound as usize].increment();
    }

    /// A request reached no function.
    pub fn unrouted(&self, outcome: Outcome) {
        self.unrouted[outcome as usize].increment();
    }
}

/// A number that lives elsewhere and is read when somebody scrapes.
pub type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// All numbers of a node.
pub struct Metrics {
    functions: Arc<Functions>,
    distributions: Arc<Distributions>,
    node: Arc<NodeMetrics>,
    registry: RwLock<Registry>,
}

impl Metrics {
    /// Numbers that are all 0.
    pub fn new() -> Self {
        let functions = Arc::new(Functions::default());
        let distributions = Arc::new(Distributions::default());
        let node = Arc::new(NodeMetrics::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&functions)));
        registry.register_collector(Box::new(Arc::clone(&distributions)));
        registry.register_collector(Box::new(NodeCollector(Arc::clone(&node))));
        Self {
            functions,
            distributions,
            node,
            registry: RwLock::new(registry),
        }
    }

    /// The numbers of a function, which begin at 0 the first time.
    pub fn function(&self, name: &FunctionName) -> Arc<FunctionMetrics> {
        let functions = self.functions.0.read();
        if let Some(metrics) = functions.unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(metrics);
        }
        let functions = self.functions.0.write();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(functions.entry(name.clone()).or_default())
    }

    /// Forgets a function that was deleted. Who still holds its numbers counts for nobody.
    pub fn remove(&self, name: &FunctionName) {
        let functions = self.functions.0.write();
        functions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// The numbers of a distribution, which begin at 0 the first time.
    pub fn distribution(&self, name: &str) -> Arc<DistributionMetrics> {
        let distributions = self.distributions.0.write();
        let mut distributions = distributions.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(distributions.entry(name.to_owned()).or_default())
    }

    /// Forgets a distribution that was removed.
    pub fn remove_distribution(&self, name: &str) {
        let distributions = self.distributions.0.write();
        distributions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// The numbers of the node itself.
    pub fn node(&self) -> &Arc<NodeMetrics> {
        &self.node
    }

    /// Adds a number that only grows and that somebody else counts. `name` is without `_total`.
    pub fn register_counter(&self, name: &'static str, help: &'static str, read: Read) {
        self.register(name, help, MetricType::Counter, read);
    }

    /// Adds a number that goes up and down and that somebody else keeps.
    pub fn register_gauge(&self, name: &'static str, help: &'static str, read: Read) {
        self.register(name, help, MetricType::Gauge, read);
    }

    fn register(&self, name: &'static str, help: &'static str, kind: MetricType, read: Read) {
        let external = External {
            name,
            help,
            kind,
            read,
        };
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .register_collector(Box::new(external));
    }

    /// Everything, as text of the type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail, and nothing else in there does.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Every function's numbers. A family at a time, as the format wants it.
#[derive(Debug, Default)]
struct Functions(RwLock<BTreeMap<FunctionName, Arc<FunctionMetrics>>>);

impl Collector for Functions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let functions: Vec<_> = {
            let functions = self.0.read().unwrap_or_else(PoisonError::into_inner);
            functions
                .iter()
                .map(|(name, metrics)| (name.clone(), Arc::clone(metrics)))
                .collect()
        };

        let mut requests = Family::counter(
            &mut encoder,
            "wharf_requests",
            "Requests to a function, by how they ended",
        )?;
        for (name, metrics) in &functions {
            for (outcome, count) in Outcome::ALL.iter().zip(&metrics.requests) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = [("function", name.as_str()), ("outcome", outcome.code())];
                    requests.count(&labels, count)?;
                }
            }
        }

        let mut durations = encoder.encode_descriptor(
            "wharf_request_duration",
            "From admission to the last byte of the answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (name, metrics) in &functions {
            let (buckets, count, sum) = metrics.durations.snapshot();
            if count > 0 {
                durations
                    .encode_family(&[("function", name.as_str())])?
                    .encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
            }
        }

        let mut cpu = encoder.encode_descriptor(
            "wharf_invocation_cpu",
            "Processor time of a function and of its host calls",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        for (name, metrics) in &functions {
            cpu.encode_family(&[("function", name.as_str())])?
                .encode_counter::<[(&str, &str); 0], _, f64>(
                    &seconds(metrics.cpu_us.get()),
                    None,
                )?;
        }

        let mut fuel = Family::counter(&mut encoder, "wharf_fuel", "Units of fuel used")?;
        for (name, metrics) in &functions {
            fuel.count(&[("function", name.as_str())], metrics.fuel.get())?;
        }

        let mut starts = Family::counter(
            &mut encoder,
            "wharf_instance_starts",
            "Invocations, by whether an instance was ready",
        )?;
        for (name, metrics) in &functions {
            for (kind, count) in [("cold", &metrics.cold), ("warm", &metrics.warm)] {
                starts.count(&[("function", name.as_str()), ("kind", kind)], count.get())?;
            }
        }

        let mut dropped = Family::counter(
            &mut encoder,
            "wharf_async_events_dropped",
            "Events for asynchronous invocation that were given up, by the reason",
        )?;
        for (name, metrics) in &functions {
            for (reason, word) in EventDropped::ALL {
                let count = metrics.events_dropped[reason as usize].get();
                if count > 0 {
                    dropped.count(&[("function", name.as_str()), ("reason", word)], count)?;
                }
            }
        }

        let mut ages = encoder.encode_descriptor(
            "wharf_async_event_age",
            "How old events for asynchronous invocation were when an attempt at them began",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (name, metrics) in &functions {
            let (buckets, count, sum) = metrics.event_age.snapshot();
            if count > 0 {
                ages.encode_family(&[("function", name.as_str())])?
                    .encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
            }
        }

        type Pick = fn(&FunctionMetrics) -> &Counter;
        let counters: [(&str, &str, Pick); 4] = [
            (
                "wharf_async_events_received",
                "Events for asynchronous invocation that were taken over",
                |metrics| &metrics.events_received,
            ),
            (
                "wharf_destination_delivery_failures",
                "Invocation records that did not get to a destination",
                |metrics| &metrics.destination_failures,
            ),
            (
                "wharf_dead_letter_errors",
                "Events that did not get to a dead-letter target",
                |metrics| &metrics.dead_letter_errors,
            ),
            (
                "wharf_recursive_invocations_dropped",
                "Events that were not passed on because their chain had become too long",
                |metrics| &metrics.recursion_dropped,
            ),
        ];
        for (name, help, pick) in counters {
            let mut family = Family::counter(&mut encoder, name, help)?;
            for (function, metrics) in &functions {
                let count = pick(metrics).get();
                if count > 0 {
                    family.count(&[("function", function.as_str())], count)?;
                }
            }
        }

        let mut concurrent = Family::gauge(
            &mut encoder,
            "wharf_concurrent_executions",
            "Invocations that are running",
        )?;
        for (name, metrics) in &functions {
            concurrent.value(&[("function", name.as_str())], metrics.concurrent.get())?;
        }
        Ok(())
    }
}

/// The node's own numbers.
#[derive(Debug)]
struct NodeCollector(Arc<NodeMetrics>);

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = &*self.0;
        for (name, help, counter) in [
            (
                "wharf_components_mapped",
                "Compiled components mapped from disk",
                &node.mapped,
            ),
            (
                "wharf_compilations",
                "Components that were compiled",
                &node.compiled,
            ),
            (
                "wharf_compile_failures",
                "Components that could not be compiled",
                &node.compile_failures,
            ),
        ] {
            Family::counter(&mut encoder, name, help)?.count(&[], counter.get())?;
        }
        let mut outbound = Family::counter(
            &mut encoder,
            "wharf_outbound_requests",
            "Requests that functions wanted to send, by what became of them",
        )?;
        for (reason, word) in Outbound::ALL {
            let count = node.outbound[reason as usize].get();
            outbound.count(&[("result", word)], count)?;
        }
        let mut unrouted = Family::counter(
            &mut encoder,
            "wharf_unrouted_requests",
            "Requests that reached no function, by how they ended",
        )?;
        for outcome in Outcome::ALL {
            let count = node.unrouted[outcome as usize].get();
            if count > 0 {
                unrouted.count(&[("outcome", outcome.code())], count)?;
            }
        }
        Ok(())
    }
}

/// A number that somebody else keeps.
struct External {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: Read,
}

impl Collector for External {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = Family::new(&mut encoder, self.name, self.help, self.kind)?;
        let value = (self.read)();
        if matches!(self.kind, MetricType::Counter) {
            family.count(&[], value)
        } else {
            family.value(&[], i64::try_from(value).unwrap_or(i64::MAX))
        }
    }
}

impl fmt::Debug for External {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// A metric that is being written, one set of labels after another.
struct Family<'a>(prometheus_client::encoding::MetricEncoder<'a>);

impl<'a> Family<'a> {
    fn new<'b: 'a>(
        encoder: &'b mut DescriptorEncoder<'_>,
        name: &'b str,
        help: &str,
        kind: MetricType,
    ) -> Result<Self, fmt::Error> {
        // The format wants a sentence; prometheus-client adds the full stop only where it keeps the descriptor itself.
        let help = format!("{help}.");
        Ok(Self(encoder.encode_descriptor(name, &help, None, kind)?))
    }

    fn counter<'b: 'a>(
        encoder: &'b mut DescriptorEncoder<'_>,
        name: &'b str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        Self::new(encoder, name, help, MetricType::Counter)
    }

    fn gauge<'b: 'a>(
        encoder: &'b mut DescriptorEncoder<'_>,
        name: &'b str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        Self::new(encoder, name, help, MetricType::Gauge)
    }

    fn count(&mut self, labels: &[(&str, &str)], count: impl EncodeCounterValue) -> fmt::Result {
        if labels.is_empty() {
            return self
                .0
                .encode_counter::<[(&str, &str); 0], _, f64>(&count, None);
        }
        self.0
            .encode_family(&Labels(labels))?
            .encode_counter::<[(&str, &str); 0], _, f64>(&count, None)
    }

    fn value(&mut self, labels: &[(&str, &str)], value: impl EncodeGaugeValue) -> fmt::Result {
        if labels.is_empty() {
            return self.0.encode_gauge(&value);
        }
        self.0.encode_family(&Labels(labels))?.encode_gauge(&value)
    }
}

/// A borrowed set of labels.
#[derive(Debug)]
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// Microseconds in seconds. A number of microseconds that a double cannot hold exactly is 285 years.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RequestId;

    fn record(outcome: Outcome, start: Start) -> InvocationRecord {
        InvocationRecord {
            request_id: RequestId::generate(),
            outcome,
            duration: Duration::from_micros(1_500),
            init: None,
            cpu: Duration::from_micros(250),
            fuel: 7,
            peak_memory: 0,
            start,
            host_calls: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[test]
    fn an_outcome_stands_where_its_discriminant_says() {
        for (place, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
        for (place, (outbound, _)) in Outbound::ALL.iter().enumerate() {
            assert_eq!(*outbound as usize, place);
        }
    }

    #[test]
    fn what_is_counted_is_what_is_scraped() {
        let metrics = Metrics::new();
        let name: FunctionName = "hello".parse().unwrap();
        let function = metrics.function(&name);
        function.record(&record(Outcome::Ok, Start::Warm));
        function.record(&record(Outcome::Trap, Start::Cold));
        function.refuse(Outcome::Throttled);
        function.admitted();
        metrics.node().outbound(Outbound::Private);
        metrics.register_counter("wharf_log_dropped", "Log entries dropped", Box::new(|| 5));

        let text = metrics.encode();
        for line in [
            r#"wharf_requests_total{function="hello",outcome="ok"} 1"#,
            r#"wharf_requests_total{function="hello",outcome="trap"} 1"#,
            r#"wharf_requests_total{function="hello",outcome="throttled"} 1"#,
            r#"wharf_request_duration_seconds_bucket{le="0.001",function="hello"} 0"#,
            r#"wharf_request_duration_seconds_bucket{le="0.002",function="hello"} 2"#,
            r#"wharf_request_duration_seconds_bucket{le="+Inf",function="hello"} 2"#,
            r#"wharf_request_duration_seconds_count{function="hello"} 2"#,
            r#"wharf_request_duration_seconds_sum{function="hello"} 0.003"#,
            r#"wharf_invocation_cpu_seconds_total{function="hello"} 0.0005"#,
            r#"wharf_fuel_total{function="hello"} 14"#,
            r#"wharf_instance_starts_total{function="hello",kind="cold"} 1"#,
            r#"wharf_concurrent_executions{function="hello"} 1"#,
            r#"wharf_outbound_requests_total{result="private_address"} 1"#,
            "wharf_log_dropped_total 5",
            "# EOF",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }

        function.released();
        assert!(
            metrics
                .encode()
                .contains(r#"wharf_concurrent_executions{function="hello"} 0"#)
        );
        metrics.remove(&name);
        assert!(!metrics.encode().contains("hello"));
    }

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        for (us, place) in [
            (0, 0),
            (50, 0),
            (51, 1),
            (900_000_000, 19),
            (900_000_001, 20),
        ] {
            let durations = Durations::default();
            durations.observe(Duration::from_micros(us));
            assert_eq!(durations.snapshot().0[place].1, 1, "{us}");
        }
    }
}

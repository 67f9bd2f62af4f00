//! What only time decides, on tokio's paused clock, with a queue in memory and functions that do as they are told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    ending::{Receiver, Undelivered},
    retry::RetryPolicy,
    *,
};
use crate::{
    store::{Counts, Due, Error, EventId, Lease, NewEvent, Queue},
    telemetry::metrics::EventDropped,
};

/// The queue's promises, kept in memory.
#[derive(Default)]
struct MemoryQueue {
    events: Mutex<BTreeMap<u64, Waiting>>,
    arrivals: watch::Sender<u64>,
    /// How often somebody asked what is due.
    looks: Mutex<u64>,
}

#[derive(Clone)]
struct Waiting {
    lease: Lease,
    due_ms: u64,
    leased: bool,
}

impl MemoryQueue {
    fn events(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.events.lock().unwrap()
    }

    /// What `change` does to an event that is leased like this; false if there is none.
    fn held(&self, lease: &Lease, change: impl FnOnce(&mut BTreeMap<u64, Waiting>, u64)) -> bool {
        let mut events = self.events();
        let held = events
            .iter()
            .find(|(_, event)| {
                event.leased && event.lease.id == lease.id && event.lease.attempt == lease.attempt
            })
            .map(|(number, _)| *number);
        held.map(|number| change(&mut events, number)).is_some()
    }
}

#[async_trait::async_trait]
impl Queue for MemoryQueue {
    async fn enqueue(&self, event: NewEvent) -> Result<EventId, Error> {
        let mut events = self.events();
        let number = events.last_key_value().map_or(0, |(last, _)| last + 1);
        let id = EventId::from(i64::try_from(number).unwrap());
        let lease = Lease {
            id,
            target: event.target,
            body: event.body,
            enqueued_ms: event.enqueued_ms,
            attempt: 0,
            errors: 0,
        };
        let waiting = Waiting {
            lease,
            due_ms: event.due_ms,
            leased: false,
        };
        events.insert(number, waiting);
        self.arrivals.send_modify(|count| *count += 1);
        Ok(id)
    }

    async fn due(&self) -> Result<Vec<Due>, Error> {
        *self.looks.lock().unwrap() += 1;
        let mut due: BTreeMap<String, u64> = BTreeMap::new();
        for event in self.events().values() {
            let first = due.entry(event.lease.target.clone()).or_insert(u64::MAX);
            *first = event.due_ms.min(*first);
        }
        let due = due.into_iter();
        Ok(due.map(|(target, due_ms)| Due { target, due_ms }).collect())
    }

    async fn lease(
        &self,
        target: &str,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Lease>, Error> {
        let mut events = self.events();
        let mut due: Vec<_> = events
            .values_mut()
            .filter(|event| event.lease.target == target && event.due_ms <= now_ms)
            .collect();
        due.sort_by_key(|event| event.due_ms);
        let leases = due.into_iter().take(limit).map(|event| {
            event.leased = true;
            event.due_ms = until_ms;
            event.lease.attempt += 1;
            event.lease.clone()
        });
        Ok(leases.collect())
    }

    async fn finish(&self, lease: &Lease, follow_ups: Vec<NewEvent>) -> Result<bool, Error> {
        let held = self.held(lease, |events, number| {
            events.remove(&number);
        });
        if held {
            for event in follow_ups {
                self.enqueue(event).await?;
            }
        }
        Ok(held)
    }

    async fn retry_at(&self, lease: &Lease, due_ms: u64, errors: u32) -> Result<bool, Error> {
        let held = self.held(lease, |events, number| {
            let event = events.get_mut(&number).unwrap();
            event.leased = false;
            event.due_ms = due_ms;
            event.lease.errors = errors;
        });
        self.arrivals.send_modify(|count| *count += 1);
        Ok(held)
    }

    async fn counts(&self, _now_ms: u64) -> Result<Counts, Error> {
        Ok(Counts::default())
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

/// How a function behaves at its nth attempt, counted from 0: how long it takes, and how it ends.
type Behaviour = fn(usize) -> (Duration, Option<Outcome>);

/// Functions that do as they are told, and what was seen of them.
struct Told {
    behaviours: BTreeMap<&'static str, (Behaviour, Option<u32>)>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What is configured, by the target.
    configs: Mutex<BTreeMap<String, EventInvokeConfig>>,
    /// Dead-letter targets, by the function.
    dead_letters: Mutex<BTreeMap<String, String>>,
    /// What the functions were given.
    events: Mutex<Vec<(String, AsyncEvent)>>,
    endings: Mutex<Vec<(String, Ending)>>,
    /// Second, function, request id, of each attempt.
    attempts: Mutex<Vec<(f64, String, RequestId)>>,
    ended: Mutex<Vec<(f64, String)>>,
    dropped: Mutex<Vec<(f64, String, EventDropped)>>,
    running: Mutex<BTreeMap<String, usize>>,
    most: Mutex<BTreeMap<String, usize>>,
}

fn second(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

/// A worker with its surroundings. Time begins at 0.
struct Bench {
    start: Instant,
    queue: Arc<MemoryQueue>,
    seen: Arc<Seen>,
    shutdown: CancellationToken,
    worker: Option<tokio::task::JoinHandle<()>>,
}

struct Timed {
    told: Told,
    start: Instant,
}

const NODE: &str = "arn:aws:lambda:us-east-1:000000000000";

impl Functions for Timed {
    fn bounds(&self, function: &str) -> Option<Bounds> {
        let (_, concurrency) = self.told.behaviours.get(function)?;
        Some(Bounds {
            timeout: Duration::from_secs(3),
            concurrency: *concurrency,
        })
    }

    fn config(&self, target: &EventTarget) -> Option<Arc<EventInvokeConfig>> {
        let configs = self.told.seen.configs.lock().unwrap();
        configs.get(&target.to_string()).cloned().map(Arc::new)
    }

    fn dead_letter(&self, target: &EventTarget, _: Option<Version>) -> Option<String> {
        let dead_letters = self.told.seen.dead_letters.lock().unwrap();
        dead_letters.get(target.function.as_str()).cloned()
    }

    fn arn_prefix(&self) -> &str {
        NODE
    }

    fn run<'a>(
        &'a self,
        target: &'a EventTarget,
        event: AsyncEvent,
        _: Duration,
    ) -> BoxFuture<'a, Option<Ran>> {
        Box::pin(async move {
            let seen = &self.told.seen;
            let name = target.to_string();
            let target = target.function.as_str();
            let attempt = {
                let mut attempts = seen.attempts.lock().unwrap();
                let before = attempts.iter().filter(|(_, other, _)| *other == name);
                let before = before.count();
                attempts.push((second(self.start), name.clone(), event.request_id));
                before
            };
            seen.events.lock().unwrap().push((name, event));
            let running = {
                let mut running = seen.running.lock().unwrap();
                let running = running.entry(target.to_owned()).or_default();
                *running += 1;
                *running
            };
            {
                let mut most = seen.most.lock().unwrap();
                let most = most.entry(target.to_owned()).or_default();
                *most = running.max(*most);
            }
            let (behaviour, _) = self.told.behaviours.get(target)?;
            let (lasts, outcome) = behaviour(attempt);
            if !lasts.is_zero() {
                tokio::time::sleep(lasts).await;
            }
            *seen.running.lock().unwrap().get_mut(target).unwrap() -= 1;
            let ended = (second(self.start), target.to_owned());
            seen.ended.lock().unwrap().push(ended);
            outcome.map(|outcome| Ran {
                outcome,
                version: Version::Published(3),
                answer: match outcome {
                    Outcome::Ok => Some("{\"n\": 1.0}".to_owned()),
                    Outcome::Throttled => None,
                    _ => Some("{\"errorMessage\":\"on purpose\"}".to_owned()),
                },
            })
        })
    }

    fn reach<'a>(
        &'a self,
        target: &'a EventTarget,
        hops: u8,
    ) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(async move {
            if hops > ending::MAX_HOPS {
                return Err(Undelivered::Loop);
            }
            let there = self.told.behaviours.contains_key(target.function.as_str());
            there.then_some(()).ok_or(Undelivered::NotThere)
        })
    }

    fn ended(&self, target: &EventTarget, _: RequestId, ending: &Ending) {
        let seen = &self.told.seen;
        if let Some((reason, _)) = ending.dropped {
            let dropped = (second(self.start), target.to_string(), reason);
            seen.dropped.lock().unwrap().push(dropped);
        }
        let ending = (target.to_string(), ending.clone());
        seen.endings.lock().unwrap().push(ending);
    }
}

impl Bench {
    fn new(concurrency: usize, functions: &[(&'static str, Option<u32>, Behaviour)]) -> Self {
        let mut bench = Self {
            start: Instant::now(),
            queue: Arc::default(),
            seen: Arc::default(),
            shutdown: CancellationToken::new(),
            worker: None,
        };
        let start = bench.start;
        let behaviours = functions
            .iter()
            .map(|(name, own, behaviour)| (*name, (*behaviour, *own)))
            .collect();
        let functions = Timed {
            told: Told {
                behaviours,
                seen: bench.seen.clone(),
            },
            start,
        };
        let settings = Settings {
            concurrency,
            retry: RetryPolicy::default(),
        };
        let clock: Clock = Arc::new(move || u64::try_from(start.elapsed().as_millis()).unwrap());
        let worker = Worker::new(bench.queue.clone(), functions, settings, clock);
        let running = worker.run(bench.shutdown.clone(), Duration::from_secs(5));
        bench.worker = Some(tokio::spawn(running));
        bench
    }

    async fn enqueue(&self, target: &str) -> RequestId {
        let request_id = RequestId::generate();
        let event = AsyncEvent {
            request_id,
            event: "{}".to_owned(),
            client_context: None,
            hops: 0,
        };
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        let event = NewEvent {
            target: target.to_owned(),
            body: serde_json::to_vec(&event).unwrap(),
            enqueued_ms: now_ms,
            due_ms: now_ms,
        };
        self.queue.enqueue(event).await.unwrap();
        request_id
    }

    /// Configures a target: who hears of an event that is done, and of one that was given up.
    fn configure(&self, target: &str, change: impl FnOnce(&mut EventInvokeConfig)) {
        let parsed: EventTarget = target.parse().unwrap();
        let mut config = EventInvokeConfig {
            function: parsed.function,
            qualifier: parsed.qualifier.unwrap_or_default(),
            retries: None,
            max_age_seconds: None,
            on_success: None,
            on_failure: None,
            modified_ms: 0,
        };
        change(&mut config);
        let mut configs = self.seen.configs.lock().unwrap();
        configs.insert(target.to_owned(), config);
    }

    /// What a target was given, in order.
    fn given(&self, target: &str) -> Vec<AsyncEvent> {
        let events = self.seen.events.lock().unwrap();
        let of_target = events.iter().filter(|(name, _)| name == target);
        of_target.map(|(_, event)| event.clone()).collect()
    }

    fn record(&self, target: &str) -> serde_json::Value {
        let given = self.given(target);
        assert_eq!(given.len(), 1, "{given:?}");
        serde_json::from_str(&given[0].event).unwrap()
    }

    fn failures(&self) -> Vec<(Receiver, Undelivered)> {
        let endings = self.seen.endings.lock().unwrap();
        let failures = endings.iter().flat_map(|(_, ending)| &ending.failures);
        failures.cloned().collect()
    }

    /// Waits until the queue is empty.
    async fn emptied(&self) {
        while !self.queue.events().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// When each attempt of a function began, in seconds.
    fn attempts(&self, target: &str) -> Vec<f64> {
        let attempts = self.seen.attempts.lock().unwrap();
        let of_target = attempts.iter().filter(|(_, name, _)| name == target);
        of_target.map(|(second, _, _)| *second).collect()
    }

    fn dropped(&self) -> Vec<(f64, String, EventDropped)> {
        self.seen.dropped.lock().unwrap().clone()
    }
}

const AT_ONCE: Duration = Duration::ZERO;

/// Whether attempts came when they should, to a few milliseconds: tokio's timers are that coarse.
#[track_caller]
fn assert_about(seconds: &[f64], expected: &[f64]) {
    assert_eq!(seconds.len(), expected.len(), "{seconds:?}");
    for (second, expected) in seconds.iter().zip(expected) {
        assert!((second - expected).abs() < 0.05, "{seconds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_run_when_it_arrives_and_is_gone() {
    let bench = Bench::new(10, &[("hello", None, |_| (AT_ONCE, Some(Outcome::Ok)))]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let request_id = bench.enqueue("hello").await;
    bench.emptied().await;
    assert_about(&bench.attempts("hello"), &[100.0]);
    assert_eq!(bench.seen.attempts.lock().unwrap()[0].2, request_id);
    assert_eq!(bench.dropped(), []);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_fails_is_tried_again_after_one_and_two_minutes_under_the_same_id() {
    let fails = |_| (AT_ONCE, Some(Outcome::Trap));
    let bench = Bench::new(10, &[("crash", None, fails)]);
    let request_id = bench.enqueue("crash").await;
    bench.emptied().await;
    assert_about(&bench.attempts("crash"), &[0.0, 60.0, 180.0]);
    let dropped = bench.dropped();
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].2, EventDropped::Retries);
    let attempts = bench.seen.attempts.lock().unwrap();
    assert!(attempts.iter().all(|(_, _, id)| *id == request_id));
}

#[tokio::test(start_paused = true)]
async fn refusals_do_not_use_up_the_retries() {
    let behaviour = |attempt| {
        let outcome = match attempt {
            0 | 2 => Outcome::FunctionError,
            1 | 3 => Outcome::Throttled,
            _ => Outcome::Ok,
        };
        (AT_ONCE, Some(outcome))
    };
    let bench = Bench::new(10, &[("moody", None, behaviour)]);
    bench.enqueue("moody").await;
    bench.emptied().await;
    // Error, 60 s, refusal, 1 s, error, 120 s, refusal, 2 s.
    assert_about(&bench.attempts("moody"), &[0.0, 60.0, 61.0, 181.0, 183.0]);
    assert_eq!(bench.dropped(), []);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_function_is_asked_ever_more_rarely_until_its_events_are_too_old() {
    let throttled = |_| (AT_ONCE, Some(Outcome::Throttled));
    let bench = Bench::new(10, &[("busy", None, throttled)]);
    for _ in 0..1000 {
        bench.enqueue("busy").await;
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let attempts = bench.attempts("busy");
    // 1, 2, 4 … 256 s, then every 5 minutes: about 20 times in an hour, each time a handful at once.
    assert!(attempts.len() < 20 * 10, "{}", attempts.len());
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    assert_eq!(bench.queue.events().len(), 0);
    let dropped = bench.dropped();
    assert_eq!(dropped.len(), 1000);
    assert!(dropped.iter().all(|(second, _, reason)| {
        *reason == EventDropped::Age && *second > 5.0 * 3600.0 && *second < 6.5 * 3600.0
    }));
}

#[tokio::test(start_paused = true)]
async fn one_function_that_is_throttled_or_slow_does_not_keep_another_waiting() {
    let bench = Bench::new(
        10,
        &[
            ("throttled", None, |_| (AT_ONCE, Some(Outcome::Throttled))),
            ("slow", None, |_| {
                (Duration::from_secs(3), Some(Outcome::Ok))
            }),
            ("quick", None, |_| (AT_ONCE, Some(Outcome::Ok))),
        ],
    );
    for _ in 0..200 {
        bench.enqueue("throttled").await;
        bench.enqueue("slow").await;
    }
    for second in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.enqueue("quick").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(bench.attempts("quick").len(), second + 1);
    }
    assert!(bench.attempts("slow").len() >= 5 * 6);
}

#[tokio::test(start_paused = true)]
async fn a_function_gets_no_more_at_once_than_it_may_have() {
    let second = |_| (Duration::from_secs(1), Some(Outcome::Ok));
    let bench = Bench::new(100, &[("narrow", Some(3), second), ("wide", None, second)]);
    for _ in 0..30 {
        bench.enqueue("narrow").await;
    }
    for _ in 0..300 {
        bench.enqueue("wide").await;
    }
    bench.emptied().await;
    let most = bench.seen.most.lock().unwrap();
    assert_eq!(most["narrow"], 3);
    assert!((40..=50).contains(&most["wide"]), "{most:?}");
    assert!(second_of_last(&bench) < 11.0);
}

fn second_of_last(bench: &Bench) -> f64 {
    let ended = bench.seen.ended.lock().unwrap();
    ended.last().map_or(0.0, |(second, _)| *second)
}

#[tokio::test(start_paused = true)]
async fn events_of_a_function_that_was_removed_are_dropped() {
    let bench = Bench::new(10, &[("gone", None, |_| (AT_ONCE, None))]);
    bench.enqueue("gone").await;
    bench.enqueue("unheard-of").await;
    bench.emptied().await;
    assert!(second(bench.start) < 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_dropped_and_the_next_is_run() {
    let bench = Bench::new(10, &[("hello", None, |_| (AT_ONCE, Some(Outcome::Ok)))]);
    let event = NewEvent {
        target: "hello".to_owned(),
        body: b"not an event".to_vec(),
        enqueued_ms: 0,
        due_ms: 0,
    };
    bench.queue.enqueue(event).await.unwrap();
    bench.enqueue("hello").await;
    bench.emptied().await;
    assert_eq!(bench.attempts("hello").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_costs_an_attempt_and_no_more() {
    let bench = Bench::new(
        1,
        &[("rough", None, |attempt| {
            assert_ne!(attempt, 0, "on purpose");
            (AT_ONCE, Some(Outcome::Ok))
        })],
    );
    bench.enqueue("rough").await;
    bench.emptied().await;
    // The lease ran out: the timeout and the margin.
    assert_about(&bench.attempts("rough"), &[0.0, 13.0]);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_what_is_running_and_gives_the_rest_back() {
    let bench = Bench::new(
        10,
        &[
            ("second", None, |_| {
                (Duration::from_secs(1), Some(Outcome::Ok))
            }),
            ("hour", None, |_| {
                (Duration::from_secs(3600), Some(Outcome::Ok))
            }),
        ],
    );
    bench.enqueue("second").await;
    bench.enqueue("hour").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    bench.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(10)).await;
    bench.enqueue("second").await;
    bench.worker.unwrap().await.unwrap();
    let ended = second(bench.start);
    assert!((4.9..5.2).contains(&ended), "the grace period: {ended}");
    let events = bench.queue.events();
    let left: Vec<_> = events
        .values()
        .map(|event| (event.lease.target.as_str(), event.leased))
        .collect();
    assert_eq!(left, [("hour", false), ("second", false)]);
    let now_ms = bench.start.elapsed().as_millis();
    assert!(
        events
            .values()
            .all(|event| u128::from(event.due_ms) <= now_ms)
    );
}

#[tokio::test(start_paused = true)]
async fn a_quiet_queue_is_looked_at_once_a_minute() {
    let bench = Bench::new(10, &[("later", None, |_| (AT_ONCE, Some(Outcome::Ok)))]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let looks = *bench.queue.looks.lock().unwrap();
    assert!((50..=70).contains(&looks), "{looks}");
}

fn target(text: &str) -> Option<EventTarget> {
    Some(text.parse().unwrap())
}

const OK: Behaviour = |_| (AT_ONCE, Some(Outcome::Ok));
const TRAPS: Behaviour = |_| (AT_ONCE, Some(Outcome::Trap));
const THROTTLED: Behaviour = |_| (AT_ONCE, Some(Outcome::Throttled));

#[tokio::test(start_paused = true)]
async fn a_destination_gets_the_record_of_what_was_done() {
    let bench = Bench::new(10, &[("work", None, OK), ("told", None, OK)]);
    bench.configure("work:live", |config| config.on_success = target("told:2"));
    let request_id = bench.enqueue("work:live").await;
    bench.enqueue("work").await;
    bench.emptied().await;
    let record = bench.record("told:2");
    assert_eq!(
        record,
        serde_json::json!({
            "version": "1.0",
            "timestamp": "1970-01-01T00:00:00.000Z",
            "requestContext": {
                "requestId": request_id.to_string(),
                "functionArn": format!("{NODE}:function:work:live"),
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": {},
            "responseContext": {"statusCode": 200, "executedVersion": "3"},
            "responsePayload": {"n": 1.0},
        })
    );
    let text = &bench.given("told:2")[0].event;
    assert!(text.contains("{\"n\": 1.0}"), "as it was written: {text}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_gets_the_record_of_what_was_given_up_after_the_retries_it_may_have() {
    let bench = Bench::new(10, &[("crash", None, TRAPS), ("told", None, OK)]);
    bench.configure("crash", |config| {
        config.retries = Some(1);
        config.on_failure = target("told");
    });
    bench.enqueue("crash").await;
    bench.emptied().await;
    assert_about(&bench.attempts("crash"), &[0.0, 60.0]);
    let record = bench.record("told");
    let context = &record["requestContext"];
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(context["approximateInvokeCount"], 2);
    let arn = format!("{NODE}:function:crash:$LATEST");
    assert_eq!(context["functionArn"], arn);
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["responsePayload"]["errorMessage"], "on purpose");
    assert_eq!(bench.dropped()[0].2, EventDropped::Retries);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_gets_too_old_for_its_target_goes_to_the_destination_unrun() {
    let bench = Bench::new(10, &[("busy", None, THROTTLED), ("told", None, OK)]);
    bench.configure("busy", |config| {
        config.max_age_seconds = Some(60);
        config.on_failure = target("told");
    });
    bench.enqueue("busy").await;
    bench.emptied().await;
    assert!(second(bench.start) < 61.0);
    let record = bench.record("told");
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record.get("responseContext"), None);
    assert_eq!(record.get("responsePayload"), None);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_switched_off_passes_its_events_on_at_once_where_somebody_takes_them() {
    let bench = Bench::new(
        10,
        &[
            ("off", Some(0), THROTTLED),
            ("waits", Some(0), THROTTLED),
            ("told", None, OK),
        ],
    );
    bench.configure("off", |config| config.on_failure = target("told"));
    bench.enqueue("off").await;
    bench.enqueue("waits").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let record = bench.record("told");
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(bench.dropped()[0].2, EventDropped::Off);
    assert_eq!(bench.queue.events().len(), 1, "the other waits");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_target_gets_the_event_and_why_it_comes() {
    let bench = Bench::new(10, &[("crash", None, TRAPS), ("morgue", None, OK)]);
    {
        let mut dead_letters = bench.seen.dead_letters.lock().unwrap();
        dead_letters.insert("crash".to_owned(), format!("{NODE}:function:morgue"));
    }
    let request_id = bench.enqueue("crash").await;
    bench.emptied().await;
    let given = bench.given("morgue");
    assert_eq!((given.len(), given[0].event.as_str()), (1, "{}"));
    let context = given[0].client_context.as_deref().unwrap();
    let context: serde_json::Value = serde_json::from_str(context).unwrap();
    assert_eq!(
        context,
        serde_json::json!({"custom": {
            "RequestID": request_id.to_string(),
            "ErrorCode": "200",
            "ErrorMessage": "on purpose",
        }})
    );

    let foreign = "arn:aws:sqs:us-east-1:000000000000:queue".to_owned();
    let dead_letters = &bench.seen.dead_letters;
    let target = ("crash".to_owned(), foreign.clone());
    dead_letters.lock().unwrap().extend([target]);
    bench.enqueue("crash").await;
    bench.emptied().await;
    let failure = (Receiver::DeadLetter(foreign), Undelivered::Foreign);
    assert_eq!(bench.failures(), [failure]);
}

#[tokio::test(start_paused = true)]
async fn functions_that_tell_each_other_in_a_circle_come_to_an_end() {
    let bench = Bench::new(10, &[("ping", None, OK), ("pong", None, OK)]);
    bench.configure("ping", |config| config.on_success = target("pong"));
    bench.configure("pong", |config| config.on_success = target("ping"));
    bench.enqueue("ping").await;
    bench.emptied().await;
    let runs = bench.attempts("ping").len() + bench.attempts("pong").len();
    assert_eq!(runs, 17);
    assert_eq!(bench.failures()[0].1, Undelivered::Loop);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_was_removed_leaves_the_event_done_and_the_failure_noted() {
    let bench = Bench::new(10, &[("work", None, OK)]);
    bench.configure("work", |config| config.on_success = target("nobody"));
    bench.enqueue("work").await;
    bench.emptied().await;
    assert_eq!(bench.attempts("work").len(), 1);
    let receiver = Receiver::Destination("nobody".parse().unwrap());
    assert_eq!(bench.failures(), [(receiver, Undelivered::NotThere)]);
}

#[tokio::test(start_paused = true)]
async fn the_versions_and_aliases_of_a_function_share_what_it_may_have_at_once() {
    let second = |_| (Duration::from_secs(1), Some(Outcome::Ok));
    let bench = Bench::new(100, &[("narrow", Some(3), second)]);
    for number in 0..30 {
        bench
            .enqueue(["narrow", "narrow:1", "narrow:live"][number % 3])
            .await;
    }
    bench.emptied().await;
    assert_eq!(bench.seen.most.lock().unwrap()["narrow"], 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_every_event_is_run_or_dropped_and_no_limit_passed(
        arrivals in prop::collection::vec((0_usize..4, 0_u64..5000), 1..60),
        concurrency in 1_usize..8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            const NAMES: [&str; 4] = ["good", "bad", "moody", "slow"];
            let bench = Bench::new(
                concurrency,
                &[
                    ("good", None, |_| (AT_ONCE, Some(Outcome::Ok))),
                    ("bad", Some(0), |_| (Duration::from_millis(7), Some(Outcome::Timeout))),
                    ("moody", Some(2), |attempt| {
                        let outcomes = [Outcome::Throttled, Outcome::Trap, Outcome::Ok];
                        (Duration::from_millis(300), Some(outcomes[attempt * 7 % 3]))
                    }),
                    ("slow", None, |_| (Duration::from_secs(3), Some(Outcome::Ok))),
                ],
            );
            for (name, pause) in &arrivals {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
                bench.enqueue(NAMES[*name]).await;
            }
            let emptied = tokio::time::timeout(Duration::from_secs(7 * 3600), bench.emptied());
            prop_assert!(emptied.await.is_ok(), "events are left");
            let most = bench.seen.most.lock().unwrap();
            for (name, most) in &*most {
                prop_assert!(*most <= concurrency.div_ceil(2), "{name}: {most}");
            }
            let good = arrivals.iter().filter(|(name, _)| *name == 0).count();
            prop_assert_eq!(bench.attempts("good").len(), good);
            let bad = arrivals.iter().filter(|(name, _)| *name == 1).count();
            prop_assert_eq!(bench.attempts("bad").len(), 3 * bad);
            Ok(())
        })?;
    }
}

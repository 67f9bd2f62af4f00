//! What only time decides, on tokio's paused clock, with a queue in memory and functions that do as they are told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use proptest::prelude::*;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{retry::RetryPolicy, *};
use crate::store::{Counts, Due, Error, EventId, Lease, NewEvent, Queue};

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

    async fn delete(&self, lease: &Lease) -> Result<bool, Error> {
        Ok(self.held(lease, |events, number| {
            events.remove(&number);
        }))
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

#[async_trait::async_trait]
impl Functions for Timed {
    fn bounds(&self, target: &str) -> Option<Bounds> {
        let (_, concurrency) = self.told.behaviours.get(target)?;
        Some(Bounds {
            timeout: Duration::from_secs(3),
            concurrency: *concurrency,
        })
    }

    async fn run(&self, target: &str, event: AsyncEvent) -> Option<Outcome> {
        let seen = &self.told.seen;
        let attempt = {
            let mut attempts = seen.attempts.lock().unwrap();
            let before = attempts
                .iter()
                .filter(|(_, name, _)| name == target)
                .count();
            attempts.push((second(self.start), target.to_owned(), event.request_id));
            before
        };
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
        outcome
    }

    fn dropped(&self, target: &str, _: RequestId, reason: EventDropped, _: Option<Outcome>) {
        let dropped = (second(self.start), target.to_owned(), reason);
        self.told.seen.dropped.lock().unwrap().push(dropped);
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

//! Warm instances, ready for the next request.
//!
//! [`Runtime::acquire`](super::Runtime) takes a [`Lease`] from here or starts a new instance. Dropping the lease ends the
//! instance, or puts it back where the function reuses its environment.
//!
//! An instance is never shared by two versions, and never returns after a trap, a timeout or a refused growth of memory.
//! How many wait follows the arrival rate: [`Pool::tick`] looks at it ten times a second. What does not start is tried again
//! after pauses that grow. Compiling is not done here: see [`component`](super::component).

use std::{
    num::NonZero,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{function::Function, imports::stdio::AnswerTooLarge, instance::Instance};
use crate::model::{FunctionConfiguration, Isolation};

/// How often the sizes of pools are looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The share of a second's arrivals that waits ready. Refilling starts when an instance is taken, and may have to wait for
/// its turn behind other requests on a busy core.
const READY_SECONDS: f64 = 0.001;

/// The most instances that wait for one function beyond its minimum.
const MOST_IDLE: u32 = 64;

/// How much of the old estimate of the arrival rate stays each tick: a quiet pool has shrunk to nothing after about three
/// seconds.
const MEMORY_OF_RATE: f64 = 0.8;

/// How long no instance is made ahead after one did not start; doubled with each that follows, up to the most.
const FIRST_PAUSE: Duration = TICK;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The warm instances of one version of a function.
///
/// They wait by the thread that made or used them last, in [`Shard`]s: one that is used on another core brings its memory, its
/// store and its stack there, a cache line at a time.
pub(super) struct Pool {
    shards: Box<[Mutex<Shard>]>,
    /// Instances that wait, in all shards.
    idle: AtomicUsize,
    closed: AtomicBool,
    /// The estimate of the arrival rate: only the ticker changes it.
    rate: Mutex<f64>,
    min: u32,
    /// How many shall wait.
    target: AtomicU32,
    /// Acquisitions since the last tick.
    arrivals: AtomicU64,
    /// Whether somebody makes instances for it right now.
    pub(super) refilling: AtomicBool,
    /// Whether the ticker knows it.
    pub(super) ticked: AtomicBool,
    /// Whether `back_off` has anything to say: most functions start.
    failing: AtomicBool,
    back_off: Mutex<BackOff>,
    reuse: bool,
}

/// When to try again what does not start.
#[derive(Debug, Default)]
struct BackOff {
    pause: Duration,
    until: Option<Instant>,
}

impl BackOff {
    fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.until = Some(now + self.pause);
    }

    fn started(&mut self) {
        *self = Self::default();
    }

    fn may_try(&self, now: impl FnOnce() -> Instant) -> bool {
        self.until.is_none_or(|until| until <= now())
    }
}

/// What waits for the threads of one core: the last is taken first, the first ends first.
type Shard = Vec<Instance>;

impl Pool {
    pub(super) fn new(configuration: &FunctionConfiguration) -> Self {
        Self {
            shards: (0..*SHARDS).map(|_| Mutex::default()).collect(),
            idle: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            rate: Mutex::default(),
            min: configuration.pool.min,
            target: AtomicU32::new(configuration.pool.min),
            arrivals: AtomicU64::new(0),
            refilling: AtomicBool::new(false),
            ticked: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            back_off: Mutex::default(),
            reuse: matches!(configuration.isolation, Isolation::Reuse { .. }),
        }
    }

    /// The shards, this thread's first.
    fn shards(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        let (others, own) = self.shards.split_at(THREAD.with(|thread| *thread));
        own.iter().chain(others)
    }

    /// Takes the instance that this thread made or used last: its memory is most likely still in the processor's cache. When
    /// there is none, another thread's.
    pub(super) fn take(&self) -> Option<Instance> {
        self.arrivals.fetch_add(1, Relaxed);
        if self.idle.load(Relaxed) == 0 {
            return None;
        }
        self.removed(self.shards().find_map(|shard| lock(shard).pop()))
    }

    /// Puts an instance in. Gives it back if the pool is closed or has enough, or if somebody waits for a slot: an instance
    /// that waits for a request keeps one.
    pub(super) fn put(&self, instance: Instance, waiting: &AtomicUsize) -> Option<Instance> {
        // A reused instance comes back from work that may come again at once, so all of them may wait until the next tick.
        let most = if self.reuse {
            MOST_IDLE.max(self.min)
        } else {
            self.target.load(Relaxed)
        };
        if self.idle.load(Relaxed) >= most as usize {
            return Some(instance);
        }
        let Some(shard) = self.shards().next() else {
            return Some(instance);
        };
        let mut shard = lock(shard);
        // Under the lock: who closes the pool empties it afterwards.
        if self.closed.load(SeqCst) {
            return Some(instance);
        }
        // What the function keeps between invocations is in those that have served: they are taken first.
        if self.reuse && !instance.has_served() {
            shard.insert(0, instance);
        } else {
            shard.push(instance);
        }
        self.idle.fetch_add(1, Relaxed);
        // Looked at last and under the lock: who begins to wait after this finds the instance with `evict`.
        if waiting.load(SeqCst) > 0 {
            self.removed(shard.pop())
        } else {
            None
        }
    }

    fn removed(&self, instance: Option<Instance>) -> Option<Instance> {
        if instance.is_some() {
            self.idle.fetch_sub(1, Relaxed);
        }
        instance
    }

    /// Takes an instance that has waited long out, so that its slot serves a request.
    pub(super) fn evict(&self) -> Option<Instance> {
        self.removed(self.shards().find_map(|shard| {
            let mut shard = lock(shard);
            (!shard.is_empty()).then(|| shard.remove(0))
        }))
    }

    /// Whether more instances should be made now.
    pub(super) fn wants_more(&self) -> bool {
        self.idle() < self.target.load(Relaxed) as usize
            && !self.closed.load(Relaxed)
            && (!self.failing.load(Relaxed) || lock(&self.back_off).may_try(Instant::now))
    }

    /// Notes that an instance made ahead did not start: the next is made after a pause.
    pub(super) fn start_failed(&self) {
        lock(&self.back_off).failed(Instant::now());
        self.failing.store(true, Relaxed);
    }

    /// Notes that an instance started, for whatever: the next may be made at once.
    pub(super) fn started(&self) {
        if self.failing.load(Relaxed) && self.failing.swap(false, Relaxed) {
            lock(&self.back_off).started();
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.load(Relaxed)
    }

    /// Ends the waiting instances and takes no more.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        for shard in &self.shards {
            let ended = std::mem::take(&mut *lock(shard));
            self.idle.fetch_sub(ended.len(), Relaxed);
        }
    }

    /// Sets the size by what arrived since the last tick, and ends instances that are too many or too old. Says whether
    /// the pool needs further ticks.
    pub(super) fn tick(&self) -> bool {
        let arrivals = self.arrivals.swap(0, Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let now = arrivals as f64 / TICK.as_secs_f64();
        let rate = {
            let mut rate = lock(&self.rate);
            // Up at once, down slowly.
            *rate = (*rate * MEMORY_OF_RATE).max(now);
            *rate
        };
        let target = target(rate, self.min, self.reuse);
        self.target.store(target, Relaxed);
        let before = self.idle();
        let mut excess = before.saturating_sub(self.most(target, rate) as usize);
        for shard in &self.shards {
            let mut ended = Vec::new();
            let mut shard = lock(shard);
            for position in (0..shard.len()).rev() {
                if !shard[position].may_wait() {
                    ended.push(shard.remove(position));
                }
            }
            excess = excess.saturating_sub(ended.len());
            let some = excess.min(shard.len());
            ended.extend(shard.drain(..some));
            excess -= some;
            self.idle.fetch_sub(ended.len(), Relaxed);
            // Ending an instance takes a while.
            drop(shard);
            drop(ended);
        }
        !self.closed.load(Relaxed) && (rate > 0.5 || before > 0 || self.min > 0)
    }

    fn most(&self, target: u32, rate: f64) -> u32 {
        if self.reuse && rate > 0.5 {
            MOST_IDLE.max(self.min)
        } else {
            target
        }
    }
}

/// As many shards as there are cores, so that each of the threads that run guests has its own.
static SHARDS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

thread_local! {
    /// The shard of this thread: threads take turns as they come to their first pool.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % *SHARDS
    };
}

/// A lock that a panic elsewhere does not spoil: what it guards is whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many instances shall wait for a function that `rate` requests a second arrive for.
fn target(rate: f64, min: u32, reuse: bool) -> u32 {
    // An instance that is reused comes back by itself: one that is made ahead covers the moment it is away.
    let share = if reuse {
        READY_SECONDS / 4.0
    } else {
        READY_SECONDS
    };
    let wanted = if rate > 0.5 {
        2.0 + (rate * share).ceil()
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and MOST_IDLE"
    )]
    let wanted = wanted.clamp(0.0, f64::from(MOST_IDLE)) as u32;
    wanted.max(min)
}

/// The right to use an instance for one invocation.
pub(super) struct Lease {
    instance: Option<Instance>,
    function: Arc<Function>,
}

impl Lease {
    pub(super) fn new(instance: Instance, function: Arc<Function>) -> Self {
        Self {
            instance: Some(instance),
            function,
        }
    }

    pub(super) fn instance(&mut self) -> &mut Instance {
        self.instance
            .as_mut()
            .expect("a lease has its instance until it is released")
    }

    /// Ends an invocation that went well: the instance may be used again where the function allows it. Gives what a
    /// command printed.
    pub(super) fn release(mut self) -> Result<Bytes, AnswerTooLarge> {
        let Some(mut instance) = self.instance.take() else {
            return Ok(Bytes::new());
        };
        let printed = instance.end();
        if instance.is_reusable() {
            let waiting = &self.function.code.services.waiting;
            drop(self.function.pool.put(instance, waiting));
        }
        printed
    }
}

// Dropping a lease that was not released ends the instance: its guest was stopped in the middle of something.

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_follows_the_arrival_rate_within_its_bounds() {
        assert_eq!(target(0.0, 0, false), 0);
        assert_eq!(
            target(0.0, 5, false),
            5,
            "the minimum waits however quiet it is"
        );
        assert_eq!(target(10.0, 0, false), 3);
        assert_eq!(target(10_000.0, 0, false), 12);
        assert_eq!(target(1e9, 0, false), MOST_IDLE);
        assert_eq!(target(1e9, 100, false), 100);
    }

    #[test]
    fn a_quiet_pool_shrinks_to_nothing_and_needs_no_more_ticks() {
        let pool = Pool::new(&FunctionConfiguration::default());
        assert!(pool.take().is_none());
        assert!(pool.tick());
        assert!(pool.wants_more());
        let ticks = (0..100).take_while(|_| pool.tick()).count();
        assert!((10..60).contains(&ticks), "{ticks} ticks of 100 ms");
        assert!(!pool.wants_more());
    }

    #[test]
    fn what_does_not_start_is_tried_again_after_pauses_that_grow_until_it_starts() {
        let mut back_off = BackOff::default();
        let mut now = Instant::now();
        assert!(back_off.may_try(|| now));
        let mut pauses = Vec::new();
        for _ in 0..11 {
            back_off.failed(now);
            let failed = now;
            while !back_off.may_try(|| now) {
                now += TICK;
            }
            pauses.push((now - failed).as_millis());
        }
        assert_eq!(
            pauses,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
            ]
        );
        back_off.failed(now);
        back_off.started();
        assert!(back_off.may_try(|| now));
        back_off.failed(now);
        assert!(back_off.may_try(|| now + FIRST_PAUSE), "from the beginning");
    }

    #[test]
    fn a_pool_wants_no_instance_in_the_pause_after_one_did_not_start() {
        let mut configuration = FunctionConfiguration::default();
        configuration.pool.min = 1;
        let pool = Pool::new(&configuration);
        assert!(pool.wants_more());
        for _ in 0..9 {
            pool.start_failed();
        }
        assert!(pool.tick() && !pool.wants_more());
        pool.started();
        assert!(pool.wants_more());
    }
}

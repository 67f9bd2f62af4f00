//! The system's resolver, asked for each name once at a time.
//!
//! `getaddrinfo` blocks a thread for as long as a name server says nothing, 10 to 30 seconds, and cannot be ended: who asked
//! gave up long before. So there are only so many threads for it, and whoever asks for a name waits for the lookup of that
//! name that is under way. However many ask for a silent name, it takes one thread, and other names are answered.
//!
//! No answer is kept: who asks after it came starts a new lookup.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Resolve;

/// The most names that are being resolved at one moment. The system's resolver blocks a thread for each.
const LOOKUPS: usize = 64;

/// The system's resolver.
pub struct SystemResolver(Arc<Lookups>);

impl SystemResolver {
    /// With what blocks until it has the addresses of a name.
    fn asking(ask: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Lookups {
            under_way: Mutex::new(HashMap::new()),
            permits: Arc::new(Semaphore::new(LOOKUPS)),
            ask: Arc::new(ask),
        }))
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::asking(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let lookups = Arc::clone(&self.0);
        Box::pin(async move {
            let lookup = match lookups.find(&name) {
                Some(lookup) => lookup,
                None => {
                    // Who asks waits for it, not the lookup: who gives up leaves the queue.
                    let permits = Arc::clone(&lookups.permits);
                    let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
                    lookups.join(name, permit)
                }
            };
            let answer = lookup.await;
            answer.map_err(|error| io::Error::new(error.kind(), error))
        })
    }
}

/// What everyone gets who waits for a lookup. An `io::Error` cannot be cloned.
type Answer = Result<Vec<SocketAddr>, Arc<io::Error>>;

type Lookup = Shared<BoxFuture<'static, Answer>>;

/// What blocks until it has the addresses of a name.
type Ask = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Lookups {
    /// By name. Each has a permit, and a task that removes it.
    under_way: Mutex<HashMap<String, Lookup>>,
    permits: Arc<Semaphore>,
    ask: Arc<Ask>,
}

impl Lookups {
    /// The lookup of this name that is under way.
    fn find(&self, name: &str) -> Option<Lookup> {
        self.under_way().get(name).cloned()
    }

    /// The lookup of this name that is under way by now, or a new one.
    fn join(self: &Arc<Self>, name: String, permit: OwnedSemaphorePermit) -> Lookup {
        let mut under_way = self.under_way();
        if let Some(lookup) = under_way.get(&name) {
            return lookup.clone();
        }
        let (sender, receiver) = oneshot::channel::<Answer>();
        let lookup = async move {
            let given_up = |_| Err(Arc::new(io::Error::other("the lookup was given up")));
            receiver.await.unwrap_or_else(given_up)
        };
        let lookup = lookup.boxed().shared();
        under_way.insert(name.clone(), lookup.clone());
        // Before the task is spawned: a runtime that shuts down drops it right there, and `Entry` takes the lock.
        drop(under_way);

        let entry = Entry {
            lookups: Arc::clone(self),
            name,
        };
        // A task of its own, so that it goes on for the others when who asked first gives up.
        tokio::spawn(async move {
            let ask = Arc::clone(&entry.lookups.ask);
            let name = entry.name.clone();
            let asked = tokio::task::spawn_blocking(move || {
                // Rides along: the thread is busy even if nobody waits for it any more.
                let _permit = permit;
                ask(name.as_str())
            });
            let answer = asked.await.map_err(io::Error::other).flatten();
            // Before it is told, so that who was told and asks again starts a new lookup.
            drop(entry);
            // An error if nobody waits any more.
            let _ = sender.send(answer.map_err(Arc::new));
        });
        lookup
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<String, Lookup>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name's place among the lookups under way, until this is dropped: also when its task panics.
struct Entry {
    lookups: Arc<Lookups>,
    name: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lookups.under_way().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use futures::{future::join_all, poll};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 0))
    }

    /// A resolver that blocks on silent.example until the sender is dropped, and how often it did.
    fn silent(
        answer: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> (SystemResolver, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let resolver = SystemResolver::asking(move |name| {
            if name != "silent.example" {
                return Ok(vec![address(2)]);
            }
            count.fetch_add(1, Ordering::Relaxed);
            let _ = released.lock().unwrap().recv();
            answer()
        });
        (resolver, release, asked)
    }

    /// So many who wait for silent.example.
    async fn waiting(
        resolver: &SystemResolver,
        many: usize,
    ) -> Vec<BoxFuture<'static, io::Result<Vec<SocketAddr>>>> {
        let mut waiting = Vec::new();
        for _ in 0..many {
            let mut lookup = resolver.resolve("silent.example".to_owned());
            assert!(poll!(&mut lookup).is_pending());
            waiting.push(lookup);
        }
        waiting
    }

    #[tokio::test]
    async fn a_silent_name_keeps_no_other_name_waiting() {
        let (resolver, release, asked) = silent(|| Ok(vec![address(1)]));
        let waiting = waiting(&resolver, 100).await;

        let other = timeout(SOON, resolver.resolve("other.example".to_owned())).await;
        assert_eq!(other.unwrap().unwrap(), [address(2)]);

        drop(release);
        for answer in timeout(SOON, join_all(waiting)).await.unwrap() {
            assert_eq!(answer.unwrap(), [address(1)]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lookup_goes_on_though_who_asked_first_gave_up() {
        let (resolver, release, asked) = silent(|| Ok(vec![address(1)]));
        drop(waiting(&resolver, 1).await);
        let waiting = waiting(&resolver, 1).await;

        drop(release);
        for answer in timeout(SOON, join_all(waiting)).await.unwrap() {
            assert_eq!(answer.unwrap(), [address(1)]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_gives_up_before_there_is_a_thread_leaves_no_lookup_behind() {
        let (resolver, _release, asked) = silent(|| Ok(vec![address(1)]));
        let permits = Arc::clone(&resolver.0.permits);
        let all = permits
            .acquire_many_owned(u32::try_from(LOOKUPS).unwrap())
            .await
            .unwrap();
        drop(waiting(&resolver, 3).await);
        drop(all);

        let other = timeout(SOON, resolver.resolve("other.example".to_owned())).await;
        assert_eq!(other.unwrap().unwrap(), [address(2)]);
        assert!(resolver.0.under_way().is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn everyone_gets_the_error_and_who_asks_again_a_new_lookup() {
        let (resolver, release, asked) =
            silent(|| Err(io::Error::new(io::ErrorKind::TimedOut, "no name server")));
        let waiting = waiting(&resolver, 2).await;

        drop(release);
        for answer in timeout(SOON, join_all(waiting)).await.unwrap() {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "no name server");
        }
        let again = timeout(SOON, resolver.resolve("silent.example".to_owned())).await;
        assert!(again.unwrap().is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_lookup_that_panics_is_an_error_and_is_not_under_way_any_more() {
        let (resolver, release, asked) = silent(|| panic!("as the test wants"));
        drop(release);
        for lookups in 1..=2 {
            let answer = timeout(SOON, resolver.resolve("silent.example".to_owned())).await;
            assert!(answer.unwrap().is_err());
            assert_eq!(asked.load(Ordering::Relaxed), lookups);
        }
    }

    #[test]
    fn a_lookup_whose_runtime_ended_is_not_under_way_any_more() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap()
        };
        let (resolver, release, _) = silent(|| Ok(vec![address(1)]));
        drop(release);

        let ended = runtime();
        let waiting = ended.block_on(waiting(&resolver, 1));
        drop(ended);
        let again = async { timeout(SOON, resolver.resolve("silent.example".to_owned())).await };
        assert_eq!(runtime().block_on(again).unwrap().unwrap(), [address(1)]);
        drop(waiting);
    }
}

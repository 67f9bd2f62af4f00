//! Names to addresses, and which of those may be dialled.
//!
//! What is judged is what is dialled: there is no second look-up that could answer otherwise.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::{
    address,
    error::{BoxError, Refused, Unresolved},
};

/// The most names that are being resolved at one moment. The system's resolver blocks a thread for each.
const LOOKUPS: usize = 64;

/// How names become addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of a name; their ports do not count.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
pub(super) struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            tokio::task::spawn_blocking(move || {
                // Rides along: the thread is busy even if nobody waits for it any more.
                let _permit = permit;
                Ok((name.as_str(), 0).to_socket_addrs()?.collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}

/// A resolver that keeps back what is not public, unless private addresses are allowed.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) private: bool,
}

impl Judge {
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Refused> {
        match address::refusal(address) {
            Some(reason) if !self.private => Err(Refused { address, reason }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Service<Name> for Judge {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.resolver.resolve(name.as_str().to_owned());
        let judge = self.clone();
        Box::pin(async move {
            let mut addresses = addresses.await.map_err(Unresolved)?;
            let mut refused = None;
            addresses.retain(|address| match judge.check(address.ip()) {
                Ok(()) => true,
                Err(refusal) => {
                    refused = Some(refusal);
                    false
                }
            });
            if addresses.is_empty() {
                return Err(match refused {
                    Some(refused) => refused.into(),
                    None => Unresolved(io::ErrorKind::NotFound.into()).into(),
                });
            }
            Ok(addresses.into_iter())
        })
    }
}

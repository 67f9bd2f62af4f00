//! Names to addresses, and which of those are dialled.
//!
//! Functions call out, origins are asked, code is fetched: where to is said by who has them do it, and a name that somebody
//! else controls must not lead elsewhere. So an address is judged when it is dialled, after its name was resolved, and what
//! was judged is what is dialled: a name that gives a public address to the one who checks and a private one to the one who
//! calls gains nothing.

mod address;
mod system;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

pub use system::SystemResolver;

use crate::model::Reach;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An address that may not be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not public: {reason}")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// Why it is not public.
    pub reason: &'static str,
}

/// A name that has no address, or whose address could not be had.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
pub struct Unresolved(#[source] io::Error);

/// How names become addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of a name; their ports do not count.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// Resolves names, and keeps back addresses that may not be called.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<dyn Resolve>,
    open: Open,
}

impl Resolver {
    /// With the addresses that `inner` has for a name, as far as they are `open`.
    pub fn new(inner: Arc<dyn Resolve>, open: Open) -> Self {
        Self { inner, open }
    }

    /// Whether an address may be dialled that was not resolved, but named.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        self.open.judge(address)
    }
}

/// Which addresses may be called.
#[derive(Clone)]
pub enum Open {
    /// Every one.
    All,
    /// Those that are public.
    Public,
    /// Public ones, and on this port what a function reaches in its VPC.
    Within(Arc<Reach>, u16),
}

impl Open {
    /// Whether an address is one of them.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let reason = match self {
            Self::All => None,
            Self::Public => address::refusal(address),
            Self::Within(reach, port) if reach.allows(address, *port) => None,
            Self::Within(..) => address::refusal(address),
        };
        match reason {
            Some(reason) => Err(Refused { address, reason }),
            None => Ok(()),
        }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.inner.resolve(name.as_str().to_owned());
        let open = self.open.clone();
        Box::pin(async move {
            let mut addresses = addresses.await.map_err(Unresolved)?;
            let mut refused = None;
            addresses.retain(|address| match open.judge(address.ip()) {
                Ok(()) => true,
                Err(refusal) => {
                    refused = Some(refusal);
                    false
                }
            });
            if let (Some(refused), true) = (refused, addresses.is_empty()) {
                return Err(refused.into());
            }
            if addresses.is_empty() {
                return Err(Unresolved(io::ErrorKind::NotFound.into()).into());
            }
            Ok(addresses.into_iter())
        })
    }
}

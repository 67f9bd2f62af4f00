//! How often a client may ask.
//!
//! A client is an IP address, and of IPv6 the network that one customer has. Each has a limit of its own (GCRA, by the crate
//! governor); those of clients that asked least recently are forgotten when there are too many, so that memory is bounded
//! whoever asks.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use moka::sync::Cache;

use crate::model::RateLimit;

/// The most clients that are remembered.
const CLIENTS: u64 = 100_000;

/// The length of the IPv6 network that one customer has at least (RFC 6177).
const CUSTOMER: u32 = 64;

/// The clients of a behaviour.
pub(super) struct Clients {
    quota: Quota,
    limiters: Cache<IpAddr, Arc<DefaultDirectRateLimiter>>,
}

impl Clients {
    /// Nobody has asked yet. None if the limit lets nothing through, which the check of a distribution refuses.
    pub(super) fn new(limit: RateLimit) -> Option<Self> {
        let requests = NonZeroU32::new(limit.requests)?;
        let quota = Quota::with_period(limit.per / requests.get())?
            .allow_burst(NonZeroU32::new(limit.burst)?);
        // After so long a client has its whole burst again, and need not be remembered.
        let whole = quota.burst_size_replenished_in();
        Some(Self {
            quota,
            limiters: Cache::builder()
                .max_capacity(CLIENTS)
                .time_to_idle(whole.max(Duration::from_secs(1)))
                .build(),
        })
    }

    /// Counts a request. If it is one too many, the time after which the next is not.
    pub(super) fn ask(&self, client: IpAddr) -> Result<(), Duration> {
        let limiter = self.limiters.get_with(customer(client), || {
            Arc::new(RateLimiter::direct(self.quota))
        });
        limiter
            .check()
            .map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// Who is one client: an address, and of IPv6 the network that one customer has.
pub(super) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - CUSTOMER) << (128 - CUSTOMER);
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, burst: u32) -> Clients {
        Clients::new(RateLimit {
            requests,
            per: Duration::from_secs(3600),
            burst,
        })
        .unwrap()
    }

    #[test]
    fn each_client_has_its_burst_and_learns_when_to_come_again() {
        let clients = limit(60, 3);
        let ask = |address: &str| clients.ask(address.parse().unwrap());
        for _ in 0..3 {
            assert_eq!(ask("192.0.2.1"), Ok(()));
        }
        let wait = ask("192.0.2.1").unwrap_err();
        let (least, most) = (Duration::from_secs(55), Duration::from_secs(60));
        assert!((least..=most).contains(&wait), "{wait:?}");
        assert!(
            ask("::ffff:192.0.2.1").is_err(),
            "the same in other clothes"
        );
        assert_eq!(ask("192.0.2.2"), Ok(()));
    }

    #[test]
    fn addresses_of_one_customer_are_one_client() {
        let clients = limit(1, 1);
        let ask = |address: &str| clients.ask(address.parse().unwrap());
        assert_eq!(ask("2001:db8::1"), Ok(()));
        assert!(ask("2001:db8::ffff:2").is_err());
        assert_eq!(ask("2001:db8:0:1::1"), Ok(()));
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for() {
        let clients = limit(1, 1);
        for number in 0..150_000_u32 {
            let _ = clients.ask(IpAddr::from(number.to_be_bytes()));
        }
        clients.limiters.run_pending_tasks();
        assert!(clients.limiters.entry_count() <= CLIENTS);
    }
}

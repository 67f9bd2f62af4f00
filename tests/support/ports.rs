//! Ports for servers that cannot find one themselves.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
    process,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

/// Not those that the kernel gives to whoever asks for any, which other tests do all the time.
const PORTS: Range<u16> = 10_000..32_768;

/// An address where nobody listens, for a server that starts soon.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Test files may run at the same time: each process begins somewhere else.
    let begin = process::id().wrapping_mul(97) % u32::from(count);
    let begin = u16::try_from(begin).unwrap();
    let free = (0..count).find_map(|_| {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % count;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + next));
        let is_free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        is_free.then_some(address)
    });
    free.expect("a port is free")
}

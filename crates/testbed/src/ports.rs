//! Free loopback ports.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the kernel takes the ports of outgoing connections, so that none of those comes between.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that nobody listens on, and that no other call in this process gets. Another process may still take it: a server
/// that then cannot bind ends, and its start says so.
///
/// # Panics
/// No port is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static OFFSET: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    // Processes start at different places, so that they hardly ever meet.
    let offset = *OFFSET.get_or_init(|| {
        u16::try_from(RandomState::new().hash_one(0) % u64::from(COUNT)).unwrap_or(0)
    });
    for _ in 0..COUNT {
        let index = (NEXT.fetch_add(1, Ordering::Relaxed) % COUNT + offset) % COUNT;
        let port = FIRST + index;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

//! Each process signs in to the bus as a user of its own, over TLS, and can do its job and nothing else: `nats/users.conf` as it is
//! deployed, on a real nats-server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod matrix;
mod rotation;
mod services;
mod user;

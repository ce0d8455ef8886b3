//! The bus on a real nats-server: what is stored once, what comes again, and what becomes a dead letter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batch;
mod connect;
mod consume;
mod lossy;
mod publish;
mod world;

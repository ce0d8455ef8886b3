//! The bus on a real nats-server: publishing, consuming, following, and dead letters.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connect;
mod consume;
mod dead_letters;
mod follow;
mod group;
mod lossy;
mod publish;
mod world;

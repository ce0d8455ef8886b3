//! The gateway as a process, on a real bus: what it takes, what it refuses, and what it says when the bus is away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod idempotency;
mod lifecycle;
mod listening;
mod outages;
mod overload;
mod rolling;
mod who_may;
mod world;

//! The whole way, with the services as real processes, on a real bus, a real store and a real Kubernetes API.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builds;
mod ci_deploy;
mod cluster;
mod contacts;
mod decisions;
mod elections;
mod formats;
mod images;
mod keys;
mod kills;
mod metrics;
mod reference;
mod relay;
mod rollout_faults;
mod shutdown;
mod stalls;
mod store;
mod visitors;
mod world;

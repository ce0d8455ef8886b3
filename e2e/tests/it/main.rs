//! The whole way, with the services as real processes, on a real bus, a real store and a real Kubernetes API.

mod builds;
mod contacts;
mod world;

//! The worker's metrics.

use prometheus::{IntCounter, Registry};
use runtime::metrics::register;

/// What the worker counts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Contacts that were stored; one that was there already does not count.
    pub(crate) stored: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let stored = IntCounter::new("contacts_stored_total", "Contacts that were stored, each once");
        Self { stored: register(registry, stored) }
    }
}

//! The worker's metrics.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, Registry};
use service::metrics::register;

/// The counters and timers of the worker.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Contacts that were stored. A contact that was stored before does not count.
    pub(crate) stored: IntCounter,
    /// The number of contacts in one insert.
    pub(crate) batch: Histogram,
    insert: HistogramVec,
}

/// Buckets in seconds: from the time of a warm store to the time-out of a write.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Buckets from one contact to the largest batch.
const DOCUMENTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The outcome of an insert as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The store answered, even if it refused single documents.
    Ok,
    /// The store could not be used.
    Error,
    /// The store did not answer in time.
    Timeout,
}

impl Inserted {
    /// Returns one word, for metrics and spans.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let stored =
            IntCounter::new("contacts_stored_total", "Contacts that were stored, each once");
        let batch = HistogramOpts::new(
            "mongodb_insert_batch_documents",
            "Documents that are inserted at once",
        );
        let insert = HistogramOpts::new(
            "db_client_operation_duration_seconds",
            "Time of an operation on the store",
        );
        let labels = &["db_operation_name", "outcome"];
        Self {
            stored: register(registry, stored),
            batch: register(registry, Histogram::with_opts(batch.buckets(DOCUMENTS.to_vec()))),
            insert: register(registry, HistogramVec::new(insert.buckets(SECONDS.to_vec()), labels)),
        }
    }

    /// Records the duration and the outcome of an insert.
    pub(crate) fn inserted(&self, how: Inserted, took: Duration) {
        self.insert.with_label_values(&["insert", how.as_str()]).observe(took.as_secs_f64());
    }
}

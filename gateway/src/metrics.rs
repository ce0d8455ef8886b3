//! The gateway's metrics.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use service::metrics::register;

/// The counters, gauges and histograms of the gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Time to answer, by method, route and status.
    pub(crate) http_duration: HistogramVec,
    /// Requests in progress, by method and route.
    pub(crate) http_active: IntGaugeVec,
    /// Connections that are open.
    pub(crate) connections: IntGauge,
    /// Contacts that were answered with 202.
    pub(crate) contacts_accepted: IntCounter,
    /// Builds that were answered with 202.
    pub(crate) builds_accepted: IntCounter,
}

/// The bounds of the buckets, in seconds: from a cached page to a long wait.
const BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 60.0];

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let duration = HistogramOpts::new(
            "http_server_request_duration_seconds",
            "Time from a request's head to its answer's head",
        );
        let labels = &["http_request_method", "http_route", "http_response_status_code"];
        let active = Opts::new("http_server_active_requests", "Requests in progress");
        let duration = HistogramVec::new(duration.buckets(BUCKETS.to_vec()), labels);
        Self {
            http_duration: register(registry, duration),
            http_active: register(
                registry,
                IntGaugeVec::new(active, &["http_request_method", "http_route"]),
            ),
            connections: register(
                registry,
                IntGauge::new("http_server_active_connections", "Connections that are open"),
            ),
            contacts_accepted: register(
                registry,
                IntCounter::new("contacts_accepted_total", "Contacts that were answered with 202"),
            ),
            builds_accepted: register(
                registry,
                IntCounter::new("builds_accepted_total", "Builds that were answered with 202"),
            ),
        }
    }
}

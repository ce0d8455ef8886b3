//! What every process tells Prometheus of itself.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// Adds a metric to a registry and hands it back.
///
/// # Panics
/// When a metric of that name is there already, which is a mistake in the code, and shows at every start.
#[expect(clippy::expect_used, reason = "names are constants: a clash shows at every start")]
pub fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("a metric's name, labels and buckets are valid");
    registry.register(Box::new(metric.clone())).expect("a metric's name is registered once");
    metric
}

/// A registry that holds `build_info` and `process_*`.
pub fn registry() -> Registry {
    let registry = Registry::new();
    let info = Opts::new("build_info", "The version that runs; always 1").const_label("version", crate::VERSION);
    register(&registry, IntGauge::with_opts(info)).set(1);
    // Fails only where there is no /proc.
    let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

/// What every consumer tells.
#[derive(Clone, Debug)]
pub struct ConsumerMetrics {
    /// Messages that wait for the consumer, by stream and consumer.
    pub pending: IntGaugeVec,
    /// Messages that became dead letters, by stream and consumer.
    pub dead_lettered: IntCounterVec,
}

impl ConsumerMetrics {
    /// Adds them to a registry. What it consumes gives the counter of dead letters its name: `contacts_dead_lettered_total`.
    pub fn new(registry: &Registry, what: &str) -> Self {
        let labels = &["stream", "consumer"];
        let pending = Opts::new("consumer_pending", "Messages that wait for the consumer or are in process");
        let dead = Opts::new(
            format!("{what}_dead_lettered_total"),
            "Messages that could not be handled and became dead letters",
        );
        Self {
            pending: register(registry, IntGaugeVec::new(pending, labels)),
            dead_lettered: register(registry, IntCounterVec::new(dead, labels)),
        }
    }
}

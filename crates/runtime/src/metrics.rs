//! What every process tells Prometheus of itself.

use prometheus::{
    GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::readiness::Readiness;

/// Adds a metric to a registry and hands it back.
///
/// # Panics
/// When a metric of that name is there already, which is a mistake in the code, and shows at every start.
#[expect(clippy::expect_used, reason = "names are constants: a clash shows at every start")]
pub fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("a metric's name, labels and buckets are valid");
    registry.register(Box::new(metric.clone())).expect("a metric's name is registered once");
    metric
}

/// A registry that holds `build_info` and `process_*`.
pub fn registry() -> Registry {
    let registry = Registry::new();
    let info = Opts::new("build_info", "The version that runs; always 1")
        .const_label("version", crate::VERSION);
    register(&registry, IntGauge::with_opts(info)).set(1);
    // Fails only where there is no /proc.
    let _ =
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

/// What every consumer tells.
#[derive(Clone, Debug)]
pub struct ConsumerMetrics {
    /// Messages that wait for the consumer, by stream and consumer.
    pub pending: IntGaugeVec,
    /// Of them, those that are in process, by stream and consumer.
    pub in_process: IntGaugeVec,
    /// Of them, those that were delivered more than once, by stream and consumer.
    pub redelivered: IntGaugeVec,
    /// How long the oldest of them has been in the stream, in seconds, by stream and consumer; 0 if there is none.
    pub oldest_age: GaugeVec,
    /// Messages that were handled, by stream, consumer and outcome: `settled`, `retried`, `dead_lettered`.
    pub messages: IntCounterVec,
    /// Messages that became dead letters, by stream and consumer.
    pub dead_lettered: IntCounterVec,
}

impl ConsumerMetrics {
    /// Adds them to a registry. What it consumes gives the counter of dead letters its name: `contacts_dead_lettered_total`.
    pub fn new(registry: &Registry, what: &str) -> Self {
        let labels = &["stream", "consumer"];
        let pending =
            Opts::new("consumer_pending", "Messages that wait for the consumer or are in process");
        let dead = Opts::new(
            format!("{what}_dead_lettered_total"),
            "Messages that could not be handled and became dead letters",
        );
        let gauge = |name: &str, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let age = Opts::new(
            "consumer_oldest_age_seconds",
            "Time since the oldest of them was published; 0 without any",
        );
        let messages = Opts::new(
            "consumer_messages_total",
            "Messages that were handled, by what became of them",
        );
        Self {
            pending: register(registry, IntGaugeVec::new(pending, labels)),
            in_process: gauge(
                "consumer_in_process",
                "Messages that were delivered and are not settled",
            ),
            redelivered: gauge(
                "consumer_redelivered",
                "Messages that were delivered more than once and are not settled",
            ),
            oldest_age: register(registry, GaugeVec::new(age, labels)),
            messages: register(
                registry,
                IntCounterVec::new(messages, &["stream", "consumer", "outcome"]),
            ),
            dead_lettered: register(registry, IntCounterVec::new(dead, labels)),
        }
    }
}

/// How each dependency stands, whenever somebody asks: `readiness`, by the condition of `/readyz`.
#[derive(Clone, Debug)]
pub struct ReadinessMetric {
    readiness: Readiness,
    gauge: IntGaugeVec,
}

impl ReadinessMetric {
    /// For the dependencies of a process.
    ///
    /// # Errors
    /// The metric's own name is not valid, which it is.
    pub fn new(readiness: Readiness) -> prometheus::Result<Self> {
        let opts = Opts::new("readiness", "1 while the dependency can be used, else 0");
        Ok(Self { readiness, gauge: IntGaugeVec::new(opts, &["condition"])? })
    }
}

impl Collector for ReadinessMetric {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, status) in &self.readiness.report().dependencies {
            self.gauge.with_label_values(&[name.as_ref()]).set(status.ready.into());
        }
        self.gauge.collect()
    }
}

//! The metrics that every process exports about itself.

use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::readiness::Readiness;

/// Adds a metric to a registry and returns the metric.
///
/// # Panics
/// Panics if the registry already has a metric of that name. This is a mistake in the code, which
/// shows at every start.
#[expect(clippy::expect_used, reason = "names are constants: a clash shows at every start")]
pub fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("a metric's name, labels and buckets are valid");
    registry.register(Box::new(metric.clone())).expect("a metric's name is registered once");
    metric
}

/// Creates a registry with the metrics `build_info` and `process_*`.
pub fn registry() -> Registry {
    let registry = Registry::new();
    let info = Opts::new("build_info", "The version that runs; always 1")
        .const_label("version", crate::VERSION);
    register(&registry, IntGauge::with_opts(info)).set(1);
    // Fails only on a system without /proc.
    let _ =
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

/// The metric `readiness`, with one value for each dependency in `/readyz`.
///
/// The values are read from the latches at each scrape.
#[derive(Clone, Debug)]
pub struct ReadinessMetric {
    readiness: Readiness,
    gauge: IntGaugeVec,
}

impl ReadinessMetric {
    /// Creates the metric for the dependencies of a process.
    ///
    /// # Errors
    /// Fails if the name of the metric is not valid, which never happens: the name is a constant.
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

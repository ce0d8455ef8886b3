//! What every process tells Prometheus of itself.

use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
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

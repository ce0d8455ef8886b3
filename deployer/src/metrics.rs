//! The deployer's metrics.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use runtime::metrics::register;

/// What the deployer counts and times. Labels are configured targets and known verdicts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Rollouts that ended, by target and verdict.
    pub(crate) rollouts: IntCounterVec,
    /// How long they took, from their acceptance on.
    pub(crate) duration: HistogramVec,
    /// Builds that were rejected, by target; `none` where no target takes them.
    pub(crate) rejected: IntCounterVec,
}

const BUCKETS: [f64; 12] = [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let labels = &["target", "verdict"];
        let rollouts = Opts::new("rollouts_total", "Rollouts that ended");
        let duration = HistogramOpts::new("rollout_duration_seconds", "Time from a build's acceptance to its verdict");
        let rejected = Opts::new("builds_rejected_total", "Builds that a target rejected");
        Self {
            rollouts: register(registry, IntCounterVec::new(rollouts, labels)),
            duration: register(registry, HistogramVec::new(duration.buckets(BUCKETS.to_vec()), labels)),
            rejected: register(registry, IntCounterVec::new(rejected, &["target"])),
        }
    }
}

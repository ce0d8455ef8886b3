//! The deployer's metrics.

use std::sync::Arc;

use events::{RolloutState, TargetName};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use service::metrics::register;

use crate::{history::History, targets::Target};

/// What the deployer counts and times. Labels are configured targets and known states.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Rollouts that ended, by target and verdict.
    pub(crate) rollouts: IntCounterVec,
    /// How long they took, from their acceptance on.
    pub(crate) duration: HistogramVec,
    /// How long they stayed in a state.
    pub(crate) in_state: HistogramVec,
    /// Builds that were rejected, by target; `none` where no target takes them.
    pub(crate) rejected: IntCounterVec,
    /// How long the API server took, by verb and code.
    pub(crate) requests: HistogramVec,
}

/// From a rollout that has nothing to do to one that fails at a long deadline, in seconds.
const ROLLOUT: [f64; 12] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// From a cached answer to a request's time-out, in seconds.
const REQUEST: [f64; 10] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

const VERDICTS: [RolloutState; 4] = [
    RolloutState::Succeeded,
    RolloutState::Failed,
    RolloutState::RolledBack,
    RolloutState::Reverted,
];

impl Metrics {
    pub(crate) fn new(registry: &Registry, targets: &[Arc<Target>]) -> Self {
        let labels = &["target", "verdict"];
        let histogram = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            register(
                registry,
                HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels),
            )
        };
        let rollouts = Opts::new("rollouts_total", "Rollouts that ended");
        let rejected = Opts::new("builds_rejected_total", "Builds that a target rejected");
        let metrics = Self {
            rollouts: register(registry, IntCounterVec::new(rollouts, labels)),
            duration: histogram(
                "rollout_duration_seconds",
                "Time from a build's acceptance to its verdict",
                &ROLLOUT,
                labels,
            ),
            in_state: histogram(
                "rollout_state_duration_seconds",
                "Time that a rollout stayed in a state",
                &ROLLOUT,
                &["state"],
            ),
            rejected: register(registry, IntCounterVec::new(rejected, &["target"])),
            requests: histogram(
                "kubernetes_client_request_duration_seconds",
                "Time until the head of the API server's answer",
                &REQUEST,
                &["verb", "code"],
            ),
        };
        // A counter that is there from the start can be watched for its first increase.
        for target in targets {
            for verdict in VERDICTS {
                metrics.rollouts.with_label_values(&[target.name.as_str(), verdict.as_str()]);
            }
        }
        metrics
    }
}

/// What is under way, as the log of rollouts has it, whenever somebody asks. Every replica tells the same.
#[derive(Clone)]
pub(crate) struct UnderWay {
    history: History,
    in_progress: IntGaugeVec,
    started: GaugeVec,
}

impl UnderWay {
    /// For the rollouts of a history.
    pub(crate) fn new(history: History) -> prometheus::Result<Self> {
        let in_progress =
            Opts::new("rollouts_in_progress", "Rollouts without a verdict, by where they stand");
        let started = Opts::new(
            "rollout_started_timestamp_seconds",
            "When the rollout that is under way began; 0 without one",
        );
        Ok(Self {
            history,
            in_progress: IntGaugeVec::new(in_progress, &["target", "state"])?,
            started: GaugeVec::new(started, &["target"])?,
        })
    }

    fn note(&self, target: &TargetName, open: &[(RolloutState, f64)]) {
        for (state, _) in open {
            self.in_progress.with_label_values(&[target.as_str(), state.as_str()]).inc();
        }
        let begun =
            open.iter().filter(|(state, _)| *state != RolloutState::Accepted).map(|(_, at)| *at);
        self.started
            .with_label_values(&[target.as_str()])
            .set(begun.reduce(f64::min).unwrap_or(0.0));
    }
}

impl Collector for UnderWay {
    fn desc(&self) -> Vec<&Desc> {
        [self.in_progress.desc(), self.started.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.in_progress.reset();
        self.history.under_way(|target, open| self.note(target, open));
        [self.in_progress.collect(), self.started.collect()].concat()
    }
}

//! Tells everybody on the bus how each target is: what it takes, and what runs there, whoever set it.

use std::{sync::Arc, time::Duration};

use bus::Bus;
use chrono::Utc;
use events::{TargetChange, TargetChanged, TargetState};
use service::shutdown::Shutdown;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{cluster::Cluster, history::History, observed::Observed, progress, targets::Target};

/// How often a target is told of at most.
const EVERY: Duration = Duration::from_secs(1);

/// After so many rounds all targets are looked at again: another replica may have told what was true before.
const ROUNDS: u32 = 30;

/// How long the bus may take to acknowledge.
const WITHIN: Duration = Duration::from_secs(5);

/// Reports all targets, one after the other.
pub(crate) struct Reporter {
    bus: Bus,
    cluster: Cluster,
    history: History,
    targets: Vec<(Arc<Target>, watch::Receiver<()>)>,
}

impl Reporter {
    pub(crate) fn new(
        bus: Bus,
        cluster: Cluster,
        history: History,
        targets: Vec<Arc<Target>>,
    ) -> Self {
        let watched = |target: Arc<Target>| {
            let mut changes = cluster.changes(&target);
            changes.mark_changed();
            (target, changes)
        };
        let targets = targets.into_iter().map(watched).collect();
        Self { bus, cluster, history, targets }
    }

    /// Reports until the shutdown begins.
    pub(crate) async fn run(mut self, shutdown: &Shutdown) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 1_u32.. {
            if shutdown.unless_begun(every.tick()).await.is_none() {
                return;
            }
            for (target, changes) in &mut self.targets {
                // An error means that nothing watches any more, that is, the end.
                if round % ROUNDS != 0 && !changes.has_changed().unwrap_or(false) {
                    continue;
                }
                changes.mark_unchanged();
                let Some(state) = state(&self.cluster, target) else { continue };
                if self.history.has_state(&target.name, &state) {
                    continue;
                }
                let change = TargetChanged::new(
                    target.name.clone(),
                    TargetChange::Observed(state),
                    Utc::now(),
                );
                let Some(published) =
                    shutdown.unless_begun(self.bus.publish(&change, WITHIN)).await
                else {
                    return;
                };
                if let Err(error) = published {
                    tracing::debug!(target = %target.name, "its state is told later: {error}");
                    changes.mark_changed();
                }
            }
        }
    }
}

/// How a target is, if that is known now.
fn state(cluster: &Cluster, target: &Target) -> Option<TargetState> {
    let snapshot = cluster.snapshot(target);
    let (running, progress) = match &snapshot.deployment {
        Observed::Unknown => return None,
        _ if snapshot.stale => return None,
        Observed::Missing => (None, None),
        Observed::Found(deployment) => (
            snapshot.image(&target.container).map(str::to_owned),
            Some(progress::counts(deployment)),
        ),
    };
    Some(TargetState { running, progress, ..target.state() })
}

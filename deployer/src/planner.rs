//! Takes builds from `PIPELINE`, decides, and tells `ROLLOUTS` and `DEPLOYS`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{Bus, Delivery, Failure, Handled, Handler, PublishError};
use chrono::{DateTime, Utc};
use events::{BuildFinished, DeployRequested, RolloutChanged, RolloutState, V1};
use planning::{Decision, Judgement, Policy, Question, Standing, Standings, plan};

use crate::{cluster::Cluster, history::History, metrics::Metrics, targets::Target};

/// How long the bus may take to acknowledge.
const WITHIN: Duration = Duration::from_secs(5);

/// Plans one build after the other.
pub(crate) struct Planner {
    pub(crate) bus: Bus,
    pub(crate) cluster: Cluster,
    pub(crate) history: History,
    pub(crate) targets: Vec<Arc<Target>>,
    /// What each of them takes.
    pub(crate) policies: Vec<Policy>,
    pub(crate) metrics: Metrics,
}

impl Handler for Planner {
    type Event = BuildFinished;

    async fn handle(&self, batch: Vec<Delivery<BuildFinished>>) -> Vec<Result<Handled, Failure>> {
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.plan(&delivery.event).await.map(|()| Handled::Whole));
        }
        results
    }
}

impl Planner {
    async fn plan(&self, build: &BuildFinished) -> Result<(), Failure> {
        let decisions = self.history.ask(|standings| self.decide(build, standings)).await?;
        let planned = u32::try_from(decisions.len()).unwrap_or(u32::MAX);
        for decision in decisions {
            self.carry_out(build, decision, planned).await?;
        }
        Ok(())
    }

    fn decide(&self, build: &BuildFinished, standings: &Standings) -> Vec<Decision> {
        let now = Utc::now();
        let objection = |policy: &Policy, image: &str| {
            let target = self.targets.iter().find(|target| target.name == policy.name)?;
            let snapshot = self.cluster.snapshot(target);
            let question = Question {
                build: build.id,
                image,
                running: snapshot.image(&target.container),
                freeze_windows: &policy.freeze_windows,
                forced: build.forced.is_some(),
                rollback: build.forced.as_ref().is_some_and(|forced| forced.rollback),
                now,
            };
            standings.of(&target.name).map_or_else(
                || Standing::default().objection(&question),
                |known| known.objection(&question),
            )
        };
        plan(build, &self.policies, objection)
    }

    /// Interrupted anywhere, it is done again from the start and changes nothing twice: the first change of a rollout is
    /// stored only where there is none, and a second request finds its rollout over.
    async fn carry_out(
        &self,
        build: &BuildFinished,
        decision: Decision,
        planned: u32,
    ) -> Result<(), Failure> {
        let now = Utc::now();
        let change = first_change(build, &decision, planned, now);
        let target = decision.target.as_ref().map_or("none", |target| target.as_str()).to_owned();
        match self.bus.publish_after(&change, 0, WITHIN).await {
            Ok(_) => {
                let reason = change.reason.as_deref().unwrap_or_default();
                tracing::info!(build.id = %build.id, target, image = %change.image, reason, "build {}", change.state);
                if change.state == RolloutState::Rejected {
                    self.metrics.rejected.with_label_values(&[&target]).inc();
                }
            }
            // It was told before we were interrupted.
            Err(PublishError::MovedOn) => {}
            Err(error) => {
                return Err(Failure::Unavailable(
                    anyhow::Error::new(error).context("telling ROLLOUTS"),
                ));
            }
        }
        if let (Some(target), Judgement::Accept { image }) = (decision.target, decision.verdict) {
            let (forced, rollback) =
                build.forced.as_ref().map_or((false, false), |forced| (true, forced.rollback));
            let request = DeployRequested {
                v: V1,
                build_id: build.id,
                target,
                image,
                forced,
                rollback,
                requested_at: now,
            };
            let told = self.bus.publish(&request, WITHIN).await.context("asking for the deploy");
            told.map_err(Failure::Unavailable)?;
        }
        Ok(())
    }
}

fn first_change(
    build: &BuildFinished,
    decision: &Decision,
    planned: u32,
    now: DateTime<Utc>,
) -> RolloutChanged {
    let (state, image, reason) = match &decision.verdict {
        Judgement::Accept { image } => (RolloutState::Accepted, image.clone(), None),
        Judgement::Reject { reason } => {
            (RolloutState::Rejected, build.image.clone(), Some(reason.clone()))
        }
    };
    RolloutChanged {
        detail: reason.clone().or_else(|| Some("waits for its turn".to_owned())),
        reason,
        build: Some(build.clone()),
        planned: Some(planned),
        ..RolloutChanged::first(build.id, decision.target.clone(), state, image, now)
    }
}

//! Carries out the requests of one target: sets the image, watches the rollout, reports the verdict.
//!
//! The state in the rollout's log is where the next step begins. Everything that matters is written there before it is done,
//! so that whoever gets the request after a crash goes on where it was left.

mod applied;
mod commit;
mod evidence;
mod follow;
mod gates;
mod rollback;
mod set;
mod spans;

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use bus::{Bus, Delivery, Failure, Handled, Handler};
use chrono::Utc;
use events::{DeployRequested, Diagnosis, ImageReference, RolloutState};
use planning::Question;
use service::{propagation, shutdown::Shutdown};
use tokio::time::{Instant, sleep};
use tracing::{Instrument, Span};

use crate::{
    cluster::{Cluster, Note, RequestError},
    diagnosis,
    git::Git,
    history::History,
    metrics::Metrics,
    observed::Observed,
    progress::same_image,
    rollout_log::RolloutLog,
    smoke::Prober,
    targets::Target,
};

/// The pause before something that was changed under our hands is read again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the API server may refuse before it is believed: after a restart it knows nobody's rights for a moment.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(3);

/// How old what was seen may be when a verdict is written by it. Logs of containers are read in between.
const FRESH: Duration = Duration::from_secs(4);

/// When something was seen that a verdict rests on. A process that was stopped in between may not speak of it any more.
#[derive(Clone, Copy, Debug)]
struct Seen(Instant);

impl Seen {
    fn now() -> Self {
        Self(Instant::now())
    }

    fn check(self) -> Result<(), Failure> {
        if self.0.elapsed() <= FRESH {
            return Ok(());
        }
        Err(Failure::Unavailable(anyhow!(
            "this process was held up for {:?}, and has to look again",
            self.0.elapsed()
        )))
    }
}

/// Executes the rollouts of one target, one at a time.
pub(crate) struct Executor {
    pub(crate) bus: Bus,
    pub(crate) cluster: Cluster,
    pub(crate) git: Git,
    pub(crate) history: History,
    pub(crate) prober: Prober,
    pub(crate) target: Arc<Target>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    /// Where people find the rollout.
    pub(crate) gateway_url: Option<Arc<str>>,
}

impl Handler for Executor {
    type Event = DeployRequested;

    /// Requests wait on the bus while the cluster is away.
    async fn ready(&self) {
        let mut changes = self.cluster.changes(&self.target);
        loop {
            let snapshot = self.cluster.snapshot(&self.target);
            // What refuses to be watched may still be asked.
            if !matches!(snapshot.deployment, Observed::Unknown) || snapshot.stale {
                break;
            }
            // An error means that nothing watches any more, that is, the end.
            if changes.changed().await.is_err() {
                return;
            }
        }
        while matches!(self.cluster.get(&self.target).await, Err(RequestError::Unavailable(_))) {
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn handle(&self, batch: Vec<Delivery<DeployRequested>>) -> Vec<Result<Handled, Failure>> {
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            // Boxed: it holds whole Deployments, and there is one for each target.
            let span = spans::rollout(&self.target, &delivery.event, delivery.deliveries);
            let result = Box::pin(self.roll_out(&delivery).instrument(span)).await;
            results.push(result.map(|()| Handled::Whole));
        }
        results
    }
}

impl Executor {
    /// Carries out one request, from wherever it stands.
    async fn roll_out(&self, delivery: &Delivery<DeployRequested>) -> Result<(), Failure> {
        let request = &delivery.event;
        let mut log =
            RolloutLog::open(self.bus.clone(), request, self.metrics.in_state.clone()).await?;
        let ended_before = log.last().state.is_terminal();
        if !ended_before {
            let state = log.last().state;
            tracing::info!(
                build.id = %request.build_id, target = %self.target.name, image = request.image, %state, "rollout begins"
            );
        }
        if delivery.deliveries > 1 {
            log.take_over().await?;
        }
        while !log.last().state.is_terminal() {
            let state = log.last().state;
            let span = spans::step(state);
            let around = span.clone().unwrap_or_else(Span::current);
            let done = self.step(state, &mut log, delivery).instrument(around).await;
            spans::tell(span.as_ref(), &done, state, log.last());
            done?;
        }
        if !ended_before {
            self.count(&log);
        }
        self.note(&log).instrument(spans::verdict(log.last())).await;
        Ok(())
    }

    /// Does what a rollout in this state needs next.
    async fn step(
        &self,
        state: RolloutState,
        log: &mut RolloutLog,
        delivery: &Delivery<DeployRequested>,
    ) -> Result<(), Failure> {
        match state {
            RolloutState::Accepted => Box::pin(self.begin(log, delivery)).await,
            RolloutState::Patching => Box::pin(self.set_image(log)).await,
            RolloutState::Progressing => self.watch(log).await,
            RolloutState::SmokeTesting => self.smoke_test(log).await,
            RolloutState::AwaitingArgocd => self.await_argocd(log).await,
            RolloutState::RollingBack => self.roll_back(log).await,
            RolloutState::Rejected
            | RolloutState::Superseded
            | RolloutState::Succeeded
            | RolloutState::Failed
            | RolloutState::RolledBack
            | RolloutState::Reverted => Ok(()),
        }
    }

    /// Closes what need not be done any more: a newer request waits, or something speaks against this one by now.
    async fn begin(
        &self,
        log: &mut RolloutLog,
        delivery: &Delivery<DeployRequested>,
    ) -> Result<(), Failure> {
        let request = &delivery.event;
        let subject = DeployRequested::subject_of(&request.target);
        let newest = self.bus.read_last::<DeployRequested>(&subject).await;
        let newest = newest.map_err(|error| Failure::Unavailable(anyhow!(error)))?;
        if let Some((_, newer)) = newest.filter(|(sequence, _)| *sequence > delivery.sequence) {
            let reason =
                format!("a newer build takes its place: {} with {}", newer.build_id, newer.image);
            return log
                .advance(RolloutState::Superseded, |change| {
                    change.detail = Some(reason.clone());
                    change.reason = Some(reason);
                })
                .await;
        }
        // The planner asks for no such thing. Whoever else can write to the bus shall not choose what runs in the cluster.
        let asked = request.image.parse::<ImageReference>().ok();
        if !asked.is_some_and(|image| image.same_repository(&self.target.image)) {
            let reason =
                format!("{} is not an image of {}", request.image, self.target.image.name());
            return self.reject(log, reason).await;
        }
        let standing = self.history.standing(&self.target.name).await?;
        let snapshot = self.cluster.snapshot(&self.target);
        let running = snapshot.image(&self.target.container);
        let objection = standing.objection(&Question {
            build: request.build_id,
            image: &request.image,
            running,
            freeze_windows: &self.target.freeze_windows,
            forced: request.forced,
            rollback: request.rollback,
            now: Utc::now(),
        });
        match objection {
            Some(reason) => self.reject(log, reason).await,
            None => Box::pin(self.set_image(log)).await,
        }
    }

    async fn reject(&self, log: &mut RolloutLog, reason: String) -> Result<(), Failure> {
        log.advance(RolloutState::Rejected, |change| {
            change.detail = Some(reason.clone());
            change.reason = Some(reason);
        })
        .await
    }

    /// The rollout will not be done: goes back, if something was set and there is a way back.
    async fn fail(
        &self,
        log: &mut RolloutLog,
        diagnosis: Diagnosis,
        seen: Seen,
    ) -> Result<(), Failure> {
        let mut detail = diagnosis.summary.clone();
        let last = log.last();
        // A commit is to be taken back even if ArgoCD has not applied it: it might yet.
        let stood =
            last.previous_image.as_deref().is_some_and(|before| same_image(before, &last.image));
        let committed = last.revision.is_some() && !stood;
        if committed && last.set_at.is_none() && !self.target.rollback {
            detail.push_str("; the branch still has the tag, and ArgoCD may yet apply it");
        }
        if (last.set_at.is_some() || committed) && self.target.rollback {
            let standing = self.history.standing(&self.target.name).await?;
            match standing
                .rollouts
                .way_back(&log.last().image, log.last().previous_image.as_deref())
            {
                Some(image) => {
                    seen.check()?;
                    return self.begin_rollback(log, diagnosis, image).await;
                }
                None => detail.push_str("; there is no image to go back to"),
            }
        }
        self.conclude(log, RolloutState::Failed, detail, Some(diagnosis), seen).await
    }

    /// Tells the verdict, once.
    async fn conclude(
        &self,
        log: &mut RolloutLog,
        verdict: RolloutState,
        detail: String,
        diagnosis: Option<Diagnosis>,
        seen: Seen,
    ) -> Result<(), Failure> {
        seen.check()?;
        log.advance(verdict, |change| {
            change.reason = (verdict != RolloutState::Succeeded).then(|| detail.clone());
            change.detail = Some(detail);
            change.diagnosis = diagnosis;
            change.trouble_since = None;
        })
        .await
    }

    /// Metrics and log lines of a rollout that has just ended.
    fn count(&self, log: &RolloutLog) {
        let last = log.last();
        let labels = [self.target.name.as_str(), last.state.as_str()];
        let took = (last.at - last.started_at).to_std().unwrap_or_default();
        self.metrics.rollouts.with_label_values(&labels).inc();
        self.metrics.duration.with_label_values(&labels).observe(took.as_secs_f64());
        let (state, detail) = (last.state, last.detail.as_deref().unwrap_or_default());
        if matches!(
            state,
            RolloutState::Succeeded | RolloutState::Superseded | RolloutState::Rejected
        ) {
            tracing::info!(build.id = %last.build_id, target = %self.target.name, image = last.image, "rollout {state}: {detail}");
        } else {
            tracing::error!(build.id = %last.build_id, target = %self.target.name, image = last.image, "rollout {state}: {detail}");
        }
    }

    /// Tells the verdict where people look who know nothing of us: as an event on the Deployment. It is told again after a
    /// crash, under the same name, and so not twice.
    async fn note(&self, log: &RolloutLog) {
        let last = log.last();
        let reason = match last.state {
            RolloutState::Succeeded => "RolloutSucceeded",
            RolloutState::Failed => "RolloutFailed",
            RolloutState::RolledBack => "RolloutRolledBack",
            RolloutState::Reverted => "RolloutReverted",
            _ => return,
        };
        let detail = last.detail.as_deref().unwrap_or_default();
        let link = self.gateway_url.as_ref();
        let link = link.map_or_else(String::new, |url| {
            format!(" ({}/rollouts/builds/{})", url.trim_end_matches('/'), last.build_id)
        });
        let note = Note {
            name: format!("{}.{}", self.target.name, last.build_id),
            reason,
            warning: last.state != RolloutState::Succeeded,
            message: format!("{}{link}: {detail}", last.image),
            trace_id: propagation::trace_name(&Span::current()),
            at: last.at,
        };
        match self.cluster.note(&self.target, note).await {
            Ok(()) => {}
            Err(RequestError::Refused { message, .. }) => {
                tracing::warn!(target = %self.target.name, "the verdict is not among the Deployment's events: {message}");
            }
            Err(RequestError::Unavailable(error)) => {
                tracing::warn!(target = %self.target.name, "the verdict is not among the Deployment's events: {error:#}");
            }
        }
    }

    /// Asks the API server, and believes a refusal only if it lasts. The diagnosis then.
    async fn insist<T, F: Future<Output = Result<T, RequestError>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<Result<T, Diagnosis>, Failure> {
        let begun = Instant::now();
        loop {
            match request().await {
                Ok(result) => return Ok(Ok(result)),
                Err(RequestError::Unavailable(error)) => return Err(Failure::Unavailable(error)),
                Err(RequestError::Refused { code, reason, message }) => {
                    let may_pass = matches!(code, 401 | 403);
                    if !may_pass || begun.elapsed() >= REFUSAL_PATIENCE {
                        return Ok(Err(diagnosis::refused(&reason, &message)));
                    }
                }
            }
            self.pause(10 * PAUSE).await?;
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.shutdown.begun() => Err(Failure::Interrupted),
        }
    }
}

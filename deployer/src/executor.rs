//! Carries out the requests of one target: sets the image, watches the rollout, reports the verdict.
//!
//! Everything that matters is in the rollout's log before it is done, so that whoever gets the request after a crash goes on
//! where it was left.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use events::{DeployRequested, Diagnosis, RolloutState};
use k8s_openapi::api::apps::v1::Deployment;
use runtime::{
    bus::{Bus, Delivery, Failure, Handler},
    shutdown::Shutdown,
};

use crate::{
    cluster::{Cluster, Observed, PatchError, written_at},
    config::Target,
    diagnosis,
    metrics::Metrics,
    progress::{Expectation, Observation, Phase, image_of, observe, same_image},
    rollout_log::RolloutLog,
};

/// The pause before a Deployment that was changed under our hands is read again.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// Executes the rollouts of one target, one at a time.
pub(crate) struct Executor {
    pub(crate) bus: Bus,
    pub(crate) cluster: Cluster,
    pub(crate) target: Arc<Target>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// How a rollout ends.
struct Verdict {
    state: RolloutState,
    detail: String,
    diagnosis: Option<Diagnosis>,
}

impl Verdict {
    fn succeeded(detail: String) -> Self {
        Self { state: RolloutState::Succeeded, detail, diagnosis: None }
    }

    fn failed(state: RolloutState, diagnosis: Diagnosis) -> Self {
        Self { state, detail: diagnosis.summary.clone(), diagnosis: Some(diagnosis) }
    }
}

impl Handler for Executor {
    type Event = DeployRequested;

    /// Requests wait on the bus while the cluster is away.
    async fn ready(&self) {
        let mut observed = self.cluster.observe(&self.target);
        // An error means that nothing watches any more, that is, the end.
        let _ = observed.wait_for(|observed| !matches!(observed, Observed::Unknown)).await;
        while self.cluster.get(&self.target).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn handle(&self, batch: Vec<Delivery<DeployRequested>>) -> Vec<Result<(), Failure>> {
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.roll_out(&delivery.event).await);
        }
        results
    }
}

impl Executor {
    async fn roll_out(&self, request: &DeployRequested) -> Result<(), Failure> {
        let mut log = RolloutLog::open(self.bus.clone(), request).await?;
        if log.last().state.is_terminal() {
            return Ok(());
        }
        tracing::info!(
            build.id = %request.build_id, target = %self.target.name, image = request.image, state = %log.last().state,
            "rollout begins"
        );
        let verdict = match self.set_image(&mut log).await? {
            Ok(expected) => self.watch(&mut log, &expected).await?,
            Err(verdict) => verdict,
        };
        self.conclude(&mut log, verdict).await
    }

    /// Sets the image, unless it is set already; what to expect then, or why it cannot be.
    async fn set_image(&self, log: &mut RolloutLog) -> Result<Result<Expectation, Verdict>, Failure> {
        loop {
            let Some(read) = self.cluster.get(&self.target).await.map_err(Failure::Unavailable)? else {
                return Ok(Err(Verdict::failed(RolloutState::Failed, diagnosis::no_deployment(&self.target))));
            };
            let Some(current) = image_of(&read, &self.target.container).map(str::to_owned) else {
                return Ok(Err(Verdict::failed(RolloutState::Failed, diagnosis::no_container(&self.target))));
            };
            if log.last().state == RolloutState::Progressing {
                // It was set before we were interrupted. Whether it still is, is for the watch to judge.
                return Ok(Ok(self.expectation(log, &read)));
            }
            self.note_patching(log, &current).await?;
            let image = log.last().image.clone();
            if same_image(&current, &image) {
                self.note_progressing(log, &read, "the image is set").await?;
                return Ok(Ok(self.expectation(log, &read)));
            }
            match self.cluster.set_image(&self.target, &read, &image).await {
                Ok(written) => {
                    tracing::info!(target = %self.target.name, image, "image set");
                    self.note_progressing(log, &written, "the image is set").await?;
                    return Ok(Ok(self.expectation(log, &written)));
                }
                Err(PatchError::Conflict) => {}
                Err(PatchError::Unavailable(error)) => return Err(Failure::Unavailable(error)),
                Err(PatchError::Refused { reason, message }) => {
                    let again = self.cluster.get(&self.target).await.map_err(Failure::Unavailable)?;
                    let same = again.is_some_and(|again| again.metadata.generation == read.metadata.generation);
                    if same {
                        let diagnosis = diagnosis::refused(&reason, &message);
                        return Ok(Err(Verdict::failed(RolloutState::Failed, diagnosis)));
                    }
                }
            }
            tokio::time::sleep(CONFLICT_PAUSE).await;
        }
    }

    /// Before the image is set: what stood there, and until when the rollout may take.
    async fn note_patching(&self, log: &mut RolloutLog, current: &str) -> Result<(), Failure> {
        let last = log.last();
        let ours = same_image(current, &last.image);
        // Interrupted after the write, the image before it is in the log and no longer in the cluster.
        if last.state == RolloutState::Patching && (ours || last.previous_image.as_deref() == Some(current)) {
            return Ok(());
        }
        let deadline = TimeDelta::from_std(self.target.deadline).unwrap_or(TimeDelta::MAX);
        log.advance(RolloutState::Patching, |change| {
            change.detail = Some(format!("the image is {current}"));
            change.previous_image = Some(current.to_owned());
            change.deadline_at = change.deadline_at.or_else(|| Utc::now().checked_add_signed(deadline));
        })
        .await
    }

    async fn note_progressing(&self, log: &mut RolloutLog, now: &Deployment, detail: &str) -> Result<(), Failure> {
        log.advance(RolloutState::Progressing, |change| {
            change.detail = Some(detail.to_owned());
            change.generation = now.metadata.generation;
        })
        .await
    }

    fn expectation(&self, log: &RolloutLog, read: &Deployment) -> Expectation {
        let last = log.last();
        Expectation {
            container: self.target.container.clone(),
            image: last.image.clone(),
            generation: last.generation.unwrap_or(0),
            since: written_at(read).unwrap_or(last.started_at),
        }
    }

    /// Follows the rollout to its end.
    async fn watch(&self, log: &mut RolloutLog, expected: &Expectation) -> Result<Verdict, Failure> {
        let mut observed = self.cluster.observe(&self.target);
        let deadline = log.last().deadline_at.unwrap_or_else(Utc::now);
        loop {
            let now = observed.borrow_and_update().clone();
            match now {
                Observed::Unknown => {}
                // From before our write.
                Observed::Found(deployment) if deployment.metadata.generation < Some(expected.generation) => {}
                Observed::Found(deployment) => {
                    let seen = observe(&deployment, expected);
                    self.note_progress(log, &seen).await?;
                    // What a watch has may be old: the last word is the API server's.
                    if !matches!(seen.phase, Phase::Waiting(_))
                        && let Ok(verdict) = self.judge_now(expected).await?
                    {
                        return Ok(verdict);
                    }
                }
                Observed::Missing => {
                    if let Ok(verdict) = self.judge_now(expected).await? {
                        return Ok(verdict);
                    }
                }
            }
            tokio::select! {
                changed = observed.changed() => if changed.is_err() { return Err(Failure::Interrupted) },
                () = self.shutdown.begun() => return Err(Failure::Interrupted),
                () = tokio::time::sleep(until(deadline)) => return self.at_deadline(expected).await,
            }
        }
    }
}

impl Executor {
    /// Judges the Deployment as the API server has it now: a verdict, or what is still waited for.
    async fn judge_now(&self, expected: &Expectation) -> Result<Result<Verdict, String>, Failure> {
        let Some(deployment) = self.cluster.get(&self.target).await.map_err(Failure::Unavailable)? else {
            return Ok(Ok(Verdict::failed(RolloutState::Failed, diagnosis::no_deployment(&self.target))));
        };
        let Observation { phase, progress } = observe(&deployment, expected);
        let failed = |diagnosis| Ok(Ok(Verdict::failed(RolloutState::Failed, diagnosis)));
        match phase {
            Phase::Waiting(what) => Ok(Err(what)),
            Phase::Complete => Ok(Ok(Verdict::succeeded(format!(
                "all {} pods have the new version and are available",
                progress.updated
            )))),
            Phase::Broken { cause, message } => failed(diagnosis::given_up(&cause, &message)),
            Phase::Replaced { image } => Ok(Ok(Verdict::failed(RolloutState::Reverted, diagnosis::replaced(&image)))),
            Phase::NoContainer => failed(diagnosis::no_container(&self.target)),
        }
    }

    /// The time is up: a rollout that is done by now has succeeded all the same, every other has failed.
    async fn at_deadline(&self, expected: &Expectation) -> Result<Verdict, Failure> {
        Ok(match self.judge_now(expected).await? {
            Ok(verdict) => verdict,
            Err(what) => {
                let diagnosis = diagnosis::deadline_exceeded(self.target.deadline, &what);
                Verdict::failed(RolloutState::Failed, diagnosis)
            }
        })
    }

    /// Tells new counts of pods.
    async fn note_progress(&self, log: &mut RolloutLog, seen: &Observation) -> Result<(), Failure> {
        if log.last().progress == Some(seen.progress) {
            return Ok(());
        }
        log.advance(RolloutState::Progressing, |change| change.progress = Some(seen.progress)).await
    }

    /// Tells the verdict, once.
    async fn conclude(&self, log: &mut RolloutLog, verdict: Verdict) -> Result<(), Failure> {
        let Verdict { state, detail, diagnosis } = verdict;
        log.advance(state, |change| {
            change.reason = diagnosis.as_ref().map(|diagnosis| diagnosis.summary.clone());
            change.detail = Some(detail);
            change.diagnosis = diagnosis;
        })
        .await?;
        let last = log.last();
        let labels = [self.target.name.as_str(), state.as_str()];
        let took = (last.at - last.started_at).to_std().unwrap_or_default();
        self.metrics.rollouts.with_label_values(&labels).inc();
        self.metrics.duration.with_label_values(&labels).observe(took.as_secs_f64());
        let detail = last.detail.as_deref().unwrap_or_default();
        if state == RolloutState::Succeeded {
            tracing::info!(build.id = %last.build_id, target = %self.target.name, image = last.image, "rollout {state}: {detail}");
        } else {
            tracing::error!(build.id = %last.build_id, target = %self.target.name, image = last.image, "rollout {state}: {detail}");
        }
        Ok(())
    }
}

fn until(time: DateTime<Utc>) -> Duration {
    (time - Utc::now()).to_std().unwrap_or_default()
}

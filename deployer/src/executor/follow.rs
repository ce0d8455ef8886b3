//! Following a rollout, or its way back, to its end.

use std::time::Duration;

use bus::Failure;
use chrono::{DateTime, TimeDelta, Utc};
use events::{Diagnosis, RolloutState};

use super::{Executor, Seen};
use crate::{
    cluster::FIELD_MANAGER,
    diagnosis,
    judge::{Judge, Judgement},
    managers::who_set_image,
    observed::{Observed, Snapshot},
    progress::{Expectation, Phase, observe},
    rollout_log::RolloutLog,
};

/// How often the API server is asked while its watch is broken.
const LOOK_EVERY: TimeDelta = TimeDelta::seconds(2);

/// How something that was followed has ended.
#[derive(Debug)]
pub(super) enum End {
    /// The version, and nothing else, serves; in words.
    Complete(String),
    /// It will not.
    Failed(Diagnosis),
    /// Somebody set another image.
    Replaced(Diagnosis),
}

/// What one look at the API server gave.
pub(super) enum Look {
    Waiting(DateTime<Utc>),
    Ended(End, Seen),
}

impl Executor {
    /// Follows the rollout until its pods serve, and goes on to what is asked of them then.
    pub(super) async fn watch(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        let mut judge = self.judge(log);
        match self.follow(log, &mut judge).await? {
            (End::Complete(detail), _) if self.target.smoke.is_some() => {
                gate(log, RolloutState::SmokeTesting, detail).await
            }
            (End::Complete(detail), _) if self.target.argocd.is_some() => {
                gate(log, RolloutState::AwaitingArgocd, detail).await
            }
            (end, seen) => self.end(log, end, seen).await,
        }
    }

    /// Tells the verdict that an end leads to.
    pub(super) async fn end(
        &self,
        log: &mut RolloutLog,
        end: End,
        seen: Seen,
    ) -> Result<(), Failure> {
        match end {
            End::Complete(detail) => {
                self.conclude(log, RolloutState::Succeeded, detail, None, seen).await
            }
            End::Failed(diagnosis) => self.fail(log, diagnosis, seen).await,
            End::Replaced(diagnosis) => {
                let detail = diagnosis.summary.clone();
                self.conclude(log, RolloutState::Reverted, detail, Some(diagnosis), seen).await
            }
        }
    }

    /// Whatever is asked of the new version has been answered: the last word is the API server's. If its pods no longer
    /// serve, the rollout goes on.
    pub(super) async fn confirm(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        let mut judge = self.judge(log);
        match self.look(&mut judge).await? {
            Look::Ended(end, seen) => self.end(log, end, seen).await,
            Look::Waiting(_) => {
                let detail = "not all pods serve any more".to_owned();
                log.advance(RolloutState::Progressing, |change| change.detail = Some(detail)).await
            }
        }
    }

    /// Resolves once the watch says that the image is no longer ours, and the API server says so too; with the end then.
    pub(super) async fn lost(&self, log: &RolloutLog) -> Result<(End, Seen), Failure> {
        let mut judge = self.judge(log);
        let mut changes = self.cluster.changes(&self.target);
        loop {
            changes.borrow_and_update();
            let phase = observe(&self.cluster.snapshot(&self.target), &judge.expected).phase;
            let lost = matches!(phase, Phase::Replaced { .. } | Phase::NoContainer | Phase::Gone);
            if lost
                && let Look::Ended(end @ (End::Failed(_) | End::Replaced(_)), seen) =
                    self.look(&mut judge).await?
            {
                return Ok((end, seen));
            }
            if changes.changed().await.is_err() {
                return Err(Failure::Interrupted);
            }
        }
    }

    fn judge(&self, log: &RolloutLog) -> Judge {
        let last = log.last();
        let expected = Expectation {
            container: self.target.container.clone(),
            image: last.image.clone(),
            generation: last.generation.unwrap_or(0),
            since: last.set_at,
        };
        let deadline = last.deadline_at.unwrap_or_else(Utc::now);
        Judge::new(expected, deadline, self.target.failure_grace, last.trouble_since)
    }

    /// Follows to the end.
    pub(super) async fn follow(
        &self,
        log: &mut RolloutLog,
        judge: &mut Judge,
    ) -> Result<(End, Seen), Failure> {
        let mut changes = self.cluster.changes(&self.target);
        loop {
            changes.borrow_and_update();
            let snapshot = self.cluster.snapshot(&self.target);
            let until = match judge.judge(&snapshot, Utc::now()) {
                Judgement::Waiting { .. } if snapshot.stale => match self.look(judge).await {
                    Ok(Look::Ended(end, seen)) => return Ok((end, seen)),
                    Ok(Look::Waiting(until)) => until.min(Utc::now() + LOOK_EVERY),
                    // It may be the API server that is away. The watch tells when it is back.
                    Err(Failure::Unavailable(_)) => Utc::now() + LOOK_EVERY,
                    Err(failure) => return Err(failure),
                },
                Judgement::Waiting { until, trouble, .. } => {
                    let wrong =
                        trouble.map(|(trouble, _)| diagnosis::of_trouble(&trouble, &snapshot));
                    self.note_progress(log, judge, &snapshot, wrong).await?;
                    until
                }
                // What a watch has may be old: the last word is the API server's.
                _ => match self.look(judge).await? {
                    Look::Ended(end, seen) => {
                        if matches!(end, End::Complete(_)) {
                            self.note_progress(
                                log,
                                judge,
                                &self.cluster.snapshot(&self.target),
                                None,
                            )
                            .await?;
                        }
                        return Ok((end, seen));
                    }
                    Look::Waiting(until) => until,
                },
            };
            tokio::select! {
                heard = changes.changed() => if heard.is_err() { return Err(Failure::Interrupted) },
                () = self.shutdown.begun() => return Err(Failure::Interrupted),
                () = tokio::time::sleep(time_until(until)) => {}
            }
        }
    }

    /// Judges what the API server itself has now: the Deployment, and before it is given up, its pods too. What a watch has of
    /// them is old if this process was stopped for a while.
    async fn look(&self, judge: &mut Judge) -> Result<Look, Failure> {
        let mut seen = Seen::now();
        let deployment = match self.insist(|| self.cluster.get(&self.target)).await? {
            Ok(deployment) => deployment,
            Err(diagnosis) => return Ok(Look::Ended(End::Failed(diagnosis), Seen::now())),
        };
        let mut snapshot = self.cluster.snapshot(&self.target).with(deployment);
        let mut judgement = judge.judge(&snapshot, Utc::now());
        if matches!(judgement, Judgement::Failed(_)) {
            seen = Seen::now();
            snapshot = match self.insist(|| self.cluster.look(&self.target)).await? {
                Ok(snapshot) => snapshot,
                Err(diagnosis) => return Ok(Look::Ended(End::Failed(diagnosis), Seen::now())),
            };
            judgement = judge.judge(&snapshot, Utc::now());
        }
        let end = match judgement {
            Judgement::Waiting { until, .. } => return Ok(Look::Waiting(until)),
            Judgement::Complete => End::Complete(served(&snapshot)),
            Judgement::Failed(failed) => {
                let diagnosis = diagnosis::of_failure(&failed, &snapshot, &self.target);
                End::Failed(self.with_log(diagnosis, failed.trouble()).await)
            }
            Judgement::Replaced { image } => {
                let container = &self.target.container;
                let by = match &snapshot.deployment {
                    Observed::Found(deployment) => {
                        who_set_image(deployment, container, FIELD_MANAGER)
                    }
                    Observed::Missing | Observed::Unknown => None,
                };
                End::Replaced(diagnosis::replaced(&image, by.as_deref(), &self.target))
            }
        };
        Ok(Look::Ended(end, seen))
    }

    /// Tells new counts of pods, and what is wrong or no longer is.
    async fn note_progress(
        &self,
        log: &mut RolloutLog,
        judge: &Judge,
        snapshot: &Snapshot,
        wrong: Option<Diagnosis>,
    ) -> Result<(), Failure> {
        let last = log.last();
        // The way back has its own counts; those that are told belong to the rollout.
        if last.state != RolloutState::Progressing {
            return Ok(());
        }
        let counts = observe(snapshot, &judge.expected).progress.or(last.progress);
        let since = judge.trouble_since();
        let cause = |diagnosis: &Option<Diagnosis>| {
            diagnosis.as_ref().map(|diagnosis| diagnosis.cause.clone())
        };
        // Between two crashes nothing is wrong for a moment, which is no news.
        let wrong = if since.is_some() { wrong.or_else(|| last.diagnosis.clone()) } else { None };
        if counts == last.progress
            && cause(&wrong) == cause(&last.diagnosis)
            && since == last.trouble_since
        {
            return Ok(());
        }
        log.advance(RolloutState::Progressing, |change| {
            change.progress = counts;
            change.trouble_since = since;
            change.detail = wrong.as_ref().map(|diagnosis| diagnosis.summary.clone());
            change.diagnosis = wrong;
        })
        .await
    }
}

/// The pods serve: nothing is wrong any more, and something is asked of them.
async fn gate(log: &mut RolloutLog, state: RolloutState, detail: String) -> Result<(), Failure> {
    log.advance(state, |change| {
        change.detail = Some(detail);
        change.diagnosis = None;
        change.trouble_since = None;
    })
    .await
}

fn served(snapshot: &Snapshot) -> String {
    let Observed::Found(deployment) = &snapshot.deployment else { return String::new() };
    match deployment.status.as_ref().and_then(|status| status.updated_replicas).unwrap_or(0) {
        0 => "the Deployment is scaled to 0: no pod runs, none is wrong".to_owned(),
        1 => "the pod has the new version and is available".to_owned(),
        n => format!("all {n} pods have the new version and are available"),
    }
}

fn time_until(time: DateTime<Utc>) -> Duration {
    (time - Utc::now()).to_std().unwrap_or_default()
}

//! The way back of a rollout that failed.

use bus::Failure;
use chrono::Utc;
use events::{Diagnosis, Rollback, RolloutChanged, RolloutState};

use super::{
    Executor, PAUSE, Seen,
    commit::Wanted,
    follow::End,
    set::{Written, without_managers},
};
use crate::{
    cluster::{FIELD_MANAGER, written_at},
    diagnosis,
    judge::Judge,
    managers::who_set_image,
    progress::{Expectation, same_image},
    rollout_log::RolloutLog,
    targets::{Argocd, Gitops},
};

impl Executor {
    /// Notes that it failed, and what it goes back to.
    pub(super) async fn begin_rollback(
        &self,
        log: &mut RolloutLog,
        diagnosis: Diagnosis,
        image: String,
    ) -> Result<(), Failure> {
        tracing::warn!(
            build.id = %log.last().build_id, target = %self.target.name, image = log.last().image,
            "rolling back to {image}: {}", diagnosis.summary
        );
        log.advance(RolloutState::RollingBack, |change| {
            change.detail = Some(format!("{}; going back to {image}", diagnosis.summary));
            change.diagnosis = Some(diagnosis);
            change.trouble_since = None;
            change.rollback = Some(Rollback {
                image,
                deadline_at: self.deadline(),
                generation: None,
                set_at: None,
                diagnosis: None,
            });
        })
        .await
    }

    /// Sets the image before it, only if the image is still ours, and watches that like a rollout.
    pub(super) async fn roll_back(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        let Some(mut back) = log.last().rollback.clone() else {
            let diagnosis = log.last().diagnosis.clone();
            let detail = "it is not known what to go back to".to_owned();
            return self.conclude(log, RolloutState::Failed, detail, diagnosis, Seen::now()).await;
        };
        if back.generation.is_none() {
            match self.set_back(log, &back).await? {
                Ok((generation, set_at)) => (back.generation, back.set_at) = (generation, set_at),
                Err(diagnosis) => {
                    return self.not_rolled_back(log, back, diagnosis, Seen::now()).await;
                }
            }
            let noted = back.clone();
            log.advance(RolloutState::RollingBack, |change| {
                change.detail = Some(format!("the image is {} again", noted.image));
                change.rollback = Some(noted);
            })
            .await?;
        }
        let expected = Expectation {
            container: self.target.container.clone(),
            image: back.image.clone(),
            generation: back.generation.unwrap_or(0),
            since: back.set_at,
        };
        let mut judge = Judge::new(expected, back.deadline_at, self.target.failure_grace, None);
        match self.follow(log, &mut judge).await? {
            (End::Complete(_), seen) => {
                let diagnosis = log.last().diagnosis.clone();
                let why = diagnosis
                    .as_ref()
                    .map(|diagnosis| diagnosis.summary.as_str())
                    .unwrap_or_default();
                let detail = format!("{why}; {} serves again", back.image);
                self.conclude(log, RolloutState::RolledBack, detail, diagnosis, seen).await
            }
            (End::Failed(diagnosis) | End::Replaced(diagnosis), seen) => {
                self.not_rolled_back(log, back, diagnosis, seen).await
            }
        }
    }

    /// The verdict of a rollout whose way back failed too.
    async fn not_rolled_back(
        &self,
        log: &mut RolloutLog,
        mut back: Rollback,
        why: Diagnosis,
        seen: Seen,
    ) -> Result<(), Failure> {
        seen.check()?;
        let first = log
            .last()
            .diagnosis
            .as_ref()
            .map(|diagnosis| diagnosis.summary.clone())
            .unwrap_or_default();
        let detail =
            format!("{first}; and it could not be rolled back to {}: {}", back.image, why.summary);
        back.diagnosis = Some(why);
        log.advance(RolloutState::Failed, |change| {
            change.reason = Some(detail.clone());
            change.detail = Some(detail);
            change.rollback = Some(back);
        })
        .await
    }

    /// Commits the tag before ours, and waits until `ArgoCD` has set it.
    async fn commit_back(
        &self,
        last: &RolloutChanged,
        back: &Rollback,
        gitops: &Gitops,
        argocd: &Argocd,
    ) -> Result<Result<Written, Diagnosis>, Failure> {
        let wanted = Wanted {
            image: &back.image,
            title: format!(
                "Take {} back to {}, since {} failed",
                self.target.name, back.image, last.image
            ),
            trailer: format!("Rollback: {}.{}", self.target.name, last.build_id),
            instead_of: Some(&last.image),
        };
        let applied = match self.commit(gitops, &wanted, back.deadline_at).await? {
            Ok(revision) => {
                self.await_applied(gitops, argocd, &back.image, &revision, back.deadline_at).await?
            }
            Err(end) => Err(end),
        };
        Ok(applied.map_err(|end| match end {
            End::Failed(diagnosis) | End::Replaced(diagnosis) => diagnosis,
            // Nothing of the two ends so.
            End::Complete(detail) => diagnosis::simple("Complete", detail),
        }))
    }

    /// Sets the image before ours. The generation that has it then, and when it was written.
    async fn set_back(
        &self,
        log: &RolloutLog,
        back: &Rollback,
    ) -> Result<Result<Written, Diagnosis>, Failure> {
        let last = log.last();
        if let (Some(gitops), Some(argocd)) = (&self.target.gitops, &self.target.argocd) {
            return self.commit_back(last, back, gitops, argocd).await;
        }
        let because = format!(
            "{}, back from {} which failed (build {})",
            back.image, last.image, last.build_id
        );
        loop {
            let (read, current) = match self.read_target().await? {
                Ok(found) => found,
                Err(diagnosis) => return Ok(Err(diagnosis)),
            };
            if same_image(&current, &back.image) {
                return Ok(Ok((read.metadata.generation, written_at(&read))));
            }
            if !same_image(&current, &last.image) {
                let by = who_set_image(&read, &self.target.container, FIELD_MANAGER);
                return Ok(Err(diagnosis::replaced(&current, by.as_deref(), &self.target)));
            }
            let (read, _) = without_managers(read);
            match self.write_image(&read, &back.image, &because).await? {
                Ok(Some(written)) => {
                    tracing::info!(target = %self.target.name, image = back.image, "image set back");
                    return Ok(Ok(written));
                }
                Ok(None) if back.deadline_at <= Utc::now() => {
                    let summary = "the image could not be set back in time: others kept changing the Deployment";
                    return Ok(Err(diagnosis::simple("DeadlineExceeded", summary)));
                }
                Ok(None) => self.pause(PAUSE).await?,
                Err(diagnosis) => return Ok(Err(diagnosis)),
            }
        }
    }
}

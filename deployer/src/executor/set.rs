//! Setting the image.

use std::sync::Arc;

use bus::Failure;
use chrono::{DateTime, TimeDelta, Utc};
use events::{Diagnosis, RolloutState};
use k8s_openapi::api::apps::v1::Deployment;

use super::{Executor, PAUSE, Seen};
use crate::{
    cluster::{PatchError, RequestError, written_at},
    diagnosis,
    progress::{image_of, same_image},
    rollout_log::RolloutLog,
};

/// A Deployment's generation, and when it was written.
pub(super) type Written = (Option<i64>, Option<DateTime<Utc>>);

impl Executor {
    /// Sets the image, unless it is set already.
    pub(super) async fn set_image(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        if let Some(argocd) = &self.target.argocd
            && log.last().state == RolloutState::Accepted
        {
            let found = self
                .insist(|| self.cluster.has_application(&argocd.namespace, &argocd.application))
                .await?;
            let missing = format!("there is none of that name in namespace {}", argocd.namespace);
            match found {
                Ok(true) => {}
                Ok(false) => {
                    let diagnosis = diagnosis::argocd_disagrees(
                        "ApplicationNotFound",
                        &argocd.application,
                        &missing,
                    );
                    return self.fail(log, diagnosis, Seen::now()).await;
                }
                Err(diagnosis) => return self.fail(log, diagnosis, Seen::now()).await,
            }
        }
        if let (Some(gitops), Some(argocd)) = (&self.target.gitops, &self.target.argocd) {
            return self.set_by_commit(log, gitops, argocd).await;
        }
        loop {
            let (read, current) = match self.read_target().await? {
                Ok(found) => found,
                Err(diagnosis) => return self.fail(log, diagnosis, Seen::now()).await,
            };
            let (read, written) = without_managers(read);
            self.note_patching(log, &current).await?;
            let image = log.last().image.clone();
            if same_image(&current, &image) {
                // It stood there before, or we set it and were interrupted before we could say so.
                let stood = log
                    .last()
                    .previous_image
                    .as_deref()
                    .is_some_and(|before| same_image(before, &image));
                let set_at = (!stood).then(|| written.unwrap_or_else(Utc::now));
                let detail =
                    if stood { "the image stands there already" } else { "the image is set" };
                return note_progressing(log, read.metadata.generation, set_at, detail).await;
            }
            let because = format!("{image} (build {})", log.last().build_id);
            match self.write_image(&read, &image, &because).await? {
                Ok(Some((generation, written))) => {
                    tracing::info!(target = %self.target.name, image, "image set");
                    let set_at = written.unwrap_or_else(Utc::now);
                    return note_progressing(log, generation, Some(set_at), "the image is set")
                        .await;
                }
                Ok(None)
                    if log.last().deadline_at.is_some_and(|deadline| deadline <= Utc::now()) =>
                {
                    let deadline = humantime::format_duration(self.target.deadline);
                    let summary = format!(
                        "the image could not be set within {deadline}: others kept changing the Deployment"
                    );
                    return self
                        .fail(log, diagnosis::simple("DeadlineExceeded", summary), Seen::now())
                        .await;
                }
                Ok(None) => self.pause(PAUSE).await?,
                Err(diagnosis) => return self.fail(log, diagnosis, Seen::now()).await,
            }
        }
    }

    /// The Deployment as the API server has it, and the image of the target's container; or what is missing.
    pub(super) async fn read_target(
        &self,
    ) -> Result<Result<(Arc<Deployment>, String), Diagnosis>, Failure> {
        let read = match self.insist(|| self.cluster.get(&self.target)).await? {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(Err(diagnosis::no_deployment(&self.target))),
            Err(diagnosis) => return Ok(Err(diagnosis)),
        };
        let image = image_of(&read, &self.target.container).map(str::to_owned);
        Ok(image.map(|image| (read, image)).ok_or_else(|| diagnosis::no_container(&self.target)))
    }

    /// Writes an image to the Deployment that was read; its generation then, and when that was. None if it is another one by
    /// now; a diagnosis if it is refused.
    pub(super) async fn write_image(
        &self,
        read: &Deployment,
        image: &str,
        because: &str,
    ) -> Result<Result<Option<Written>, Diagnosis>, Failure> {
        self.insist(|| async {
            match self.cluster.set_image(&self.target, read, image, because).await {
                Ok(written) => Ok(Some((written.metadata.generation, written_at(&written)))),
                Err(PatchError::Conflict) => Ok(None),
                // A test that fails is answered like a value that is refused. Reading again tells which.
                Err(PatchError::Request(RequestError::Refused { code: 422, reason, message })) => {
                    let again = self.cluster.get(&self.target).await?;
                    if again
                        .is_some_and(|again| again.metadata.generation == read.metadata.generation)
                    {
                        Err(RequestError::Refused { code: 422, reason, message })
                    } else {
                        Ok(None)
                    }
                }
                Err(PatchError::Request(error)) => Err(error),
            }
        })
        .await
    }

    /// Before the image is set: what stood there, and until when the rollout may take.
    pub(super) async fn note_patching(
        &self,
        log: &mut RolloutLog,
        current: &str,
    ) -> Result<(), Failure> {
        let last = log.last();
        let ours = same_image(current, &last.image);
        // Interrupted after the write, the image before it is in the log and no longer in the cluster.
        if last.state == RolloutState::Patching
            && (ours || last.previous_image.as_deref() == Some(current))
        {
            return Ok(());
        }
        log.advance(RolloutState::Patching, |change| {
            change.detail = Some(format!("the image is {current}"));
            change.previous_image = Some(current.to_owned());
            change.deadline_at = change.deadline_at.or_else(|| Some(self.deadline()));
        })
        .await
    }

    /// When a rollout that begins now fails.
    pub(super) fn deadline(&self) -> DateTime<Utc> {
        let deadline = TimeDelta::from_std(self.target.deadline).unwrap_or(TimeDelta::MAX);
        Utc::now().checked_add_signed(deadline).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// A Deployment without the word who set which field, which is most of it: hundreds may be held at once until they are
/// written. When we wrote last, if ever.
pub(super) fn without_managers(read: Arc<Deployment>) -> (Deployment, Option<DateTime<Utc>>) {
    let written = written_at(&read);
    let mut read = Arc::unwrap_or_clone(read);
    read.metadata.managed_fields = None;
    (read, written)
}

pub(super) async fn note_progressing(
    log: &mut RolloutLog,
    generation: Option<i64>,
    set_at: Option<DateTime<Utc>>,
    detail: &str,
) -> Result<(), Failure> {
    log.advance(RolloutState::Progressing, |change| {
        change.detail = Some(detail.to_owned());
        change.generation = generation;
        change.set_at = set_at;
    })
    .await
}

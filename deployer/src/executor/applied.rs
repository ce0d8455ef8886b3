//! Waiting for `ArgoCD` to apply a commit.

use std::time::Duration;

use bus::Failure;
use chrono::{DateTime, Utc};
use events::ImageReference;
use tokio::time::{Instant, sleep};

use super::{Executor, follow::End, gates::REFRESH_EVERY, set::Written};
use crate::{
    argocd::{Application, short},
    diagnosis,
    git::GitError,
    kustomization,
    managers::image_set_at,
    progress::{image_of, same_image},
    redact,
    targets::{Argocd, Gitops},
};

/// How long `ArgoCD` may call a commit Synced while the image is another one: its word and the watch of the Deployment come
/// on two ways.
const SETTLES: Duration = Duration::from_secs(3);

impl Executor {
    /// Waits until `ArgoCD` has applied that commit, or one upon it, and the Deployment has the image. Its generation then, and
    /// when the image was set.
    pub(super) async fn await_applied(
        &self,
        gitops: &Gitops,
        argocd: &Argocd,
        image: &str,
        revision: &str,
        until: DateTime<Utc>,
    ) -> Result<Result<Written, End>, Failure> {
        let Argocd { application: name, namespace, timeout } = argocd;
        let disagrees = |cause: &str, told: &str| {
            Ok(Err(End::Failed(diagnosis::argocd_disagrees(cause, name, told))))
        };
        let deadline =
            Instant::now() + (*timeout).min((until - Utc::now()).to_std().unwrap_or_default());
        let mut seen = self.cluster.application(namespace, name);
        let mut changes = self.cluster.changes(&self.target);
        let mut asked: Option<Instant> = None;
        let (mut wrong, mut ignored) = (None, None);
        loop {
            changes.borrow_and_update();
            let application = seen.borrow_and_update().clone();
            let standing = application
                .as_ref()
                .map_or_else(|| "nothing is known of it".to_owned(), Application::standing);
            if application.is_none()
                && matches!(self.cluster.has_application(namespace, name).await, Ok(false))
            {
                return disagrees(
                    "ApplicationNotFound",
                    &format!("there is none of that name in namespace {namespace}"),
                );
            }
            let application = application.unwrap_or_default();
            let applied = self.any_contains(gitops, application.revisions(), revision).await;
            let snapshot = self.cluster.snapshot(&self.target);
            let ours =
                snapshot.image(&self.target.container).is_some_and(|is| same_image(is, image));
            if applied && ours {
                // The last word is the API server's.
                let read = match self.insist(|| self.cluster.get(&self.target)).await? {
                    Ok(Some(read)) => read,
                    Ok(None) => {
                        return Ok(Err(End::Failed(diagnosis::no_deployment(&self.target))));
                    }
                    Err(diagnosis) => return Ok(Err(End::Failed(diagnosis))),
                };
                if image_of(&read, &self.target.container).is_some_and(|is| same_image(is, image)) {
                    return Ok(Ok((
                        read.metadata.generation,
                        image_set_at(&read, &self.target.container),
                    )));
                }
            }
            let failed = application.failed();
            let failed_ours = match failed {
                Some((at, _)) => self.any_contains(gitops, [at].into_iter(), revision).await,
                None => false,
            };
            let trouble = application
                .error()
                .or(failed.filter(|_| failed_ours).map(|(_, told)| ("SyncFailed", told)));
            match trouble {
                Some((cause, told)) if passed(&mut wrong, self.target.failure_grace) => {
                    return disagrees(cause, told);
                }
                Some(_) => {}
                None => wrong = None,
            }
            let synced = application.synced_revision();
            let here = match synced {
                Some(at) if !ours => {
                    self.any_contains(gitops, [at].into_iter(), revision).await.then_some(at)
                }
                _ => None,
            };
            match here {
                Some(at) if passed(&mut ignored, SETTLES) => {
                    let is = snapshot.image(&self.target.container).unwrap_or("another one");
                    return Ok(Err(self.why_ignored(gitops, name, image, at, is).await));
                }
                Some(_) => {}
                None => ignored = None,
            }
            if Instant::now() >= deadline {
                let waited = humantime::format_duration(*timeout);
                let told =
                    format!("after {waited} commit {} is not applied: {standing}", short(revision));
                return disagrees("ApplicationNotSynced", &told);
            }
            if !applied && asked.is_none_or(|asked| asked.elapsed() >= REFRESH_EVERY) {
                asked = Some(Instant::now());
                self.refresh(namespace, name).await;
            }
            tokio::select! {
                _ = seen.changed() => {}
                heard = changes.changed() => if heard.is_err() { return Err(Failure::Interrupted) },
                () = self.shutdown.begun() => return Err(Failure::Interrupted),
                () = sleep(REFRESH_EVERY.min(deadline.saturating_duration_since(Instant::now()))) => {}
            }
        }
    }

    /// Whether one of these commits is ours, or comes after it. Where git cannot tell, it is not believed.
    pub(super) async fn any_contains<'a>(
        &self,
        gitops: &Gitops,
        revisions: impl Iterator<Item = &'a str>,
        commit: &str,
    ) -> bool {
        let Some(repository) = self.git.repository(gitops) else { return false };
        for revision in revisions {
            match repository.contains(revision, commit).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(GitError::Refused(told)) => {
                    tracing::warn!(target = %self.target.name, "{}", redact::message(&told));
                }
                Err(GitError::Unavailable(error)) => {
                    tracing::warn!(target = %self.target.name, "{error:#}");
                }
            }
        }
        false
    }

    /// Why the image is another one, though `ArgoCD` is done with our commit: the commit that it is at has another tag, or it
    /// leaves the image alone.
    async fn why_ignored(
        &self,
        gitops: &Gitops,
        application: &str,
        image: &str,
        at: &str,
        is: &str,
    ) -> End {
        let (wanted, repository) =
            (image.parse::<ImageReference>().ok(), self.git.repository(gitops));
        if let (Some(wanted), Some(repository)) = (wanted, repository) {
            let text = repository.read(at, &gitops.file).await.ok().flatten();
            let tag = text.and_then(|text| kustomization::tag(&text, &self.target.image).ok());
            if let Some(tag) = tag.filter(|tag| wanted.tag() != Some(tag)) {
                return End::Replaced(diagnosis::recommitted(gitops, &tag));
            }
        }
        End::Failed(diagnosis::commit_ignored(application, short(at), is))
    }
}

/// Whether something that is so now has been for that long.
fn passed(since: &mut Option<Instant>, long: Duration) -> bool {
    since.get_or_insert_with(Instant::now).elapsed() >= long
}

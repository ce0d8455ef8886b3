//! The strategy `gitops`: the tag is committed to the branch that `ArgoCD` follows, and `ArgoCD` sets the image.
//!
//! The branch may be anybody's: others push at the same time, take our commit back, or commit another tag upon it. Nothing is
//! ever forced, and what others want is not undone.

use std::time::Duration;

use bus::Failure;
use chrono::{DateTime, Utc};
use events::{Diagnosis, ImageReference};
use tokio::time::Instant;

use super::{Executor, PAUSE, Seen, follow::End, set::note_progressing};
use crate::{
    argocd::short,
    diagnosis,
    git::{GitError, Pushed, Repository},
    kustomization,
    progress::same_image,
    redact,
    rollout_log::RolloutLog,
    targets::{Argocd, Gitops},
};

/// The longest pause before it is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What is to be committed.
pub(super) struct Wanted<'a> {
    /// The image whose tag it is.
    pub(super) image: &'a str,
    /// The first line of the commit's message.
    pub(super) title: String,
    /// The last one, which no other commit has.
    pub(super) trailer: String,
    /// The image whose tag may be replaced; none if any may.
    pub(super) instead_of: Option<&'a str>,
}

/// What became of one try.
enum Try {
    /// The branch has the tag, in this commit.
    Done(String),
    /// Somebody else wants another tag.
    Replaced(Diagnosis),
    /// It cannot be written at all.
    Wrong(Diagnosis),
    /// Others pushed in between.
    Overtaken,
    /// The other side does not want it.
    Rejected(String),
}

impl Executor {
    /// Commits the tag, and waits until `ArgoCD` has set the image.
    pub(super) async fn set_by_commit(
        &self,
        log: &mut RolloutLog,
        gitops: &Gitops,
        argocd: &Argocd,
    ) -> Result<(), Failure> {
        if log.last().revision.is_none() {
            let (_, current) = match self.read_target().await? {
                Ok(found) => found,
                Err(diagnosis) => return self.fail(log, diagnosis, Seen::now()).await,
            };
            self.note_patching(log, &current).await?;
            let last = log.last().clone();
            let wanted = Wanted {
                image: &last.image,
                title: format!("Deploy {} to {}", last.image, self.target.name),
                trailer: format!("Rollout: {}.{}", self.target.name, last.build_id),
                instead_of: None,
            };
            let until = last.deadline_at.unwrap_or_else(|| self.deadline());
            let revision = match self.commit(gitops, &wanted, until).await? {
                Ok(revision) => revision,
                Err(end) => return self.end(log, end, Seen::now()).await,
            };
            let detail = format!("commit {} asks ArgoCD for {}", short(&revision), last.image);
            tracing::info!(target = %self.target.name, image = last.image, revision, "tag committed");
            log.advance(last.state, |change| {
                change.detail = Some(detail);
                change.revision = Some(revision);
            })
            .await?;
        }
        let last = log.last().clone();
        let revision = last.revision.unwrap_or_default();
        let until = last.deadline_at.unwrap_or_else(|| self.deadline());
        match self.await_applied(gitops, argocd, &last.image, &revision, until).await? {
            Ok((generation, set_at)) => {
                let stood = last
                    .previous_image
                    .as_deref()
                    .is_some_and(|before| same_image(before, &last.image));
                let detail = format!("ArgoCD has set the image, by commit {}", short(&revision));
                let set_at = (!stood).then(|| set_at.unwrap_or_else(Utc::now));
                note_progressing(log, generation, set_at, &detail).await
            }
            Err(end) => self.end(log, end, Seen::now()).await,
        }
    }

    /// Commits a tag to the branch, until it is there. The commit that has it.
    pub(super) async fn commit(
        &self,
        gitops: &Gitops,
        wanted: &Wanted<'_>,
        until: DateTime<Utc>,
    ) -> Result<Result<String, End>, Failure> {
        let Some(repository) = self.git.repository(gitops) else {
            let diagnosis =
                diagnosis::not_committed("GitRefused", gitops, "there is no clone of it");
            return Ok(Err(End::Failed(diagnosis)));
        };
        let (mut refused, mut pause) = (None, PAUSE);
        loop {
            let (cause, told) = match try_to_commit(&repository, gitops, wanted).await {
                Ok(Try::Done(revision)) => return Ok(Ok(revision)),
                Ok(Try::Replaced(diagnosis)) => return Ok(Err(End::Replaced(diagnosis))),
                Ok(Try::Wrong(diagnosis)) => return Ok(Err(End::Failed(diagnosis))),
                Ok(Try::Overtaken) => {
                    tracing::info!(target = %self.target.name, "others pushed first; committing again, upon theirs");
                    (refused, pause) = (None, PAUSE);
                    ("GitConflict", "others kept pushing".to_owned())
                }
                Ok(Try::Rejected(told)) | Err(GitError::Refused(told)) => {
                    let since = *refused.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.target.failure_grace {
                        return Ok(Err(End::Failed(diagnosis::not_committed(
                            "GitRefused",
                            gitops,
                            &told,
                        ))));
                    }
                    ("GitRefused", told)
                }
                Err(GitError::Unavailable(error)) => ("GitUnavailable", format!("{error:#}")),
            };
            if cause != "GitConflict" {
                let told = redact::message(&told);
                tracing::warn!(target = %self.target.name, branch = gitops.branch, "the tag is not committed yet: {told}");
            }
            if until <= Utc::now() {
                return Ok(Err(End::Failed(diagnosis::not_committed(cause, gitops, &told))));
            }
            self.pause(pause).await?;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }
}

/// Puts a commit upon the branch as it is now.
async fn try_to_commit(
    repository: &Repository,
    gitops: &Gitops,
    wanted: &Wanted<'_>,
) -> Result<Try, GitError> {
    let wrong =
        |told: &str| Ok(Try::Wrong(diagnosis::not_committed("KustomizationInvalid", gitops, told)));
    let tag_of = |image: &str| {
        image.parse::<ImageReference>().ok().and_then(|image| image.tag().map(str::to_owned))
    };
    let image: Option<ImageReference> =
        wanted.image.parse().ok().filter(|image: &ImageReference| image.digest().is_none());
    let Some((image, tag)) =
        image.and_then(|image| image.tag().map(str::to_owned).map(|tag| (image.clone(), tag)))
    else {
        return wrong(&format!("{} is not an image with a tag and without a digest", wanted.image));
    };
    let _turn = repository.turn().await;
    let head = repository.fetch().await?;
    let Some(text) = repository.read(&head, &gitops.file).await? else {
        return wrong("there is no such file");
    };
    let current = match kustomization::tag(&text, &image) {
        Ok(current) => current,
        Err(told) => return wrong(&told),
    };
    if current == tag {
        // Whoever committed it, perhaps we, before we were interrupted.
        return Ok(Try::Done(head));
    }
    let may_replace =
        wanted.instead_of.is_none_or(|image| tag_of(image).as_deref() == Some(&current));
    if !may_replace || repository.find(&head, &wanted.trailer).await?.is_some() {
        return Ok(Try::Replaced(diagnosis::recommitted(gitops, &current)));
    }
    let changed = match kustomization::with_tag(&text, &image, &tag) {
        Ok(changed) => changed,
        Err(told) => return wrong(&told),
    };
    let message = format!("{}\n\n{}\n", wanted.title, wanted.trailer);
    let commit = repository.commit(&head, &gitops.file, &changed, &message).await?;
    let pushed = repository.push(&commit).await;
    if matches!(pushed, Ok(Pushed::Done)) {
        return Ok(Try::Done(commit));
    }
    // Without an answer nobody knows; and what was refused may only have come too late.
    let now = repository.fetch().await?;
    if repository.find(&now, &wanted.trailer).await?.is_some_and(|found| found == commit) {
        return Ok(Try::Done(commit));
    }
    if now != head {
        return Ok(Try::Overtaken);
    }
    match pushed {
        Ok(Pushed::Rejected(told)) => Ok(Try::Rejected(told)),
        Ok(Pushed::Done) => Ok(Try::Done(commit)),
        Err(error) => Err(error),
    }
}

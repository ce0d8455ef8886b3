//! What is asked once the pods serve: the new version itself, and `ArgoCD`.

use std::time::Duration;

use bus::Failure;
use events::{ImageReference, RolloutState};
use tokio::time::{Instant, sleep};

use super::{Executor, Seen};
use crate::{
    argocd::{Application, Gate, short},
    cluster::RequestError,
    diagnosis,
    rollout_log::RolloutLog,
    targets::Argocd,
};

/// How often `ArgoCD` is asked to look again while its word is older than our write.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(2);

impl Executor {
    /// Asks the new version who it is.
    pub(super) async fn smoke_test(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        let Some(smoke) = &self.target.smoke else { return self.confirm(log).await };
        let image: Option<ImageReference> = log.last().image.parse().ok();
        let version = image.as_ref().and_then(ImageReference::tag).unwrap_or_default().to_owned();
        let tested = tokio::select! {
            tested = self.prober.test(smoke, &version) => tested,
            lost = self.lost(log) => {
                let (end, seen) = lost?;
                return self.end(log, end, seen).await;
            }
            () = self.shutdown.begun() => return Err(Failure::Interrupted),
        };
        match tested {
            Ok(()) if self.target.argocd.is_some() => {
                let detail = format!("the smoke test passed {} times in a row", smoke.successes);
                log.advance(RolloutState::AwaitingArgocd, |change| change.detail = Some(detail))
                    .await
            }
            Ok(()) => self.confirm(log).await,
            Err(told) => {
                self.fail(log, diagnosis::smoke_test_failed(smoke.timeout, &told), Seen::now())
                    .await
            }
        }
    }

    /// Waits until `ArgoCD` agrees.
    pub(super) async fn await_argocd(&self, log: &mut RolloutLog) -> Result<(), Failure> {
        let Some(argocd) = &self.target.argocd else { return self.confirm(log).await };
        let agreed = tokio::select! {
            agreed = self.agreed(log, argocd) => agreed,
            lost = self.lost(log) => {
                let (end, seen) = lost?;
                return self.end(log, end, seen).await;
            }
            () = self.shutdown.begun() => return Err(Failure::Interrupted),
        };
        match agreed {
            Ok(()) => self.confirm(log).await,
            Err((cause, told)) => {
                self.fail(
                    log,
                    diagnosis::argocd_disagrees(cause, &argocd.application, &told),
                    Seen::now(),
                )
                .await
            }
        }
    }

    /// Waits for `ArgoCD`; a cause, and why, if it does not come to agree.
    async fn agreed(
        &self,
        log: &RolloutLog,
        argocd: &Argocd,
    ) -> Result<(), (&'static str, String)> {
        let Argocd { application: name, namespace, timeout } = argocd;
        let last = log.last();
        let since = last.set_at.unwrap_or(last.started_at);
        let deadline = Instant::now() + *timeout;
        let mut seen = self.cluster.application(namespace, name);
        let mut asked: Option<Instant> = None;
        let mut degraded: Option<Instant> = None;
        loop {
            let application = seen.borrow_and_update().clone();
            let gate = match application
                .as_ref()
                .map(|application| application.gate(&last.image, Some(since)))
            {
                Some(Gate::Open) => Some(self.at_commit(log, application.as_ref()).await),
                other => other,
            };
            if !matches!(gate, Some(Gate::Degraded(_))) {
                degraded = None;
            }
            let (cause, told) = match gate {
                Some(Gate::Open) => return Ok(()),
                None => {
                    if matches!(self.cluster.has_application(namespace, name).await, Ok(false)) {
                        return Err((
                            "ApplicationNotFound",
                            format!("there is none of that name in namespace {namespace}"),
                        ));
                    }
                    ("ApplicationNotSynced", "nothing is known of it".to_owned())
                }
                Some(Gate::Stale(why) | Gate::Waiting(why)) => ("ApplicationNotSynced", why),
                Some(Gate::Degraded(why)) => {
                    let since = *degraded.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.target.failure_grace {
                        return Err(("ApplicationDegraded", why));
                    }
                    ("ApplicationDegraded", why)
                }
            };
            if Instant::now() >= deadline {
                return Err((
                    cause,
                    format!("after {} {told}", humantime::format_duration(*timeout)),
                ));
            }
            if asked.is_none_or(|asked| asked.elapsed() >= REFRESH_EVERY) {
                asked = Some(Instant::now());
                self.refresh(namespace, name).await;
            }
            tokio::select! {
                _ = seen.changed() => {}
                () = sleep(REFRESH_EVERY.min(deadline.saturating_duration_since(Instant::now()))) => {}
            }
        }
    }

    /// Where a commit asks for the image, what `ArgoCD` agrees with has to be that commit, or one upon it.
    async fn at_commit(&self, log: &RolloutLog, application: Option<&Application>) -> Gate {
        let (Some(gitops), Some(revision)) = (&self.target.gitops, &log.last().revision) else {
            return Gate::Open;
        };
        let at = application.and_then(Application::synced_revision);
        if self.any_contains(gitops, at.into_iter(), revision).await {
            return Gate::Open;
        }
        Gate::Stale(format!(
            "it is at {}, which is not upon commit {}",
            at.map_or("no commit", short),
            short(revision)
        ))
    }

    /// Asks `ArgoCD` to look. It looks by itself too, only later.
    pub(super) async fn refresh(&self, namespace: &str, name: &str) {
        match self.cluster.refresh_application(namespace, name).await {
            Ok(()) => {}
            Err(RequestError::Refused { message, .. }) => {
                tracing::warn!(target = %self.target.name, "ArgoCD cannot be asked to look at {name}: {message}");
            }
            Err(RequestError::Unavailable(error)) => {
                tracing::warn!(target = %self.target.name, "ArgoCD cannot be asked to look at {name}: {error:#}");
            }
        }
    }
}

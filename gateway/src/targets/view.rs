//! A target as `GET /api/targets` shows it.

use chrono::{DateTime, Utc};
use events::{BuildId, FreezeWindow, Progress, RolloutChanged, RolloutState, TargetName};
use planning::{Open, Standing, open_window};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{decisions, rollouts::Time};

/// A target: what it takes, what runs there, and what is about to.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Target)]
pub(crate) struct TargetView {
    pub(crate) name: TargetName,
    /// The repository whose builds it takes; none if no deployer has told of it yet.
    pub(crate) image: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) container: Option<String>,
    /// The image that the Deployment has, whoever set it.
    pub(crate) running: Option<String>,
    pub(crate) progress: Option<Progress>,
    /// Why nothing is deployed to it now.
    pub(crate) freeze: Option<FreezeView>,
    pub(crate) freeze_windows: Vec<FreezeWindow>,
    pub(crate) last_verdict: Option<VerdictView>,
    /// What has no verdict yet, the oldest first.
    pub(crate) queue: Vec<QueuedView>,
    /// What is not deployed again unless somebody forces it, the newest first.
    pub(crate) quarantine: Vec<QuarantinedView>,
    /// The image that an operator's rollback leads to.
    pub(crate) way_back: Option<String>,
}

/// A freeze that holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Freeze)]
pub(crate) struct FreezeView {
    /// Who decided it; none for a window of `TARGETS_FILE`.
    pub(crate) by: Option<String>,
    pub(crate) reason: String,
    /// When it ends; none if somebody has to end it.
    pub(crate) until: Option<Time>,
}

/// How the last rollout that began has ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(crate) struct VerdictView {
    pub(crate) build_id: BuildId,
    pub(crate) state: RolloutState,
    pub(crate) image: String,
    pub(crate) at: Time,
    pub(crate) reason: Option<String>,
}

/// A rollout that waits or is under way.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Queued)]
pub(crate) struct QueuedView {
    pub(crate) build_id: BuildId,
    pub(crate) state: RolloutState,
    pub(crate) image: String,
}

/// A version that failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Quarantined)]
pub(crate) struct QuarantinedView {
    pub(crate) image: String,
    /// The build that it failed with.
    pub(crate) build_id: BuildId,
}

impl TargetView {
    /// The view of a target. Pure.
    pub(crate) fn of(
        name: &TargetName,
        standing: &Standing,
        verdict: Option<&RolloutChanged>,
        now: DateTime<Utc>,
    ) -> Self {
        let state = standing.state.clone();
        let freeze = FreezeView::of(standing, now);
        let rollouts = &standing.rollouts;
        let queued = |(build_id, open): (BuildId, &Open)| QueuedView {
            build_id,
            state: open.state,
            image: open.image.clone(),
        };
        let quarantined = |(image, build_id): (&str, BuildId)| QuarantinedView {
            image: image.to_owned(),
            build_id,
        };
        Self {
            name: name.clone(),
            image: state.as_ref().map(|state| state.image.clone()),
            namespace: state.as_ref().map(|state| state.namespace.clone()),
            deployment: state.as_ref().map(|state| state.deployment.clone()),
            container: state.as_ref().map(|state| state.container.clone()),
            running: state.as_ref().and_then(|state| state.running.clone()),
            progress: state.as_ref().and_then(|state| state.progress),
            freeze,
            freeze_windows: state.map(|state| state.freeze_windows).unwrap_or_default(),
            last_verdict: verdict.map(VerdictView::of),
            queue: rollouts.open().map(queued).collect(),
            quarantine: rollouts.quarantined().map(quarantined).collect(),
            way_back: decisions::way_back(standing),
        }
    }
}

impl FreezeView {
    /// Why nothing is deployed to a target now, if so.
    pub(crate) fn of(standing: &Standing, now: DateTime<Utc>) -> Option<Self> {
        if let Some(freeze) = standing.frozen(now) {
            let (by, reason) = (Some(freeze.by.clone()), freeze.reason.clone());
            return Some(Self { by, reason, until: freeze.until.map(Time) });
        }
        let open = open_window(&standing.state.as_ref()?.freeze_windows, now)?;
        Some(Self {
            by: None,
            reason: "a freeze window of each week".to_owned(),
            until: Some(Time(open.until)),
        })
    }
}

impl VerdictView {
    fn of(change: &RolloutChanged) -> Self {
        Self {
            build_id: change.build_id,
            state: change.state,
            image: change.image.clone(),
            at: Time(change.at),
            reason: change.reason.clone(),
        }
    }
}

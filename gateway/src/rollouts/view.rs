//! A build as `GET /api/builds/{id}` shows it.

use chrono::{DateTime, SecondsFormat, Utc};
use events::{
    BuildFinished, BuildId, Diagnosis, Forced, Progress, Rollback, RolloutChanged, RolloutState,
    TargetName,
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::model::{BuildState, Overall, Rollout, Transition};

/// A build and its rollouts.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Build)]
pub(crate) struct BuildView {
    id: Option<BuildId>,
    build: Option<PostedBuild>,
    received_at: Option<Time>,
    /// The trace of the request that posted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// Who wanted it deployed in spite of what spoke against it, or wanted it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    forced: Option<ForcedView>,
    state: Overall,
    terminal: bool,
    rollouts: Vec<RolloutView>,
}

/// A build as CI posted it.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct PostedBuild {
    job: String,
    number: u64,
    #[schema(value_type = events::BuildStatus)]
    status: &'static str,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// A person's decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Forced)]
struct ForcedView {
    by: String,
    reason: String,
    rollback: bool,
}

impl ForcedView {
    fn of(forced: &Forced) -> Self {
        Self { by: forced.by.clone(), reason: forced.reason.clone(), rollback: forced.rollback }
    }
}

/// What became of a build on a target.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Rollout)]
struct RolloutView {
    target: Option<TargetName>,
    state: RolloutState,
    image: String,
    previous_image: Option<String>,
    reason: Option<String>,
    started_at: Time,
    finished_at: Option<Time>,
    progress: Option<Progress>,
    diagnosis: Option<Diagnosis>,
    rollback: Option<RollbackView>,
    transitions: Vec<TransitionView>,
}

/// The way back of a rollout that failed; the diagnosis is there if that failed too.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Rollback)]
struct RollbackView {
    image: String,
    diagnosis: Option<Diagnosis>,
}

/// A change of state.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Transition)]
struct TransitionView {
    state: RolloutState,
    at: Time,
    detail: Option<String>,
}

/// A time, as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(crate) struct Time(pub(crate) DateTime<Utc>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl BuildView {
    /// The view of a state.
    pub(crate) fn of(state: &BuildState) -> Self {
        Self {
            id: state.id(),
            build: state.build.as_ref().map(PostedBuild::of),
            received_at: state.build.as_ref().map(|build| Time(build.received_at)),
            trace_id: state.build.as_ref().and_then(|build| build.trace_id.clone()),
            forced: state
                .build
                .as_ref()
                .and_then(|build| build.forced.as_ref())
                .map(ForcedView::of),
            state: state.overall(),
            terminal: state.is_terminal(),
            rollouts: state.rollouts.values().map(RolloutView::of).collect(),
        }
    }
}

impl PostedBuild {
    fn of(build: &BuildFinished) -> Self {
        Self {
            job: build.job.to_string(),
            number: build.number,
            status: build.status.as_str(),
            image: build.image.clone(),
            digest: build.digest.as_ref().map(ToString::to_string),
            commit: build.commit.clone(),
            branch: build.branch.clone(),
            url: build.url.clone(),
        }
    }
}

impl RolloutView {
    fn of(rollout: &Rollout) -> Self {
        let last = rollout.last.clone();
        Self {
            target: last.target,
            state: last.state,
            image: last.image,
            previous_image: last.previous_image,
            reason: last.reason,
            started_at: Time(last.started_at),
            finished_at: last.state.is_terminal().then_some(Time(last.at)),
            progress: last.progress,
            diagnosis: last.diagnosis,
            rollback: last.rollback.map(RollbackView::of),
            transitions: rollout.transitions.iter().map(TransitionView::of).collect(),
        }
    }
}

/// A change of a rollout, as `GET /api/rollouts/events` tells it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeView {
    build_id: BuildId,
    target: Option<TargetName>,
    state: RolloutState,
    at: Time,
    detail: Option<String>,
    image: String,
    previous_image: Option<String>,
    reason: Option<String>,
    progress: Option<Progress>,
    diagnosis: Option<Diagnosis>,
    rollback: Option<RollbackView>,
}

impl ChangeView {
    /// The view of a change.
    pub(crate) fn of(change: &RolloutChanged) -> Self {
        let change = change.clone();
        Self {
            build_id: change.build_id,
            target: change.target,
            state: change.state,
            at: Time(change.at),
            detail: change.detail,
            image: change.image,
            previous_image: change.previous_image,
            reason: change.reason,
            progress: change.progress,
            diagnosis: change.diagnosis,
            rollback: change.rollback.map(RollbackView::of),
        }
    }
}

impl RollbackView {
    fn of(back: Rollback) -> Self {
        Self { image: back.image, diagnosis: back.diagnosis }
    }
}

impl TransitionView {
    fn of(transition: &Transition) -> Self {
        Self { state: transition.state, at: Time(transition.at), detail: transition.detail.clone() }
    }
}

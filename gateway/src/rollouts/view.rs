//! A build as `GET /api/builds/{id}` shows it.

use chrono::{DateTime, SecondsFormat, Utc};
use events::{BuildFinished, BuildId, Diagnosis, Progress, RolloutState, TargetName};
use serde::{Serialize, Serializer};

use super::model::{BuildState, Overall, Rollout, Transition};

/// A build and its rollouts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BuildView {
    id: Option<BuildId>,
    build: Option<PostedBuild>,
    received_at: Option<Time>,
    state: Overall,
    terminal: bool,
    rollouts: Vec<RolloutView>,
}

/// A build as CI posted it.
#[derive(Clone, Debug, Serialize)]
struct PostedBuild {
    job: String,
    number: u64,
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

#[derive(Clone, Debug, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
struct RollbackView {
    image: String,
    diagnosis: Option<Diagnosis>,
}

#[derive(Clone, Debug, Serialize)]
struct TransitionView {
    state: RolloutState,
    at: Time,
    detail: Option<String>,
}

/// A time, as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug)]
struct Time(DateTime<Utc>);

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
            rollback: last.rollback.map(|back| RollbackView { image: back.image, diagnosis: back.diagnosis }),
            transitions: rollout.transitions.iter().map(TransitionView::of).collect(),
        }
    }
}

impl TransitionView {
    fn of(transition: &Transition) -> Self {
        Self { state: transition.state, at: Time(transition.at), detail: transition.detail.clone() }
    }
}

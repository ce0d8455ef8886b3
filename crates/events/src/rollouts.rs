//! What became of a build on a target: the log from which every question about a rollout is answered.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BuildFinished, BuildId, Event, ROLLOUTS, Stream, TargetName, V1};

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The planner takes it; it waits for its turn.
    Accepted,
    /// The planner does not take it. Terminal.
    Rejected,
    /// A newer build took its place before it began. Terminal.
    Superseded,
    /// The image is being set.
    Patching,
    /// The image is set, and Kubernetes replaces the pods.
    Progressing,
    /// The new version is asked who it is.
    SmokeTesting,
    /// `ArgoCD` has yet to agree.
    AwaitingArgocd,
    /// It failed, and the image before it is being set again.
    RollingBack,
    /// Verdict: the new version serves.
    Succeeded,
    /// Verdict: it does not.
    Failed,
    /// Verdict: it failed, and the version before it serves again.
    RolledBack,
    /// Verdict: somebody else undid it.
    Reverted,
}

impl RolloutState {
    /// Whether nothing comes after it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Rejected | Self::Superseded) || self.is_verdict()
    }

    /// Whether it tells how a rollout that began has ended.
    pub fn is_verdict(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::RolledBack | Self::Reverted)
    }

    /// Whether this state may follow another one of the same rollout. Nothing follows a terminal state.
    pub fn may_follow(self, before: Self) -> bool {
        match before {
            before if before.is_terminal() => false,
            Self::Accepted => !matches!(self, Self::Accepted | Self::RolledBack),
            Self::RollingBack => {
                matches!(self, Self::RollingBack | Self::RolledBack | Self::Failed | Self::Reverted)
            }
            _ => !matches!(
                self,
                Self::Accepted | Self::Rejected | Self::Superseded | Self::RolledBack
            ),
        }
    }

    /// The word on the wire and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Patching => "patching",
            Self::Progressing => "progressing",
            Self::SmokeTesting => "smoke_testing",
            Self::AwaitingArgocd => "awaiting_argocd",
            Self::RollingBack => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Reverted => "reverted",
        }
    }
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts of pods, as the Deployment's status has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// How many there shall be.
    pub desired: i32,
    /// How many have the new template.
    pub updated: i32,
    /// How many are ready, of either template.
    pub ready: i32,
    /// How many have been ready for `minReadySeconds`, of either template.
    pub available: i32,
}

/// Why a rollout failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// One word, Kubernetes' own where there is one: `ImagePullBackOff`, `DeadlineExceeded`.
    pub cause: String,
    /// One sentence for people.
    pub summary: String,
    /// The pods that show it.
    #[serde(default)]
    pub pods: Vec<PodDiagnosis>,
    /// What Kubernetes' events say of it.
    #[serde(default)]
    pub events: Vec<String>,
}

/// What one container of a pod shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodDiagnosis {
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// Kubernetes' reason.
    pub reason: String,
    /// Kubernetes' message.
    pub message: String,
    /// How the container last ended, if it did.
    pub exit_code: Option<i32>,
    /// How often it was started again.
    pub restarts: i32,
    /// Its last lines, oldest first.
    #[serde(default)]
    pub log_tail: Vec<String>,
}

/// The way back of a rollout that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The image to go back to.
    pub image: String,
    /// When the way back fails if it is not done by then.
    pub deadline_at: DateTime<Utc>,
    /// The Deployment's generation that our write made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When that write was made, by the API server's clock, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<DateTime<Utc>>,
    /// Why the way back failed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// A rollout changed. Subject `rollout.<target>.<build id>`.
///
/// Each carries all that is known, so the last one alone tells where the rollout stands, and is enough to go on after a
/// crash. One writer at a time: a change is stored only if its writer has seen the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutChanged {
    /// The payload's version.
    pub v: V1,
    /// The build.
    pub build_id: BuildId,
    /// The target; none if no target takes the build.
    pub target: Option<TargetName>,
    /// Counts the changes of one rollout, from 0.
    pub step: u32,
    /// Where it stands now.
    pub state: RolloutState,
    /// Since when.
    pub at: DateTime<Utc>,
    /// What happened, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it ended so, where it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The image to deploy.
    pub image: String,
    /// The image that stood there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_image: Option<String>,
    /// When the planner judged it.
    pub started_at: DateTime<Utc>,
    /// When it fails if it is not done by then. Set once, when the image is about to be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<DateTime<Utc>>,
    /// The commit that asks `ArgoCD` for the image, where it is set so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The Deployment's generation that our write made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When our write was made, by the API server's clock, to the second; none if the image stood there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<DateTime<Utc>>,
    /// Counts of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Since when something is wrong that may pass by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<DateTime<Utc>>,
    /// Why it failed; while it is under way, what is wrong so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The way back, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// The build, with the planner's change only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildFinished>,
    /// How many rollouts the planner made of the build, with its change only: the build is not done before all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<u32>,
}

impl RolloutChanged {
    /// The first change of a rollout, in a state that a planner may give it.
    pub fn first(
        build_id: BuildId,
        target: Option<TargetName>,
        state: RolloutState,
        image: String,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            v: V1,
            build_id,
            target,
            step: 0,
            state,
            at,
            detail: None,
            reason: None,
            image,
            previous_image: None,
            started_at: at,
            deadline_at: None,
            revision: None,
            generation: None,
            set_at: None,
            progress: None,
            trouble_since: None,
            diagnosis: None,
            rollback: None,
            build: None,
            planned: None,
        }
    }

    /// The subject of one rollout. A build that no target takes has the token `_` in the target's place.
    pub fn subject_of(target: Option<&TargetName>, build_id: BuildId) -> String {
        format!("rollout.{}.{build_id}", target.map_or("_", TargetName::as_str))
    }

    /// The subjects of all rollouts of one build.
    pub fn subjects_of_build(build_id: BuildId) -> String {
        format!("rollout.*.{build_id}")
    }

    /// Whether the version was set and failed: it is not set again before a person forces it.
    pub fn quarantines(&self) -> bool {
        matches!(self.state, RolloutState::Failed | RolloutState::RolledBack)
            && self.generation.is_some()
    }

    /// The change that follows this one: the same rollout in another state.
    #[must_use]
    pub fn next(&self, state: RolloutState, at: DateTime<Utc>) -> Self {
        Self {
            step: self.step + 1,
            state,
            at,
            detail: None,
            build: None,
            planned: None,
            ..self.clone()
        }
    }
}

impl Event for RolloutChanged {
    const TYPE: &'static str = "portfolio.rollout.changed.v1";
    const STREAM: &'static Stream = &ROLLOUTS;

    fn subject(&self) -> String {
        Self::subject_of(self.target.as_ref(), self.build_id)
    }

    fn message_id(&self) -> String {
        format!("{}.{}", self.subject(), self.step)
    }
}

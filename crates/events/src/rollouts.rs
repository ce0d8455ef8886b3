//! The state changes of rollouts: the log from which every question about a rollout is answered.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BuildFinished, BuildId, Event, ROLLOUTS, Stream, TargetName, V1};

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The planner has accepted the build; the rollout waits for its turn.
    Accepted,
    /// The planner, or the executor before it began, has rejected the build. Terminal.
    Rejected,
    /// A newer build has taken its place before it began. Terminal.
    Superseded,
    /// The executor sets the image.
    Patching,
    /// The image is set, and Kubernetes replaces the pods.
    Progressing,
    /// The smoke test asks the new version for its name.
    SmokeTesting,
    /// `ArgoCD` does not report the new version yet.
    AwaitingArgocd,
    /// The rollout has failed, and the executor sets an earlier image again.
    RollingBack,
    /// Verdict: the new version serves.
    Succeeded,
    /// Verdict: the rollout failed, and nothing was set back, or the rollback failed too.
    Failed,
    /// Verdict: the rollout failed, and an earlier version serves again.
    RolledBack,
    /// Verdict: somebody else has set another image.
    Reverted,
}

impl RolloutState {
    /// Returns true if no state follows this one.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Rejected | Self::Superseded) || self.is_verdict()
    }

    /// Returns true for a verdict: the end of a rollout that had begun.
    pub fn is_verdict(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::RolledBack | Self::Reverted)
    }

    /// Returns true if this state may follow `before` in the same rollout. No state follows a
    /// terminal one.
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

    /// Returns the word on the wire and in metric labels.
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

/// Counts of pods, from the Deployment's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// The number of pods that the Deployment asks for.
    pub desired: i32,
    /// The number of pods that have the new template.
    pub updated: i32,
    /// The number of ready pods, of any template.
    pub ready: i32,
    /// The number of pods, of any template, that have been ready for `minReadySeconds`.
    pub available: i32,
}

/// The reason why a rollout failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// The cause in one word, Kubernetes' own if there is one: `ImagePullBackOff`,
    /// `DeadlineExceeded`.
    pub cause: String,
    /// The cause in one sentence, for people.
    pub summary: String,
    /// The pods that show the cause.
    #[serde(default)]
    pub pods: Vec<PodDiagnosis>,
    /// The texts of Kubernetes' events about the cause.
    #[serde(default)]
    pub events: Vec<String>,
}

/// The trouble of one container of a pod.
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
    /// The exit code with which the container last ended, if it did.
    pub exit_code: Option<i32>,
    /// The number of times that the container was started again.
    pub restarts: i32,
    /// The last lines of the container's log, oldest first.
    #[serde(default)]
    pub log_tail: Vec<String>,
}

/// The rollback of a rollout that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The image to go back to.
    pub image: String,
    /// The deadline of the rollback.
    pub deadline_at: DateTime<Utc>,
    /// The Deployment's generation that our write made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The time of that write, by the API server's clock, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<DateTime<Utc>>,
    /// The reason why the rollback failed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// A state change of a rollout. Subject `rollout.<target>.<build id>`.
///
/// A change carries everything that is known of the rollout. So the last one is enough to show the
/// rollout, and to go on after a crash. The log has one writer at a time: the bus stores a change
/// only if its writer knows the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutChanged {
    /// The payload's version.
    pub v: V1,
    /// The build.
    pub build_id: BuildId,
    /// The target; none if the build belongs to no target.
    pub target: Option<TargetName>,
    /// The number of the change within its rollout, from 0.
    pub step: u32,
    /// The state after the change.
    pub state: RolloutState,
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// The event that led to the change, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reason for the end of a rollout that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The image to deploy.
    pub image: String,
    /// The image that was set before ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_image: Option<String>,
    /// The time of the planner's decision.
    pub started_at: DateTime<Utc>,
    /// The deadline of the rollout. Set once, before the image is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<DateTime<Utc>>,
    /// The commit that sets the image, if the target uses `gitops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The Deployment's generation that our write made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The time of our write, by the API server's clock, to the second; none if the image was set
    /// already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<DateTime<Utc>>,
    /// Counts of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The time since which a trouble lasts that may pass by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<DateTime<Utc>>,
    /// The reason of the failure; while the rollout is under way, the trouble so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The rollback, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// The build, in the planner's change only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildFinished>,
    /// The number of rollouts that the planner made of the build, in its change only. The build is
    /// done once all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<u32>,
}

impl RolloutChanged {
    /// Returns the first change of a rollout, in a state that a planner may give it.
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

    /// Returns the subject of one rollout. A build that belongs to no target has the token `_` in
    /// place of the target.
    pub fn subject_of(target: Option<&TargetName>, build_id: BuildId) -> String {
        format!("rollout.{}.{build_id}", target.map_or("_", TargetName::as_str))
    }

    /// Returns the subjects of all rollouts of one build.
    pub fn subjects_of_build(build_id: BuildId) -> String {
        format!("rollout.*.{build_id}")
    }

    /// Returns true if the version was set and failed. It is in quarantine then: only a person can
    /// have it set again.
    pub fn quarantines(&self) -> bool {
        matches!(self.state, RolloutState::Failed | RolloutState::RolledBack)
            && self.generation.is_some()
    }

    /// Returns the change that follows this one: the same rollout in another state.
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

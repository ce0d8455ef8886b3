//! What the planner asks of the executor of a target.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BuildId, DEPLOYS, Event, Stream, TargetName, V1};

/// The planner accepted a build for a target. Subject `deploy.<target>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequested {
    /// The payload's version.
    pub v: V1,
    /// The build to deploy.
    pub build_id: BuildId,
    /// The target to deploy it to.
    pub target: TargetName,
    /// The image to set, with its tag and, where CI gave one, its digest.
    pub image: String,
    /// Whether a person wants it although it is older than what runs, or in quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Whether it is the way back to a version that was good: that is done even while the target is frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
    /// When the planner asked for it.
    pub requested_at: DateTime<Utc>,
}

impl DeployRequested {
    /// The subject of a target's requests.
    pub fn subject_of(target: &TargetName) -> String {
        format!("deploy.{target}")
    }
}

impl Event for DeployRequested {
    const TYPE: &'static str = "portfolio.deploy.requested.v1";
    const STREAM: &'static Stream = &DEPLOYS;

    fn subject(&self) -> String {
        Self::subject_of(&self.target)
    }

    fn message_id(&self) -> String {
        format!("{}.{}", self.build_id, self.target)
    }
}

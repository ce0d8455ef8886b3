//! The planner's requests to the executor of a target.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{BuildId, DEPLOYS, Event, Stream, TargetName, V1};

/// A request to deploy a build that the planner accepted for a target. Subject `deploy.<target>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequested {
    /// The payload's version.
    pub v: V1,
    /// The build to deploy.
    pub build_id: BuildId,
    /// The target to deploy it to.
    pub target: TargetName,
    /// The image to set, with its tag and, if CI gave one, its digest.
    pub image: String,
    /// Set if a person wants the build deployed although it is older than what runs, or in
    /// quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Marks a rollback to a version that succeeded, which a freeze does not stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
    /// The time of the request.
    pub requested_at: DateTime<Utc>,
}

impl DeployRequested {
    /// Returns the subject of a target's requests.
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

//! Finished builds, as CI reports them.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Digest, Event, JobName, PIPELINE, Stream, TargetName, V1};

/// Names one posted build for ever. UUID version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct BuildId(pub Uuid);

impl BuildId {
    /// Returns a new id, which sorts after those made before.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for BuildId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BuildId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// The result of a build, in Jenkins' words. Only [`BuildStatus::Success`] deploys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// The build and its tests succeeded.
    Success,
    /// The build succeeded, and its tests failed.
    Unstable,
    /// The build failed.
    Failure,
    /// The build did not run.
    NotBuilt,
    /// A person stopped the build.
    Aborted,
}

impl BuildStatus {
    /// All results, in the order of Jenkins' `Result`.
    pub const ALL: [Self; 5] =
        [Self::Success, Self::Unstable, Self::Failure, Self::NotBuilt, Self::Aborted];

    /// Returns the word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unstable => "unstable",
            Self::Failure => "failure",
            Self::NotBuilt => "not_built",
            Self::Aborted => "aborted",
        }
    }

    /// Reads a status in any case: Jenkins writes `SUCCESS`, its plugins `success`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for BuildStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person's decision to deploy a build in spite of its age or its quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// The name of the person's token.
    pub by: String,
    /// The reason, in the person's own words.
    pub reason: String,
    /// Marks a rollback to a version that succeeded, which a freeze does not stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
}

/// A finished build. Subject `pipeline.build.<job>`.
///
/// `image` is kept as it was posted. The gateway refuses an image that cannot be deployed, and the
/// planner checks it again, because other clients of the bus may publish builds too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFinished {
    /// The payload's version.
    pub v: V1,
    /// Names the build.
    pub id: BuildId,
    /// The job that ran.
    pub job: JobName,
    /// The build's number within its job.
    pub number: u64,
    /// The result.
    pub status: BuildStatus,
    /// The image that the build made, with its tag.
    pub image: String,
    /// The digest, which pins the image's content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The page on which CI shows the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Set if a person wants the build deployed although it is older than what runs, or in
    /// quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// The only target to deploy to, if a person chose one; otherwise all targets of the image's
    /// repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// The trace id of the request that posted the build, in the form of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The time at which the gateway received the build.
    pub received_at: DateTime<Utc>,
}

impl Event for BuildFinished {
    const TYPE: &'static str = "portfolio.build.finished.v1";
    const STREAM: &'static Stream = &PIPELINE;

    fn subject(&self) -> String {
        format!("pipeline.build.{}", self.job.subject_token())
    }

    fn message_id(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_any_case() {
        assert_eq!(BuildStatus::parse("SUCCESS"), Some(BuildStatus::Success));
        assert_eq!(BuildStatus::parse("Not_Built"), Some(BuildStatus::NotBuilt));
        assert_eq!(BuildStatus::parse("succes"), None);
        for status in BuildStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}

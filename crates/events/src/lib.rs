//! The contract on the bus: what is said (payloads), where (subjects), and how it is kept (streams and consumers).
//!
//! Every service depends on this crate and on nothing of each other, so this is the only place where they have to agree.
//! It does no I/O. The JSON form of each payload is frozen by snapshots in `tests/`: a changed snapshot is a break of the
//! wire, so a new version is added beside the old one.

mod builds;
mod contacts;
mod deploys;
mod idempotency;
mod image;
mod names;
mod rollouts;
mod streams;
mod targets;
mod version;

pub use builds::{BuildFinished, BuildId, BuildStatus, Forced};
pub use contacts::{ContactId, ContactSubmitted};
pub use deploys::DeployRequested;
pub use idempotency::{KeyState, KeyUsed};
pub use image::{BuildTag, Digest, ImageReference, InvalidImage, InvalidTag};
pub use names::{InvalidName, JobName, TargetName};
pub use rollouts::{Diagnosis, PodDiagnosis, Progress, Rollback, RolloutChanged, RolloutState};
pub use streams::{
    ALL_STREAMS, CONTACTS, Consumer, DEAD_LETTERS, DEPLOYS, Discard, IDEMPOTENCY, PIPELINE,
    ROLLOUTS, Retention, Stream, TARGETS, contact_worker_consumer, dead_letter_subject,
    executor_consumer, planner_consumer,
};
pub use targets::{
    ClockTime, Day, Freeze, FreezeWindow, InvalidClockTime, TargetChange, TargetChanged,
    TargetState,
};
pub use version::V1;

use serde::{Serialize, de::DeserializeOwned};

/// A payload of the bus: JSON with `"v": 1`, published to a subject of one stream.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The CloudEvents `type` of the payload, which ends in its version.
    const TYPE: &'static str;

    /// The stream that keeps it.
    const STREAM: &'static Stream;

    /// The subject it is published to.
    fn subject(&self) -> String;

    /// What makes two copies of it the same: `Nats-Msg-Id` and the CloudEvents `id`.
    fn message_id(&self) -> String;
}

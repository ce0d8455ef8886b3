//! The contract on the bus: payloads, subjects, streams and consumers.
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
pub use contacts::{CONTACTS_SUBMITTED, Contact, ContactGroup, ContactId};
pub use deploys::DeployRequested;
pub use idempotency::{Callers, KeyHolder, KeyState, KeyUsed, Visitors};
pub use image::{BuildTag, Digest, ImageReference, InvalidImage, InvalidTag};
pub use names::{InvalidName, JobName, TargetName};
pub use rollouts::{Diagnosis, PodDiagnosis, Progress, Rollback, RolloutChanged, RolloutState};
pub use streams::{
    ALL_STREAMS, CONTACTS, Consumer, DEAD_LETTER_AGE, DEAD_LETTERS, DEPLOYS, Discard,
    FORMER_IDEMPOTENCY, IDEMPOTENCY_CALLERS, IDEMPOTENCY_VISITORS, PIPELINE, ROLLOUTS, Retention,
    Stream, TARGETS, contact_worker_consumer, dead_letter_subject, executor_consumer,
    planner_consumer,
};
pub use targets::{
    ClockTime, Day, Freeze, FreezeWindow, InvalidClockTime, TargetChange, TargetChanged,
    TargetState,
};
pub use version::{V1, V2};

use serde::{Serialize, de::DeserializeOwned};

/// A payload of the bus: JSON with its version in `v`, published to a subject of one stream.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The CloudEvents `type` of the payload, by which CI may send it, and its name in errors.
    const TYPE: &'static str;

    /// The stream that keeps it.
    const STREAM: &'static Stream;

    /// The versions that can be read. A payload of another version waits for a process that can
    /// read it.
    const VERSIONS: &'static [u64] = &[V1::NUMBER];

    /// Returns the subject of the event.
    fn subject(&self) -> String;

    /// Returns the message id (`Nats-Msg-Id`), by which two copies of the event are one.
    fn message_id(&self) -> String;
}

/// A payload that holds many members, which are committed together.
pub trait Group: Event {
    /// One of the members.
    type Member: Serialize + Send + 'static;

    /// The subject of every group.
    const SUBJECT: &'static str;

    /// The largest number of members.
    const MAX_MEMBERS: usize;

    /// The largest group of more than one member, in bytes.
    const MAX_BYTES: usize;

    /// Sets the W3C trace context of a member.
    fn set_traceparent(member: &mut Self::Member, traceparent: String);

    /// Returns the payload of a group whose members are JSON already.
    ///
    /// A request encodes its own member, so that only copying is left to do for the group.
    fn join<'a>(members: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8>;
}

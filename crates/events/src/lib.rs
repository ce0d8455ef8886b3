//! The contract on the bus: payloads, subjects, streams and consumers.
//!
//! Every service depends on this crate and on no other service, so this crate is the only place
//! where services have to agree. The crate does no I/O. The JSON form of each payload is frozen by
//! snapshots in `tests/`: a changed snapshot breaks the wire format, so a new version is added
//! beside the old one.

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
    /// The CloudEvents `type` of the payload, with which CI may send it, and its name in errors.
    const TYPE: &'static str;

    /// The stream that keeps the payload.
    const STREAM: &'static Stream;

    /// The versions that can be read. A payload of another version waits for a process that can
    /// read it.
    const VERSIONS: &'static [u64] = &[V1::NUMBER];

    /// Returns the subject of the event.
    fn subject(&self) -> String;

    /// Returns the message id (`Nats-Msg-Id`), by which the bus recognizes two copies of the event.
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

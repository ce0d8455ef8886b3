//! Streams and consumers as data, from which `bus` creates them. `nats/streams/` holds the streams
//! as files for the `nats` CLI.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{CONTACTS_SUBMITTED, DeployRequested, TargetName};

/// The rule by which a message leaves a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The message is removed once its consumer has acknowledged it.
    WorkQueue,
    /// The message is removed once it is too old, even if nobody has read it.
    Limits,
}

/// The behaviour of a full stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// New messages are refused: the publisher gets an error, and nothing that was accepted is
    /// lost.
    New,
    /// The oldest messages are removed: for history that nobody relies on.
    Old,
}

/// A JetStream stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The name.
    pub name: &'static str,
    /// The purpose.
    pub description: &'static str,
    /// The subjects that the stream keeps.
    pub subjects: &'static [&'static str],
    /// The rule by which messages leave the stream.
    pub retention: Retention,
    /// The longest time that a message is kept.
    pub max_age: Option<Duration>,
    /// The number of messages that are kept for each subject, if not all.
    pub max_messages_per_subject: Option<i64>,
    /// The size of the stream, in bytes.
    pub max_bytes: i64,
    /// The largest message, headers included, in bytes; the server's own limit if there is none.
    pub max_message_bytes: Option<i32>,
    /// The behaviour of the stream when it is full.
    pub discard: Discard,
    /// The time for which the server remembers message ids. A publisher may retry with the same id
    /// for as long. The server keeps every id in memory for that time.
    pub duplicate_window: Duration,
    /// Allows a message to carry its own age (ADR-43).
    pub message_ttl: bool,
}

const DAY: Duration = Duration::from_hours(24);
const MIB: i64 = 1024 * 1024;
const KIB: i32 = 1024;

/// A duration above the time after which a publisher gives up (10 s) and sends nothing again.
const RETRIES: Duration = Duration::from_secs(30);

/// A duration above the time after which another replica repeats the work of a crashed one.
const TAKE_OVERS: Duration = Duration::from_mins(2);

/// Contacts that are not stored yet.
pub static CONTACTS: Stream = Stream {
    name: "CONTACTS",
    description: "Contacts on their way to the store; removed once they are stored",
    subjects: &[CONTACTS_SUBMITTED],
    retention: Retention::Limits,
    max_age: None,
    max_messages_per_subject: None,
    max_bytes: 1024 * MIB,
    // The largest group of contacts, and its headers.
    max_message_bytes: Some(640 * KIB),
    discard: Discard::New,
    duplicate_window: RETRIES,
    message_ttl: false,
};

/// Build events, as CI sent them.
pub static PIPELINE: Stream = Stream {
    name: "PIPELINE",
    description: "Build events, kept as an audit log",
    subjects: &["pipeline.build.*"],
    retention: Retention::Limits,
    max_age: Some(DAY.saturating_mul(90)),
    max_messages_per_subject: None,
    max_bytes: 256 * MIB,
    max_message_bytes: Some(256 * KIB),
    discard: Discard::New,
    duplicate_window: TAKE_OVERS,
    message_ttl: false,
};

/// Requests to the executors.
pub static DEPLOYS: Stream = Stream {
    name: "DEPLOYS",
    description: "Requests to the executors of targets, in order; removed with their verdict",
    subjects: &["deploy.*"],
    retention: Retention::WorkQueue,
    max_age: None,
    max_messages_per_subject: None,
    max_bytes: 64 * MIB,
    max_message_bytes: Some(256 * KIB),
    discard: Discard::New,
    duplicate_window: TAKE_OVERS,
    message_ttl: false,
};

/// Every state change of every rollout.
pub static ROLLOUTS: Stream = Stream {
    name: "ROLLOUTS",
    description: "Every state change of every rollout; the source of all read models",
    subjects: &["rollout.*.*"],
    retention: Retention::Limits,
    max_age: Some(DAY.saturating_mul(90)),
    max_messages_per_subject: None,
    max_bytes: 512 * MIB,
    max_message_bytes: Some(512 * KIB),
    discard: Discard::Old,
    duplicate_window: TAKE_OVERS,
    message_ttl: false,
};

/// Messages that could not be handled. Contacts among them have no age; other dead letters have
/// one.
pub static DEAD_LETTERS: Stream = Stream {
    name: "DEAD_LETTERS",
    description: "Messages that could not be handled: original bytes and headers, and the reason",
    subjects: &["dead.*"],
    retention: Retention::Limits,
    max_age: None,
    max_messages_per_subject: None,
    max_bytes: 256 * MIB,
    max_message_bytes: None,
    discard: Discard::New,
    duplicate_window: TAKE_OVERS,
    message_ttl: true,
};

/// The `Idempotency-Key`s of callers with a token.
pub static IDEMPOTENCY_CALLERS: Stream = Stream {
    name: "IDEMPOTENCY_CALLERS",
    description: "Idempotency-Keys of callers with a token, for a day: \
                  what was answered, without the requests",
    subjects: &["idempotency.caller.*"],
    retention: Retention::Limits,
    max_age: Some(DAY),
    max_messages_per_subject: Some(1),
    max_bytes: 128 * MIB,
    max_message_bytes: Some(8 * KIB),
    discard: Discard::New,
    duplicate_window: RETRIES,
    message_ttl: false,
};

/// The `Idempotency-Key`s of visitors. A full stream forgets the oldest, so that visitors cannot
/// lock each other out.
pub static IDEMPOTENCY_VISITORS: Stream = Stream {
    name: "IDEMPOTENCY_VISITORS",
    description: "Idempotency-Keys of visitors, for an hour: \
                  what was answered, without the requests",
    subjects: &["idempotency.visitor.*"],
    retention: Retention::Limits,
    max_age: Some(Duration::from_hours(1)),
    max_messages_per_subject: Some(1),
    max_bytes: 64 * MIB,
    max_message_bytes: Some(8 * KIB),
    discard: Discard::Old,
    duplicate_window: RETRIES,
    message_ttl: false,
};

/// Decisions about each target, and its state. Age never removes a freeze that a person has to end.
pub static TARGETS: Stream = Stream {
    name: "TARGETS",
    description: "Decisions of people about each target, and its state; \
                  the last word of each counts",
    subjects: &["target.*.freeze", "target.*.state"],
    retention: Retention::Limits,
    max_age: None,
    max_messages_per_subject: Some(100),
    max_bytes: 128 * MIB,
    max_message_bytes: Some(256 * KIB),
    discard: Discard::New,
    duplicate_window: TAKE_OVERS,
    message_ttl: false,
};

/// All streams.
pub static ALL_STREAMS: [&Stream; 8] = [
    &CONTACTS,
    &PIPELINE,
    &DEPLOYS,
    &ROLLOUTS,
    &TARGETS,
    &DEAD_LETTERS,
    &IDEMPOTENCY_CALLERS,
    &IDEMPOTENCY_VISITORS,
];

/// The former stream of all keys, from before callers and visitors had their own streams.
pub const FORMER_IDEMPOTENCY: &str = "IDEMPOTENCY";

/// The age of a dead letter that holds no contact.
pub const DEAD_LETTER_AGE: Duration = DAY.saturating_mul(90);

/// Returns the subject of a stream's dead letters.
pub fn dead_letter_subject(stream: &Stream) -> String {
    format!("dead.{}", stream.name)
}

impl Stream {
    /// Returns the configuration in the form of the JetStream API and of `nats stream add
    /// --config`.
    pub fn to_json(&self, replicas: usize) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "subjects": self.subjects,
            "retention": match self.retention {
                Retention::WorkQueue => "workqueue",
                Retention::Limits => "limits",
            },
            "max_consumers": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": self.max_messages_per_subject.unwrap_or(-1),
            "max_bytes": self.max_bytes,
            "max_age": self.max_age.map_or(0, nanos),
            "max_msg_size": self.max_message_bytes.unwrap_or(-1),
            "storage": "file",
            "discard": match self.discard {
                Discard::New => "new",
                Discard::Old => "old",
            },
            "num_replicas": replicas,
            "duplicate_window": nanos(self.duplicate_window),
            "allow_direct": false,
            "allow_msg_ttl": self.message_ttl,
        })
    }
}

/// A durable JetStream consumer, with explicit acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The durable name.
    pub name: String,
    /// The stream that the consumer reads.
    pub stream: &'static Stream,
    /// The purpose.
    pub description: &'static str,
    /// The subject that the consumer reads.
    pub filter: String,
    /// The longest time that a message may be in process without a sign of life. After a crash,
    /// another replica waits as long.
    pub ack_wait: Duration,
    /// The largest number of messages in process at once, over all replicas.
    pub max_ack_pending: i64,
    /// The largest number of messages that a handler gets at once.
    pub batch: usize,
    /// The largest size of the messages that a handler gets at once, in bytes. It bounds the memory
    /// of a process, since messages differ in size.
    pub batch_bytes: usize,
    /// The number of batches that one process handles at the same time. With more than one,
    /// messages are not handled in order.
    pub batches_in_process: usize,
    /// Makes the process remove settled messages from the stream, many at once. A work queue
    /// removes each message by itself, and syncs the disk for it.
    pub removes_settled: bool,
    /// The number of failures after which a message becomes a dead letter. Restarts, expired leases
    /// and shutdowns do not count. The server's own `MaxDeliver` stays unlimited: it would abandon
    /// the message without a trace.
    pub max_failures: u32,
}

impl Consumer {
    /// Returns the configuration in the form of the JetStream API and of `nats consumer add
    /// --config`.
    pub fn to_json(&self) -> Value {
        json!({
            "durable_name": self.name,
            "description": self.description,
            "filter_subject": self.filter,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(self.ack_wait),
            "max_deliver": -1,
            "max_ack_pending": self.max_ack_pending,
            "replay_policy": "instant",
        })
    }
}

/// A size above that of the largest message (1 MiB by default), so that a batch has at least one.
const BATCH_BYTES: usize = 1_100_000;

/// The worker's consumer: groups of contacts, in batches.
pub fn contact_worker_consumer() -> Consumer {
    Consumer {
        name: "contact-worker".to_owned(),
        stream: &CONTACTS,
        description: "Stores contacts in MongoDB",
        filter: CONTACTS_SUBMITTED.to_owned(),
        ack_wait: Duration::from_secs(15),
        max_ack_pending: 5_000,
        batch: 1_000,
        // More than the largest group. Three of them, and their documents, fit 64 MiB.
        batch_bytes: 700_000,
        batches_in_process: 3,
        removes_settled: true,
        max_failures: 10,
    }
}

/// The planner's consumer: one build after the other, in the order in which CI sent them.
pub fn planner_consumer() -> Consumer {
    Consumer {
        name: "planner".to_owned(),
        stream: &PIPELINE,
        description: "Decides which targets get a build",
        filter: "pipeline.build.*".to_owned(),
        ack_wait: Duration::from_secs(6),
        max_ack_pending: 1,
        batch: 1,
        batch_bytes: BATCH_BYTES,
        batches_in_process: 1,
        removes_settled: false,
        max_failures: 10,
    }
}

/// An executor's consumer: one request of its target at a time, over all replicas.
pub fn executor_consumer(target: &TargetName) -> Consumer {
    Consumer {
        name: format!("executor-{target}"),
        stream: &DEPLOYS,
        description: "Rolls out the builds of one target, one at a time",
        filter: DeployRequested::subject_of(target),
        ack_wait: Duration::from_secs(6),
        max_ack_pending: 1,
        batch: 1,
        batch_bytes: BATCH_BYTES,
        batches_in_process: 1,
        removes_settled: false,
        max_failures: 10,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! Streams and consumers as data. `bus` creates them from here; `nats/streams/` holds them as files for the `nats` CLI.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{ContactSubmitted, DeployRequested, TargetName};

/// When a message leaves a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Once its consumer has acknowledged it.
    WorkQueue,
    /// When it is too old, whoever read it.
    Limits,
}

/// What a full stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It refuses what comes: the publisher hears of it, and nothing that was accepted is lost.
    New,
    /// It forgets its oldest messages: for history that nobody is owed.
    Old,
}

/// A JetStream stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// The subjects that it keeps.
    pub subjects: &'static [&'static str],
    /// When a message leaves it.
    pub retention: Retention,
    /// How long a message is kept at most.
    pub max_age: Option<Duration>,
    /// How many messages it keeps of one subject, if not all.
    pub max_messages_per_subject: Option<i64>,
    /// How much it keeps, in bytes.
    pub max_bytes: i64,
    /// What it does when it is full.
    pub discard: Discard,
    /// Whether publishers may commit many messages at once (ADR-50).
    pub atomic_batches: bool,
}

const DAY: Duration = Duration::from_hours(24);
const MIB: i64 = 1024 * 1024;

/// How long a stream remembers message ids. It bounds how long a publisher may retry with the same one.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// Contacts that are not stored yet.
pub static CONTACTS: Stream = Stream {
    name: "CONTACTS",
    description: "Contacts on their way to the store; gone from here once stored",
    subjects: &[ContactSubmitted::SUBJECT],
    retention: Retention::Limits,
    max_age: None,
    max_messages_per_subject: None,
    max_bytes: 1024 * MIB,
    discard: Discard::New,
    atomic_batches: true,
};

/// What CI said.
pub static PIPELINE: Stream = Stream {
    name: "PIPELINE",
    description: "What CI said, kept as an audit log",
    subjects: &["pipeline.build.*"],
    retention: Retention::Limits,
    max_age: Some(DAY.saturating_mul(90)),
    max_messages_per_subject: None,
    max_bytes: 256 * MIB,
    discard: Discard::New,
    atomic_batches: false,
};

/// Requests to the executors.
pub static DEPLOYS: Stream = Stream {
    name: "DEPLOYS",
    description: "Requests of the targets, in order; gone from here once they have their verdict",
    subjects: &["deploy.*"],
    retention: Retention::WorkQueue,
    max_age: None,
    max_messages_per_subject: None,
    max_bytes: 64 * MIB,
    discard: Discard::New,
    atomic_batches: false,
};

/// Every change of every rollout.
pub static ROLLOUTS: Stream = Stream {
    name: "ROLLOUTS",
    description: "Every change of every rollout: the source of all that is shown of them",
    subjects: &["rollout.*.*"],
    retention: Retention::Limits,
    max_age: Some(DAY.saturating_mul(90)),
    max_messages_per_subject: None,
    max_bytes: 512 * MIB,
    discard: Discard::Old,
    atomic_batches: false,
};

/// What could not be handled.
pub static DEAD_LETTERS: Stream = Stream {
    name: "DEAD_LETTERS",
    description: "Messages that could not be handled: their bytes, their headers, and the reason",
    subjects: &["dead.*"],
    retention: Retention::Limits,
    max_age: Some(DAY.saturating_mul(30)),
    max_messages_per_subject: None,
    max_bytes: 256 * MIB,
    discard: Discard::New,
    atomic_batches: false,
};

/// What is remembered of `Idempotency-Key`s.
pub static IDEMPOTENCY: Stream = Stream {
    name: "IDEMPOTENCY",
    description: "The Idempotency-Keys of the last day: what was answered to them, without the requests themselves",
    subjects: &["idempotency.*"],
    retention: Retention::Limits,
    max_age: Some(DAY),
    max_messages_per_subject: Some(1),
    max_bytes: 128 * MIB,
    discard: Discard::New,
    atomic_batches: false,
};

/// What is decided about each target, and how it stands. No age ends a freeze that a person has to end.
pub static TARGETS: Stream = Stream {
    name: "TARGETS",
    description: "What people decided about each target, and how the deployer sees it; the last word of each counts",
    subjects: &["target.*.freeze", "target.*.state"],
    retention: Retention::Limits,
    max_age: None,
    max_messages_per_subject: Some(100),
    max_bytes: 128 * MIB,
    discard: Discard::New,
    atomic_batches: false,
};

/// All of them.
pub static ALL_STREAMS: [&Stream; 7] =
    [&CONTACTS, &PIPELINE, &DEPLOYS, &ROLLOUTS, &TARGETS, &DEAD_LETTERS, &IDEMPOTENCY];

/// Where the dead letters of a stream go.
pub fn dead_letter_subject(stream: &Stream) -> String {
    format!("dead.{}", stream.name)
}

impl Stream {
    /// The configuration in the form of the JetStream API and of `nats stream add --config`.
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
            "max_msg_size": -1,
            "storage": "file",
            "discard": match self.discard {
                Discard::New => "new",
                Discard::Old => "old",
            },
            "num_replicas": replicas,
            "duplicate_window": nanos(DUPLICATE_WINDOW),
            "allow_direct": false,
            "allow_atomic": self.atomic_batches,
        })
    }
}

/// A durable JetStream consumer, with explicit acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its durable name.
    pub name: String,
    /// The stream that it reads.
    pub stream: &'static Stream,
    /// What it is for.
    pub description: &'static str,
    /// The subject that it reads.
    pub filter: String,
    /// How long a message may be in process without a sign of life. After a crash, another replica waits as long.
    pub ack_wait: Duration,
    /// How many messages may be in process at once, over all replicas.
    pub max_ack_pending: i64,
    /// How many messages a handler gets at once at most.
    pub batch: usize,
    /// How many batches one process handles at the same time. More than one gives up the order.
    pub batches_in_process: usize,
    /// Whether the consumer removes from the stream what it has settled, many at once. A work queue removes each message by
    /// itself, and syncs the disk for it.
    pub removes_settled: bool,
    /// After how many deliveries a message that keeps failing is a dead letter. The server's own `MaxDeliver` stays
    /// unlimited: it would leave the message behind without a word.
    pub max_deliveries: u64,
}

impl Consumer {
    /// The configuration in the form of the JetStream API and of `nats consumer add --config`.
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

/// The worker's: as many contacts as come, in batches.
pub fn contact_worker_consumer() -> Consumer {
    Consumer {
        name: "contact-worker".to_owned(),
        stream: &CONTACTS,
        description: "Stores contacts in MongoDB",
        filter: ContactSubmitted::SUBJECT.to_owned(),
        ack_wait: Duration::from_secs(15),
        max_ack_pending: 5_000,
        batch: 500,
        batches_in_process: 3,
        removes_settled: true,
        max_deliveries: 10,
    }
}

/// The planner's: one build after the other, in the order in which CI said them.
pub fn planner_consumer() -> Consumer {
    Consumer {
        name: "planner".to_owned(),
        stream: &PIPELINE,
        description: "Decides which targets get a build",
        filter: "pipeline.build.*".to_owned(),
        ack_wait: Duration::from_secs(6),
        max_ack_pending: 1,
        batch: 1,
        batches_in_process: 1,
        removes_settled: false,
        max_deliveries: 10,
    }
}

/// An executor's: one request of its target at a time, over all replicas.
pub fn executor_consumer(target: &TargetName) -> Consumer {
    Consumer {
        name: format!("executor-{target}"),
        stream: &DEPLOYS,
        description: "Rolls out the builds of one target, one at a time",
        filter: DeployRequested::subject_of(target),
        ack_wait: Duration::from_secs(6),
        max_ack_pending: 1,
        batch: 1,
        batches_in_process: 1,
        removes_settled: false,
        max_deliveries: 10,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

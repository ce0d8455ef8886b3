//! Many events in one durable step: atomic batch publishing (ADR-50), which costs about four fsyncs however many there are.
//!
//! A batch carries each message's id, so that it can be tried again. One id that is known already makes the server refuse the
//! whole batch: then its messages are published one by one, where a known id is simply the first copy's acknowledgement.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, Request, jetstream::response::Response};
use bytes::Bytes;
use events::{Event, Stream};
use futures::future::join_all;
use group_commit::{GroupCommit, Limits, Log, NotTaken};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{
    Bus, PublishError, Published,
    connect::ANSWER_TIMEOUT,
    headers,
    publish::{self, RETRY_PAUSE},
};
use service::{propagation, spans};

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

/// The limits of a group. The server takes at most 1,000 messages a batch and 50 batches a stream at once. One commit at a time
/// was measured to be the fastest at every load: more only split the groups.
pub const LIMITS: Limits = Limits {
    group_messages: 1_000,
    group_bytes: 4 * 1024 * 1024,
    commits_in_flight: 1,
    in_progress: 8_192,
};

/// A batch costs the server as much time as about so many single messages, whatever its size: it makes a folder for it, syncs
/// what is in there, and removes it again.
const SMALLEST_BATCH: usize = 16;

/// Publishes to one stream, many events in one step. Clones share the steps.
#[derive(Clone, Debug)]
pub struct GroupPublisher {
    bus: Bus,
    commits: GroupCommit<BatchLog>,
    within: Duration,
}

/// A message that is ready to be sent.
pub(crate) struct Prepared {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    deadline: Instant,
    /// Its own span, if it has one.
    span: Option<Span>,
}

/// The stream, as something that takes many messages in one step.
#[derive(Clone, Debug)]
pub(crate) struct BatchLog {
    bus: Bus,
    stream: &'static Stream,
}

impl GroupPublisher {
    /// For the events of one stream, each of which may take so long.
    pub fn start(bus: Bus, stream: &'static Stream, within: Duration, limits: Limits) -> Self {
        // A counter that is there from the start can be watched for its first increase.
        bus.metrics.fallbacks.with_label_values(&[stream.name]);
        let commits = GroupCommit::start(BatchLog { bus: bus.clone(), stream }, limits);
        Self { bus, commits, within }
    }

    /// Publishes an event and waits for its acknowledgement, as [`Bus::publish`] does.
    ///
    /// # Errors
    /// [`PublishError::Busy`] if too many wait already, beside those of [`Bus::publish`].
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Published, PublishError> {
        let subject = event.subject();
        let span = publish::span(E::STREAM.name, &subject);
        let headers =
            headers::of_event(event, self.bus.name, span.as_ref().unwrap_or(&Span::current()));
        let payload = Bytes::from(serde_json::to_vec(event)?);
        let started = Instant::now();
        let prepared = Prepared {
            subject,
            headers,
            payload,
            deadline: started + self.within,
            span: span.clone(),
        };
        let outcome = self.commits.submit(prepared).await;
        let result = match outcome {
            Ok(outcome) => outcome,
            Err(NotTaken::Full) => Err(PublishError::Busy),
            Err(NotTaken::Ended) => Err(PublishError::Unavailable),
        };
        self.bus.metrics.published(E::STREAM, started.elapsed(), &result);
        publish::tell(span.as_ref(), &result);
        result
    }
}

impl Log for BatchLog {
    type Message = Prepared;
    type Outcome = Result<Published, PublishError>;

    fn size(message: &Prepared) -> usize {
        message.payload.len()
    }

    async fn commit(&self, group: Vec<Prepared>) -> Vec<Result<Published, PublishError>> {
        let labels = [self.stream.name];
        // Batches have at most 1,000 messages.
        let messages = u32::try_from(group.len()).unwrap_or(u32::MAX);
        self.bus.metrics.batch.with_label_values(&labels).observe(messages.into());
        if group.len() < SMALLEST_BATCH {
            return self.one_by_one(group).await;
        }
        let span = self.span(&group);
        // The patience of the one that has waited longest is that of all.
        let deadline =
            group.iter().map(|message| message.deadline).min().unwrap_or_else(Instant::now);
        match self.all_or_none(&group, deadline).instrument(span.clone()).await {
            Ok(last) => {
                let first = (last + 1).saturating_sub(group.len() as u64);
                (first..=last)
                    .map(|sequence| Ok(Published { sequence, duplicate: false }))
                    .collect()
            }
            Err(Refusal::All(error)) => {
                let why = error.to_error();
                spans::failed(&span, why.kind(), why.to_string());
                tracing::debug!(stream = self.stream.name, "a batch was not stored: {why}");
                group.iter().map(|_| Err(error.to_error())).collect()
            }
            Err(Refusal::Split) => {
                self.bus.metrics.fallbacks.with_label_values(&labels).inc();
                spans::failed(&span, "split", "it is published one by one");
                tracing::debug!(
                    stream = self.stream.name,
                    messages = group.len(),
                    "a batch is published one by one"
                );
                self.one_by_one(group).await
            }
        }
    }
}

/// What is said to a batch that is not stored.
enum Refusal {
    /// To all alike.
    All(Why),
    /// To the batch, and not to its messages: each may try alone.
    Split,
}

/// [`PublishError`]s that can be told many times.
#[derive(Clone, Copy, Debug)]
enum Why {
    Unavailable,
    Full,
    NoStream,
}

impl Why {
    fn to_error(self) -> PublishError {
        match self {
            Self::Unavailable => PublishError::Unavailable,
            Self::Full => PublishError::Full,
            Self::NoStream => PublishError::NoStream,
        }
    }
}

/// The acknowledgement of a batch.
#[derive(Deserialize)]
struct BatchAck {
    seq: u64,
    batch: String,
    count: u64,
}

/// What one attempt came to.
enum Attempt {
    /// Stored, up to this sequence.
    Done(u64),
    /// Nobody knows; the same ids tell next time.
    Unknown,
    /// Not stored.
    Refused(Refusal),
}

impl BatchLog {
    /// The span of a batch: in a trace of its own, since its messages are of many. They are linked both ways.
    fn span(&self, group: &[Prepared]) -> Span {
        let span = tracing::info_span!(
            parent: None,
            "publish batch",
            otel.name = format_args!("send batch {}", self.stream.name),
            otel.kind = "client",
            messaging.system = "nats",
            messaging.operation.name = "send",
            messaging.operation.type = "send",
            messaging.destination.name = self.stream.name,
            messaging.batch.message_count = group.len(),
        );
        let batch = propagation::span_context(&span);
        for message in group.iter().filter_map(|message| message.span.as_ref()) {
            spans::link(&span, &propagation::span_context(message));
            spans::link(message, &batch);
        }
        span
    }

    async fn one_by_one(&self, group: Vec<Prepared>) -> Vec<Result<Published, PublishError>> {
        let now = Instant::now();
        join_all(group.into_iter().map(|message| {
            let within = message.deadline.saturating_duration_since(now);
            self.bus.send_raw(message.subject, message.headers, message.payload, within)
        }))
        .await
    }

    /// Tries until there is an answer or the time is up. Gives the sequence of the last message.
    async fn all_or_none(&self, group: &[Prepared], deadline: Instant) -> Result<u64, Refusal> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.bus.connected(left).await.map_err(|_| Refusal::All(Why::Unavailable))?;
            match tokio::time::timeout_at(deadline, self.attempt(group)).await {
                Err(_) => return Err(Refusal::All(Why::Unavailable)),
                Ok(Attempt::Done(last)) => return Ok(last),
                Ok(Attempt::Refused(refusal)) => return Err(refusal),
                Ok(Attempt::Unknown) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Sends a batch under a new name. Only its last message asks for an answer, which speaks for all.
    async fn attempt(&self, group: &[Prepared]) -> Attempt {
        let batch = Uuid::new_v4().simple().to_string();
        // The messages' own headers stay as they are: whoever is published alone after all belongs to no batch.
        let in_batch = |message: &Prepared, number: usize| {
            let mut headers = message.headers.clone();
            headers.insert(BATCH_ID, batch.as_str());
            headers.insert(BATCH_SEQUENCE, number.to_string());
            headers
        };
        let Some((last, others)) = group.split_last() else { return Attempt::Unknown };
        for (index, message) in others.iter().enumerate() {
            let (subject, headers) = (message.subject.clone(), in_batch(message, index + 1));
            if self
                .bus
                .client
                .publish_with_headers(subject, headers, message.payload.clone())
                .await
                .is_err()
            {
                return Attempt::Unknown;
            }
        }
        let mut headers = in_batch(last, group.len());
        headers.insert(BATCH_COMMIT, "1");
        let request = Request::new()
            .headers(headers)
            .payload(last.payload.clone())
            .timeout(Some(ANSWER_TIMEOUT));
        match self.bus.client.send_request(last.subject.clone(), request).await {
            Ok(answer) => judge(&answer.payload, &batch, group.len()),
            Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                Attempt::Refused(Refusal::All(Why::NoStream))
            }
            Err(_) => Attempt::Unknown,
        }
    }
}

/// What the server's answer to a batch means.
fn judge(payload: &[u8], batch: &str, count: usize) -> Attempt {
    match serde_json::from_slice::<Response<BatchAck>>(payload) {
        Ok(Response::Ok(ack)) if ack.batch == batch && ack.count == count as u64 => {
            Attempt::Done(ack.seq)
        }
        Ok(Response::Ok(_)) | Err(_) => Attempt::Unknown,
        Ok(Response::Err { error }) => match error.error_code().0 {
            // JSStreamStoreFailedF and those like it
            code if publish::means_full(code) => Attempt::Refused(Refusal::All(Why::Full)),
            // JSAtomicPublishIncompleteBatchErr, JSAtomicPublishTooManyInflight: later, under another name
            10_176 | 10_210 => Attempt::Unknown,
            code if publish::means_later(code) => Attempt::Unknown,
            // JSAtomicPublishContainsDuplicateMessageErr, not enabled, too many messages, and whatever else is said of
            // batches: single messages are told what holds for them.
            _ => Attempt::Refused(Refusal::Split),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(payload: &str) -> &'static str {
        match judge(payload.as_bytes(), "b", 3) {
            Attempt::Done(7) => "done",
            Attempt::Done(_) => "another sequence",
            Attempt::Unknown => "unknown",
            Attempt::Refused(Refusal::Split) => "split",
            Attempt::Refused(Refusal::All(Why::Full)) => "full",
            Attempt::Refused(Refusal::All(_)) => "refused",
        }
    }

    #[test]
    fn each_answer_to_a_batch_has_its_meaning() {
        let error = |code: u32| {
            format!(r#"{{"error": {{"code": 400, "err_code": {code}, "description": "x"}}}}"#)
        };
        assert_eq!(judged(r#"{"stream": "S", "seq": 7, "batch": "b", "count": 3}"#), "done");
        assert_eq!(judged(r#"{"stream": "S", "seq": 7, "batch": "other", "count": 3}"#), "unknown");
        assert_eq!(judged(r#"{"stream": "S", "seq": 7, "batch": "b", "count": 2}"#), "unknown");
        assert_eq!(judged("nonsense"), "unknown");
        for (code, meaning) in [
            (10_201, "split"),
            (10_174, "split"),
            (10_199, "split"),
            (10_176, "unknown"),
            (10_210, "unknown"),
            (10_158, "unknown"),
            (10_077, "full"),
            (10_054, "full"),
        ] {
            assert_eq!(judged(&error(code)), meaning, "{code}");
        }
    }
}

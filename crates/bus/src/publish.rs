//! Publishing: a message is published once it is acknowledged, which means on disk with our server
//! configuration.

use std::{pin::pin, time::Duration};

use async_nats::{
    HeaderMap, HeaderValue, Subject,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID},
    jetstream::{
        self,
        context::{PublishError as ClientError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use events::{Event, Stream};
use service::{propagation, spans};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{Bus, StreamUnusable, headers};

/// The pause before a message without an answer is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The time in which a message may still be acknowledged after a refusal of its subject.
const ALTHOUGH_REFUSED: Duration = Duration::from_secs(1);

/// The acknowledgement of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The place of the message in the stream.
    pub sequence: u64,
    /// Set if an earlier attempt had already stored the message.
    pub duplicate: bool,
}

/// The reason why a message has no acknowledgement. For every kind but [`PublishError::Unknown`],
/// the stream does not have the message, and never will.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The bus could not be reached in time.
    #[error("the bus could not be reached in time")]
    NotSent,
    /// The message was sent but not acknowledged in time, so it may be stored. Retry only with the
    /// same id.
    #[error("the bus did not acknowledge in time")]
    Unknown,
    /// Too many messages already wait for the bus.
    #[error("too many messages wait for the bus")]
    Busy,
    /// The stream is full.
    #[error("the stream is full")]
    Full,
    /// The stream does not exist, or had no leader for as long as the publisher waited.
    #[error("no stream takes this subject")]
    NoStream,
    /// Another writer has published to the subject since the last read.
    #[error("the subject has moved on")]
    MovedOn,
    /// The message is larger than the server or the stream allows.
    #[error("the message is larger than the bus allows")]
    TooLarge,
    /// The event cannot be written as JSON.
    #[error("the event cannot be encoded")]
    Encode(#[from] serde_json::Error),
    /// The server refuses the message for another reason.
    #[error("the bus refuses: {0}")]
    Refused(String),
}

impl PublishError {
    /// Returns one word, for metrics and spans.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NotSent => "unavailable",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::MovedOn => "moved_on",
            Self::NoStream | Self::TooLarge | Self::Encode(_) | Self::Refused(_) => "refused",
        }
    }

    /// Returns the same error for another caller of a group.
    pub(crate) fn to_shared(&self) -> Self {
        match self {
            Self::NotSent => Self::NotSent,
            Self::Unknown => Self::Unknown,
            Self::Busy => Self::Busy,
            Self::Full => Self::Full,
            Self::NoStream => Self::NoStream,
            Self::MovedOn => Self::MovedOn,
            Self::TooLarge => Self::TooLarge,
            Self::Encode(error) => Self::Refused(error.to_string()),
            Self::Refused(words) => Self::Refused(words.clone()),
        }
    }
}

/// A message to publish. Its headers hold the id that makes sending it again safe.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// The stream that takes the subject.
    pub(crate) stream: &'static Stream,
    pub(crate) subject: Subject,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// The reason why one attempt got no acknowledgement.
enum Attempt {
    /// The server does not store the message.
    Refused(PublishError),
    /// No stream takes the subject at the moment, for example while a cluster elects a leader. The
    /// message is not stored.
    NoResponders,
    /// The outcome is unknown. Another attempt with the same id may show it.
    Unknown,
}

impl Bus {
    /// Publishes an event and waits for its acknowledgement. An attempt without an answer is
    /// repeated with the same id until the time is up, so that the event is stored only once.
    ///
    /// # Errors
    /// There was no acknowledgement in time, or the server refused the event.
    pub async fn publish<E: Event>(
        &self,
        event: &E,
        within: Duration,
    ) -> Result<Published, PublishError> {
        self.send_event(
            event,
            within,
            |_| {},
            async |bus, sending, deadline| bus.send_until(sending, deadline).await,
        )
        .await
    }

    /// Publishes an event only if `last` is the sequence of the last message on its subject (0 for
    /// none), so that only a writer that has read everything can write.
    ///
    /// # Errors
    /// [`PublishError::MovedOn`] if the subject has another last message.
    pub async fn publish_after<E: Event>(
        &self,
        event: &E,
        last: u64,
        within: Duration,
    ) -> Result<Published, PublishError> {
        // Two writers may publish the same event. An id that is unique to this call tells its own
        // repetition from the message of another writer.
        let id = format!("{}.{}", event.message_id(), Uuid::new_v4().simple());
        let set = |headers: &mut HeaderMap| {
            headers::set(headers, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, &last.to_string());
            headers::set(headers, NATS_MESSAGE_ID, &id);
        };
        self.send_event(event, within, set, async |bus, sending, deadline| {
            let subject = sending.subject.clone();
            match bus.send_until(sending, deadline).await {
                // A single server compares the sequence before the id: an attempt whose answer was
                // lost makes the next one look late.
                Err(PublishError::MovedOn) => bus.find_own::<E>(&subject, &id).await,
                result => result,
            }
        })
        .await
    }

    /// Returns the acknowledgement of an earlier attempt, if the last message of the subject has
    /// its id.
    async fn find_own<E: Event>(&self, subject: &str, id: &str) -> Result<Published, PublishError> {
        let stream = self.jetstream.get_stream_no_info(E::STREAM.name).await;
        let Ok(stream) = stream else { return Err(PublishError::Unknown) };
        let Ok(last) = stream.get_last_raw_message_by_subject(subject).await else {
            return Err(PublishError::MovedOn);
        };
        let found = last.headers.get(NATS_MESSAGE_ID).map(HeaderValue::as_str);
        if found == Some(id) {
            return Ok(Published { sequence: last.sequence, duplicate: true });
        }
        Err(PublishError::MovedOn)
    }

    async fn send_event<E: Event>(
        &self,
        event: &E,
        within: Duration,
        set: impl FnOnce(&mut HeaderMap),
        send: impl AsyncFnOnce(&Self, Sending, Instant) -> Result<Published, PublishError>,
    ) -> Result<Published, PublishError> {
        let subject = event.subject();
        let own = span(E::STREAM.name, &subject);
        let span = own.clone().unwrap_or_else(Span::current);
        let mut headers = headers::of_event(event, &span);
        set(&mut headers);
        let payload = Bytes::from(serde_json::to_vec(event)?);
        let started = Instant::now();
        let sending = Sending { stream: E::STREAM, subject: subject.into(), headers, payload };
        let result = send(self, sending, started + within).instrument(span).await;
        self.metrics.published(E::STREAM, started.elapsed(), &result);
        record(own.as_ref(), &result);
        result
    }

    /// Sends a message until there is an answer or the time is up. Sends nothing after that.
    pub(crate) async fn send_until(
        &self,
        sending: Sending,
        deadline: Instant,
    ) -> Result<Published, PublishError> {
        let (mut in_doubt, mut without_stream) = (false, false);
        let overdue = |in_doubt, without_stream| match (in_doubt, without_stream) {
            (true, _) => PublishError::Unknown,
            (false, true) => PublishError::NoStream,
            (false, false) => PublishError::NotSent,
        };
        loop {
            // The client buffers a message that is sent while disconnected, and delivers it at some
            // later time.
            let left = deadline.saturating_duration_since(Instant::now());
            let connected = self.connected(left).await.is_ok();
            let refusal = self.refusal_of(&sending.subject);
            if !connected || Instant::now() >= deadline {
                return Err(overdue(in_doubt, without_stream));
            }
            let mut sent = pin!(self.attempt(sending.clone()));
            let attempt = tokio::select! {
                biased;
                result = &mut sent => result,
                // The server drops what a user may not publish, and reports only the subject. The
                // refusal may concern another message, so this one still gets some time.
                refused = refusal => timeout(ALTHOUGH_REFUSED, sent)
                    .await
                    .unwrap_or(Err(Attempt::Refused(PublishError::Refused(refused)))),
                // The answer was lost with the connection.
                () = self.disconnected() => Err(Attempt::Unknown),
                () = sleep_until(deadline) => return Err(PublishError::Unknown),
            };
            match attempt {
                Ok(published) => return Ok(published),
                Err(Attempt::Refused(error @ PublishError::MovedOn)) => return Err(error),
                // An earlier attempt may still be on its way.
                Err(Attempt::Refused(_)) if in_doubt => return Err(PublishError::Unknown),
                Err(Attempt::Refused(error)) => return Err(error),
                Err(Attempt::NoResponders) if !in_doubt && self.lacks(sending.stream).await => {
                    return Err(PublishError::NoStream);
                }
                Err(Attempt::NoResponders) => without_stream = true,
                Err(Attempt::Unknown) => in_doubt = true,
            }
            tracing::debug!(subject = %sending.subject, "no acknowledgement, sending again");
            // The pause keeps a refusal from causing a busy loop.
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Returns whether the server knows that a stream does not exist. While a cluster elects a
    /// leader, it does not know.
    async fn lacks(&self, stream: &Stream) -> bool {
        matches!(self.stream_info(stream).await, Err(StreamUnusable::Missing(_)))
    }

    async fn attempt(&self, sending: Sending) -> Result<Published, Attempt> {
        let Sending { subject, headers, payload, .. } = sending;
        let message = PublishMessage::build().headers(headers).payload(payload);
        let sent = self.jetstream.send_publish(subject, message).await;
        let ack = sent.map_err(|error| classify(&error))?.await;
        let ack = ack.map_err(|error| classify(&error))?;
        Ok(Published { sequence: ack.sequence, duplicate: ack.duplicate })
    }
}

/// Returns the span of one message on its way to the bus, or none in a trace that is not recorded.
pub(crate) fn span(stream: &str, subject: &str) -> Option<Span> {
    if propagation::is_unrecorded(&Span::current()) {
        return None;
    }
    Some(tracing::info_span!(
        "publish",
        otel.name = format_args!("send {stream}"),
        otel.kind = "producer",
        messaging.system = "nats",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = subject,
    ))
}

/// Records the outcome in the span of a message. A message of another writer that came first is no
/// failure.
pub(crate) fn record(span: Option<&Span>, result: &Result<Published, PublishError>) {
    if let (Some(span), Err(error)) = (span, result)
        && !matches!(error, PublishError::MovedOn)
    {
        spans::failed(span, error.kind(), error.to_string());
    }
}

/// Classifies an error of the client.
fn classify(error: &ClientError) -> Attempt {
    match error.kind() {
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => Attempt::Unknown,
        // In a cluster, only a stream's leader listens to its subjects.
        PublishErrorKind::StreamNotFound => Attempt::NoResponders,
        PublishErrorKind::WrongLastSequence => Attempt::Refused(PublishError::MovedOn),
        PublishErrorKind::MaxPayloadExceeded => Attempt::Refused(PublishError::TooLarge),
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::Other => {
            let source = std::error::Error::source(error);
            match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(answer) => by_code(answer),
                // A lost connection, or an answer that cannot be read.
                None => Attempt::Unknown,
            }
        }
    }
}

/// Classifies an answer of the server, by its error code.
fn by_code(answer: &jetstream::Error) -> Attempt {
    match answer.error_code().0 {
        // The stream, the account or the disk is full: JSStreamStoreFailedF,
        // JSInsufficientResourcesErr, JSAccountResourcesExceededErr.
        10_077 | 10_023 | 10_002 => Attempt::Refused(PublishError::Full),
        // JSStreamMessageExceedsMaximumErr
        10_054 => Attempt::Refused(PublishError::TooLarge),
        // JSStreamWrongLastSequence, and its constant form
        10_071 | 10_164 => Attempt::Refused(PublishError::MovedOn),
        // Errors that pass by themselves: JSStreamDuplicateMessageConflict, JSClusterNotAvail,
        // JSClusterNotLeader, JSStreamExpectedLastSeqPerSubjectNotReady, JSStreamTooManyRequests.
        10_158 | 10_008 | 10_009 | 10_163 | 10_167 => Attempt::Unknown,
        _ => Attempt::Refused(PublishError::Refused(answer.to_string())),
    }
}

//! Publishing: done means acknowledged, which with our server configuration means on disk.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID},
    jetstream::{
        self,
        context::{PublishError as ClientError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use events::Event;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{Bus, headers};
use service::{propagation, spans};

/// The pause before what was not answered is sent again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The stream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the stream.
    pub sequence: u64,
    /// Whether it was there already, from an earlier attempt.
    pub duplicate: bool,
}

/// The stream does not have it, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No acknowledgement came in time. It may be stored all the same, so try again with the same id, or not at all.
    #[error("the bus did not acknowledge in time")]
    Unavailable,
    /// Too many messages wait for the bus already.
    #[error("too many messages wait for the bus")]
    Busy,
    /// The stream holds as much as it may.
    #[error("the stream is full")]
    Full,
    /// There is no such stream.
    #[error("no stream takes this subject")]
    NoStream,
    /// Somebody else has published to the subject since we looked.
    #[error("the subject has moved on")]
    MovedOn,
    /// It is larger than the server allows.
    #[error("the message is larger than the bus allows")]
    TooLarge,
    /// It could not be written as JSON.
    #[error("the event cannot be encoded")]
    Encode(#[from] serde_json::Error),
    /// The server refuses it for another reason.
    #[error("the bus refuses: {0}")]
    Refused(String),
}

impl PublishError {
    /// One word, for metrics and spans.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::MovedOn => "moved_on",
            Self::NoStream | Self::TooLarge | Self::Encode(_) | Self::Refused(_) => "refused",
        }
    }
}

impl Bus {
    /// Publishes an event and waits for its acknowledgement. An attempt without an answer is repeated with the same id
    /// until the time is up, so that it is stored once however often it was sent.
    pub async fn publish<E: Event>(
        &self,
        event: &E,
        within: Duration,
    ) -> Result<Published, PublishError> {
        self.send(event, None, within).await
    }

    /// Publishes an event only if `last` is the sequence of the last message on its subject (0 for none). This makes the
    /// one who has seen everything the only one who can write.
    ///
    /// # Errors
    /// [`PublishError::MovedOn`] if it is not.
    pub async fn publish_after<E: Event>(
        &self,
        event: &E,
        last: u64,
        within: Duration,
    ) -> Result<Published, PublishError> {
        self.send(event, Some(last), within).await
    }

    async fn send<E: Event>(
        &self,
        event: &E,
        last: Option<u64>,
        within: Duration,
    ) -> Result<Published, PublishError> {
        let subject = event.subject();
        let own = span(E::STREAM.name, &subject);
        let span = own.clone().unwrap_or_else(Span::current);
        let mut headers = headers::of_event(event, self.name, &span);
        if let Some(last) = last {
            headers::set(&mut headers, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, &last.to_string());
            // Two writers may have the same thing in mind and other words for it. An id of this call alone lets our own
            // repetition pass, and nobody else's message for ours.
            let id = format!("{}.{}", event.message_id(), Uuid::new_v4().simple());
            headers::set(&mut headers, NATS_MESSAGE_ID, &id);
        }
        let payload = Bytes::from(serde_json::to_vec(event)?);
        let started = Instant::now();
        let result = self.send_raw(subject, headers, payload, within).instrument(span).await;
        self.metrics.published(E::STREAM, started.elapsed(), &result);
        tell(own.as_ref(), &result);
        result
    }

    /// Sends until there is an answer or the time is up. The headers hold the id that makes this safe.
    pub(crate) async fn send_raw(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        within: Duration,
    ) -> Result<Published, PublishError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // What is sent while disconnected is kept and delivered some day, after we have told that it is not.
            self.connected(left).await.map_err(|_| PublishError::Unavailable)?;
            let attempt = tokio::time::timeout_at(
                deadline,
                self.attempt(subject.clone(), headers.clone(), payload.clone()),
            );
            match attempt.await {
                Err(_) => return Err(PublishError::Unavailable),
                Ok(Ok(published)) => return Ok(published),
                Ok(Err(Some(error))) => return Err(error),
                Ok(Err(None)) => {
                    tracing::debug!("no acknowledgement, sending again");
                    // Nothing is known, and the next attempt finds out. A pause, so that a refusal does not spin.
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// One attempt; `None` if its outcome is unknown and another may tell.
    async fn attempt(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, Option<PublishError>> {
        let message = PublishMessage::build().headers(headers).payload(payload);
        let sent = self
            .jetstream
            .send_publish(subject, message)
            .await
            .map_err(|error| classify(&error))?;
        let ack = sent.await.map_err(|error| classify(&error))?;
        Ok(Published { sequence: ack.sequence, duplicate: ack.duplicate })
    }
}

/// The span of one message on its way to the bus; none in a trace that nobody records.
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

/// Notes in the span of a message how publishing it went. That somebody else was first is no failure.
pub(crate) fn tell(span: Option<&Span>, result: &Result<Published, PublishError>) {
    if let (Some(span), Err(error)) = (span, result)
        && !matches!(error, PublishError::MovedOn)
    {
        spans::failed(span, error.kind(), error.to_string());
    }
}

/// What the client's error means to us; `None` if it says nothing about the outcome.
fn classify(error: &ClientError) -> Option<PublishError> {
    match error.kind() {
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => None,
        PublishErrorKind::StreamNotFound => Some(PublishError::NoStream),
        PublishErrorKind::WrongLastSequence => Some(PublishError::MovedOn),
        PublishErrorKind::MaxPayloadExceeded => Some(PublishError::TooLarge),
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::Other => {
            let source = std::error::Error::source(error);
            match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(answer) => by_code(answer),
                // A lost connection, or an answer that is none.
                None => None,
            }
        }
    }
}

fn by_code(answer: &jetstream::Error) -> Option<PublishError> {
    match answer.error_code().0 {
        code if means_full(code) => Some(PublishError::Full),
        // JSStreamWrongLastSequence, and its constant form
        10_071 | 10_164 => Some(PublishError::MovedOn),
        code if means_later(code) => None,
        _ => Some(PublishError::Refused(answer.to_string())),
    }
}

/// Whether the stream, the account or the disk is full: `JSStreamStoreFailedF`, `JSInsufficientResourcesErr`,
/// `JSAccountResourcesExceededErr`, and the one for a message that is larger than what is left.
pub(crate) fn means_full(code: u64) -> bool {
    matches!(code, 10_077 | 10_023 | 10_002 | 10_054)
}

/// Whether the same may work a moment later: `JSStreamDuplicateMessageConflict`, `JSClusterNotAvail`, `JSClusterNotLeader`,
/// `JSStreamExpectedLastSeqPerSubjectNotReady`.
pub(crate) fn means_later(code: u64) -> bool {
    matches!(code, 10_158 | 10_008 | 10_009 | 10_163)
}

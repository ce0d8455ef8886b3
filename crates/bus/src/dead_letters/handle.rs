//! Reading, redriving and erasing dead letters, for a person.

use std::time::Duration;

use async_nats::{
    header::NATS_MESSAGE_ID,
    jetstream::{
        ErrorCode,
        stream::{
            DeleteMessageErrorKind, LastRawMessageErrorKind, RawMessageErrorKind, Stream as Handle,
        },
    },
};
use events::{DEAD_LETTERS, Stream, dead_letter_subject};
use tokio::time::Instant;

use super::letter::Letter;
use crate::{Bus, PublishError, ReadError, StreamUnusable, headers, publish::Sending};

/// The longest time for publishing one letter again.
const WITHIN: Duration = Duration::from_secs(10);

/// A dead letter cannot be read, redriven or erased.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is no letter with this number.
    #[error("there is no dead letter {0}")]
    Missing(u64),
    /// The letter is handled by another process, or names a subject of another stream.
    #[error(
        "dead letter {sequence} is from subject {subject} of stream {stream}, \
         which this process does not consume"
    )]
    Foreign {
        /// The number of the letter.
        sequence: u64,
        /// The stream that the letter names.
        stream: String,
        /// The subject that the letter names.
        subject: String,
    },
    /// `DEAD_LETTERS` is missing.
    #[error(transparent)]
    Stream(#[from] StreamUnusable),
    /// `DEAD_LETTERS` cannot be read.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// The letter was not published, so it stays.
    #[error("dead letter {sequence} stays, it could not be published to {subject}: {why}")]
    NotPublished {
        /// The number of the letter.
        sequence: u64,
        /// The subject.
        subject: String,
        /// The reason.
        why: PublishError,
    },
    /// The letter could not be removed.
    #[error("dead letter {sequence} could not be erased: {why}")]
    NotErased {
        /// The number of the letter.
        sequence: u64,
        /// The reason.
        why: String,
    },
}

fn broken(error: &impl ToString) -> DeadLetterError {
    ReadError::broken(&DEAD_LETTERS, error).into()
}

/// The dead letters of the streams that one process consumes.
pub(crate) struct DeadLetters<'a> {
    bus: &'a Bus,
    streams: &'a [&'static Stream],
    handle: Handle<()>,
    /// The last number at the beginning. A letter that comes back while others are redriven is
    /// not taken again.
    last: u64,
}

impl<'a> DeadLetters<'a> {
    pub(crate) async fn open(
        bus: &'a Bus,
        streams: &'a [&'static Stream],
    ) -> Result<Self, DeadLetterError> {
        let last = bus.stream_info(&DEAD_LETTERS).await?.state.last_sequence;
        let handle = bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await;
        let handle = handle.map_err(|error| broken(&error))?;
        Ok(Self { bus, streams, handle, last })
    }

    /// Returns the first letter of any of the streams behind a number, if there is one.
    pub(crate) async fn next(&self, behind: u64) -> Result<Option<Letter>, DeadLetterError> {
        let mut first: Option<Letter> = None;
        for stream in self.streams {
            let subject = dead_letter_subject(stream);
            let found = self.handle.get_first_raw_message_by_subject(&subject, behind + 1).await;
            match found {
                Ok(message) => {
                    let letter = Letter::read(message);
                    if first.as_ref().is_none_or(|first| letter.sequence < first.sequence) {
                        first = Some(letter);
                    }
                }
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(first.filter(|letter| letter.sequence <= self.last))
    }

    /// Returns the letter with a number.
    pub(crate) async fn get(&self, sequence: u64) -> Result<Letter, DeadLetterError> {
        let message = match self.handle.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) => {
                return Err(match error.kind() {
                    RawMessageErrorKind::NoMessageFound => DeadLetterError::Missing(sequence),
                    _ => broken(&error),
                });
            }
        };
        let letter = Letter::read(message);
        self.stream_of(&letter)?;
        Ok(letter)
    }

    /// Publishes a letter to its stream again, and removes it once it is there. Returns its new
    /// place in the stream.
    ///
    /// If the letter cannot be removed, the next redrive publishes it once more. Consumers tolerate
    /// that, as they tolerate a redelivery.
    pub(crate) async fn redrive(&self, letter: &Letter) -> Result<u64, DeadLetterError> {
        let stream = self.stream_of(letter)?;
        let subject = letter.origin.subject.clone();
        let mut headers = letter.original_headers();
        headers::set(&mut headers, NATS_MESSAGE_ID, &letter.redrive_id());
        let payload = letter.payload.clone();
        let sending = Sending { stream, subject: subject.clone().into(), headers, payload };
        let published = self.bus.send_until(sending, Instant::now() + WITHIN).await;
        let sequence = letter.sequence;
        let published =
            published.map_err(|why| DeadLetterError::NotPublished { sequence, subject, why })?;
        self.erase(sequence).await?;
        Ok(published.sequence)
    }

    /// Removes a letter, and overwrites its bytes. A letter that is gone already is no error.
    pub(crate) async fn erase(&self, sequence: u64) -> Result<(), DeadLetterError> {
        match self.handle.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                DeleteMessageErrorKind::JetStream(answer)
                    if answer.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
                {
                    Ok(())
                }
                _ => Err(DeadLetterError::NotErased { sequence, why: error.to_string() }),
            },
        }
    }

    fn stream_of(&self, letter: &Letter) -> Result<&'static Stream, DeadLetterError> {
        let own = self.streams.iter().find(|stream| letter.belongs_to(stream));
        own.copied().ok_or_else(|| DeadLetterError::Foreign {
            sequence: letter.sequence,
            stream: letter.origin.stream.clone(),
            subject: letter.origin.subject.clone(),
        })
    }
}

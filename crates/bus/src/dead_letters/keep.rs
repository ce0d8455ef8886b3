//! Storing a dead letter.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::{NATS_MESSAGE_ID, NATS_MESSAGE_TTL},
};
use bytes::Bytes;
use events::{CONTACTS, Consumer, DEAD_LETTER_AGE, DEAD_LETTERS, dead_letter_subject};
use tokio::time::Instant;

use super::letter::Origin;
use crate::{Bus, PublishError, Published, headers, publish::Sending};

/// A message that is given up, or a part of one.
pub(crate) struct DeadLetter<'a> {
    /// The consumer that gives it up.
    pub(crate) consumer: &'a Consumer,
    /// The place of the message in its stream.
    pub(crate) sequence: u64,
    /// The number of deliveries of the message.
    pub(crate) deliveries: u64,
    /// The subject of the message.
    pub(crate) subject: String,
    /// The headers of the message.
    pub(crate) headers: Option<HeaderMap>,
    /// The bytes that are kept.
    pub(crate) part: Part,
}

/// The bytes of a message, or of one part of it.
pub(crate) struct Part {
    /// The place of the part in the message, if it is not the whole.
    pub(crate) index: Option<usize>,
    /// The bytes.
    pub(crate) payload: Bytes,
}

impl Bus {
    /// Stores a dead letter. Storing the same one again has no effect.
    pub(crate) async fn store_dead_letter(
        &self,
        letter: DeadLetter<'_>,
        reason: &str,
        within: Duration,
    ) -> Result<Published, PublishError> {
        let stream = letter.consumer.stream;
        let origin = Origin {
            stream: stream.name.to_owned(),
            sequence: letter.sequence,
            part: letter.part.index,
            subject: letter.subject,
            consumer: letter.consumer.name.clone(),
            deliveries: letter.deliveries,
        };
        let mut headers = origin.headers(letter.headers.as_ref(), reason);
        headers::set(&mut headers, NATS_MESSAGE_ID, &origin.message_id());
        // An accepted contact is kept until a person has decided about it.
        if *stream != CONTACTS {
            let age = format!("{}s", DEAD_LETTER_AGE.as_secs());
            headers::set(&mut headers, NATS_MESSAGE_TTL, &age);
        }
        let subject = dead_letter_subject(stream).into();
        let payload = letter.part.payload;
        let sending = Sending { stream: &DEAD_LETTERS, subject, headers, payload };
        self.send_until(sending, Instant::now() + within).await
    }
}

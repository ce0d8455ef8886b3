//! Dead letters: the original bytes and headers of a message, and the reason.

use std::time::Duration;

use async_nats::{
    HeaderMap, HeaderValue,
    header::{NATS_MESSAGE_ID, NATS_MESSAGE_TTL},
};
use bytes::Bytes;
use events::{CONTACTS, Consumer, DEAD_LETTER_AGE, dead_letter_subject};
use tokio::time::Instant;

use crate::{Bus, PublishError, Published, headers, publish::Sending};

/// The prefix for headers that were meant for the server.
const ORIGINAL: &str = "Original-";

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;

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
        let mut headers = HeaderMap::new();
        // The server would act on its own headers (`Nats-*`) again, so they get another name.
        for (name, values) in letter.headers.iter().flat_map(HeaderMap::iter) {
            let name = name.to_string();
            let own = name.to_ascii_lowercase().starts_with("nats-");
            let kept = if own { format!("{ORIGINAL}{name}") } else { name };
            for value in values {
                headers.append(kept.as_str(), value.clone());
            }
        }
        let mut id = format!("{}.{}", stream.name, letter.sequence);
        if let Some(index) = letter.part.index {
            headers.insert("Dead-Letter-Part", HeaderValue::from(index as u64));
            id = format!("{id}.{index}");
        }
        headers.insert("Dead-Letter-Stream", HeaderValue::from(stream.name));
        headers.insert("Dead-Letter-Sequence", HeaderValue::from(letter.sequence));
        headers.insert("Dead-Letter-Deliveries", HeaderValue::from(letter.deliveries));
        headers::set(&mut headers, "Dead-Letter-Subject", &letter.subject);
        headers::set(&mut headers, "Dead-Letter-Consumer", &letter.consumer.name);
        headers::set(&mut headers, "Dead-Letter-Reason", &one_line(reason));
        headers::set(&mut headers, NATS_MESSAGE_ID, &id);
        // An accepted contact is kept until a person has decided about it.
        if *stream != CONTACTS {
            let age = format!("{}s", DEAD_LETTER_AGE.as_secs());
            headers::set(&mut headers, NATS_MESSAGE_TTL, &age);
        }
        let subject = dead_letter_subject(stream).into();
        let sending = Sending { subject, headers, payload: letter.part.payload };
        self.send_until(sending, Instant::now() + within).await
    }
}

/// Returns a reason as a header's value: one line of bounded length.
fn one_line(reason: &str) -> String {
    let mut line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end =
        (0..=MAX_REASON.min(line.len())).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    line.truncate(end);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(one_line("a\r\nb"), "a  b");
        assert_eq!(one_line(&"ü".repeat(1000)).len(), MAX_REASON);
    }
}

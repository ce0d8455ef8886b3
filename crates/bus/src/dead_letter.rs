//! Dead letters: the original bytes and headers, and why.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use events::{Consumer, dead_letter_subject};

use crate::{Bus, PublishError, Published, headers};

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;

/// What is known of the message when it is given up.
pub(crate) struct DeadLetter<'a> {
    /// Who gives it up.
    pub(crate) consumer: &'a Consumer,
    /// Its place in its stream.
    pub(crate) sequence: u64,
    /// How often it was delivered.
    pub(crate) deliveries: u64,
    /// Where it was published.
    pub(crate) subject: String,
    /// Its headers.
    pub(crate) headers: Option<HeaderMap>,
    /// Its bytes.
    pub(crate) payload: Bytes,
}

impl Bus {
    /// Stores a dead letter. The same one again is stored once.
    pub(crate) async fn store_dead_letter(
        &self,
        letter: DeadLetter<'_>,
        reason: &str,
    ) -> Result<Published, PublishError> {
        let stream = letter.consumer.stream;
        let mut headers = HeaderMap::new();
        // Headers that speak to the server (`Nats-*`) would be obeyed again; they are kept under another name.
        for (name, values) in letter.headers.iter().flat_map(HeaderMap::iter) {
            let name = name.to_string();
            let kept = if name.to_ascii_lowercase().starts_with("nats-") {
                format!("Original-{name}")
            } else {
                name
            };
            for value in values {
                headers.append(kept.as_str(), value.clone());
            }
        }
        let plain = |value: u64| HeaderValue::from(value);
        headers.insert("Dead-Letter-Stream", HeaderValue::from(stream.name));
        headers.insert("Dead-Letter-Sequence", plain(letter.sequence));
        headers.insert("Dead-Letter-Deliveries", plain(letter.deliveries));
        headers::set(&mut headers, "Dead-Letter-Subject", &letter.subject);
        headers::set(&mut headers, "Dead-Letter-Consumer", &letter.consumer.name);
        headers::set(&mut headers, "Dead-Letter-Reason", &one_line(reason));
        headers::set(
            &mut headers,
            NATS_MESSAGE_ID,
            &format!("{}.{}", stream.name, letter.sequence),
        );
        self.send_raw(dead_letter_subject(stream), headers, letter.payload, Duration::from_secs(5))
            .await
    }
}

/// A header's value is one line of bounded length.
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

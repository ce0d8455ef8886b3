//! The form of a dead letter: the original bytes and headers, and headers that say where they come
//! from and why they are here. Pure.

use std::fmt;

use async_nats::{
    HeaderMap, HeaderValue, header::IntoHeaderName, jetstream::message::StreamMessage,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use events::Stream;

use crate::headers;

/// The prefix for headers that were meant for the server.
const ORIGINAL: &str = "Original-";

/// The prefix of the server's own headers, in lower case.
const OF_SERVER: &str = "nats-";

const STREAM: &str = "Dead-Letter-Stream";
const SEQUENCE: &str = "Dead-Letter-Sequence";
const PART: &str = "Dead-Letter-Part";
const SUBJECT: &str = "Dead-Letter-Subject";
const CONSUMER: &str = "Dead-Letter-Consumer";
const DELIVERIES: &str = "Dead-Letter-Deliveries";
const REASON: &str = "Dead-Letter-Reason";

/// All headers that a dead letter adds to the original ones.
const ADDED: [&str; 7] = [STREAM, SEQUENCE, PART, SUBJECT, CONSUMER, DELIVERIES, REASON];

/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;

/// The origin of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The name of the stream.
    pub(crate) stream: String,
    /// The place of the message in the stream.
    pub(crate) sequence: u64,
    /// The place of the part in the message, if the letter does not hold the whole message.
    pub(crate) part: Option<usize>,
    /// The subject of the message.
    pub(crate) subject: String,
    /// The consumer that gave the message up.
    pub(crate) consumer: String,
    /// The number of deliveries of the message.
    pub(crate) deliveries: u64,
}

impl Origin {
    /// Returns the id of the dead letter, by which the server recognises a repetition.
    pub(crate) fn message_id(&self) -> String {
        let Self { stream, sequence, .. } = self;
        match self.part {
            None => format!("{stream}.{sequence}"),
            Some(part) => format!("{stream}.{sequence}.{part}"),
        }
    }

    /// Returns the headers of a dead letter.
    pub(crate) fn headers(&self, original: Option<&HeaderMap>, reason: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // The server would act on its own headers again, so they get another name.
        for (name, values) in original.iter().flat_map(|headers| headers.iter()) {
            let name = name.to_string();
            let kept = if is_of_server(&name) { format!("{ORIGINAL}{name}") } else { name };
            for value in values {
                headers.append(kept.as_str(), value.clone());
            }
        }
        headers.insert(SEQUENCE, HeaderValue::from(self.sequence));
        headers.insert(DELIVERIES, HeaderValue::from(self.deliveries));
        if let Some(part) = self.part {
            headers.insert(PART, HeaderValue::from(part as u64));
        }
        headers::set(&mut headers, STREAM, &self.stream);
        headers::set(&mut headers, SUBJECT, &self.subject);
        headers::set(&mut headers, CONSUMER, &self.consumer);
        headers::set(&mut headers, REASON, &one_line(reason));
        headers
    }
}

/// A dead letter that was read.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The place of the letter in `DEAD_LETTERS`.
    pub(crate) sequence: u64,
    /// The time at which the message was given up.
    pub(crate) since: DateTime<Utc>,
    /// The origin.
    pub(crate) origin: Origin,
    /// The reason: one line without data of the message.
    pub(crate) reason: String,
    headers: HeaderMap,
    /// The original bytes.
    pub(crate) payload: Bytes,
}

impl Letter {
    /// Reads a message of `DEAD_LETTERS`.
    pub(crate) fn read(message: StreamMessage) -> Self {
        let StreamMessage { sequence, time, headers, payload, .. } = message;
        let since = DateTime::from_timestamp(time.unix_timestamp(), time.nanosecond());
        Self::new(sequence, since.unwrap_or_default(), headers, payload)
    }

    /// Reads the headers of a letter. One that is missing leaves its field empty.
    fn new(sequence: u64, since: DateTime<Utc>, headers: HeaderMap, payload: Bytes) -> Self {
        let number = |name: &str| text(&headers, name).parse().ok();
        let origin = Origin {
            stream: text(&headers, STREAM).to_owned(),
            sequence: number(SEQUENCE).unwrap_or_default(),
            part: text(&headers, PART).parse().ok(),
            subject: text(&headers, SUBJECT).to_owned(),
            consumer: text(&headers, CONSUMER).to_owned(),
            deliveries: number(DELIVERIES).unwrap_or_default(),
        };
        let reason = text(&headers, REASON).to_owned();
        Self { sequence, since, origin, reason, headers, payload }
    }

    /// Returns the headers with which the original message was published, without those of the
    /// server.
    pub(crate) fn original_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in self.headers.iter() {
            let name = name.to_string();
            let of_server = is_of_server(name.strip_prefix(ORIGINAL).unwrap_or(&name));
            if of_server || ADDED.iter().any(|added| name.eq_ignore_ascii_case(added)) {
                continue;
            }
            for value in values {
                headers.append(name.as_str(), value.clone());
            }
        }
        headers
    }

    /// Returns the id with which the letter is published again. The time tells a letter from one
    /// that had the same number before `DEAD_LETTERS` was replaced.
    pub(crate) fn redrive_id(&self) -> String {
        format!("redrive.{}.{}", self.sequence, self.since.timestamp_micros())
    }

    /// Returns whether the original subject belongs to the stream. Anyone who may write dead
    /// letters chooses this subject, so it is checked before anything is published there.
    pub(crate) fn belongs_to(&self, stream: &Stream) -> bool {
        self.origin.stream == stream.name
            && stream.subjects.iter().any(|pattern| matches(pattern, &self.origin.subject))
    }

    /// Returns the time at which the message was given up, in seconds, as text.
    pub(crate) fn since(&self) -> String {
        self.since.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// Describes a letter for a person, without its payload.
impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { stream, sequence, part, subject, consumer, deliveries } = &self.origin;
        let part = part.map_or_else(String::new, |part| format!(", contact {part} of its group"));
        writeln!(f, "dead letter  {}, since {}", self.sequence, self.since())?;
        writeln!(f, "from         message {sequence} of {stream}, subject {subject}{part}")?;
        writeln!(f, "given up by  {consumer}, after deliveries: {deliveries}")?;
        writeln!(f, "reason       {}", self.reason)?;
        for (name, values) in self.original_headers().iter() {
            for value in values {
                writeln!(f, "header       {name}: {}", value.as_str())?;
            }
        }
        write!(f, "payload      {} bytes", self.payload.len())
    }
}

fn text<N: IntoHeaderName>(headers: &HeaderMap, name: N) -> &str {
    headers.get(name).map(HeaderValue::as_str).unwrap_or_default()
}

fn is_of_server(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with(OF_SERVER)
}

/// Returns whether a subject fits a pattern, in which `*` is any one token.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(token)) if !token.is_empty() && !"*>".contains(token) => {}
            (Some(wanted), Some(token)) if wanted == token && wanted != "*" => {}
            _ => return false,
        }
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
    use events::{CONTACTS, PIPELINE};

    use super::*;

    fn letter(origin: &Origin, original: &HeaderMap) -> Letter {
        let mut headers = origin.headers(Some(original), "it never\nworks");
        // As the bus adds them.
        headers.insert("Nats-Msg-Id", origin.message_id().as_str());
        headers.insert("Nats-TTL", "90s");
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Letter::new(7, since, headers, "{}".into())
    }

    fn origin(part: Option<usize>) -> Origin {
        Origin {
            stream: "CONTACTS".to_owned(),
            sequence: 3,
            part,
            subject: "contacts.submitted".to_owned(),
            consumer: "contact-worker".to_owned(),
            deliveries: 2,
        }
    }

    #[test]
    fn a_letter_keeps_its_origin_and_gives_the_original_headers_back() {
        let mut original = HeaderMap::new();
        original.insert("traceparent", "00-aa-bb-01");
        original.insert("Nats-Msg-Id", "first");
        for part in [None, Some(4)] {
            let letter = letter(&origin(part), &original);
            assert_eq!((&letter.origin, letter.reason.as_str()), (&origin(part), "it never works"));
            assert_eq!(text(&letter.headers, "Original-Nats-Msg-Id"), "first");
            let back = letter.original_headers();
            assert_eq!((text(&back, "traceparent"), back.len()), ("00-aa-bb-01", 1), "{back:?}");
            assert_eq!(letter.redrive_id(), "redrive.7.1800000000000000");
        }
    }

    #[test]
    fn a_letter_is_described_without_its_payload() {
        let mut original = HeaderMap::new();
        original.insert("traceparent", "00-aa-bb-01");
        let shown = letter(&origin(Some(4)), &original).to_string();
        let expected = "\
dead letter  7, since 2027-01-15T08:00:00Z
from         message 3 of CONTACTS, subject contacts.submitted, contact 4 of its group
given up by  contact-worker, after deliveries: 2
reason       it never works
header       traceparent: 00-aa-bb-01
payload      2 bytes";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_letter_goes_back_to_its_own_stream_only() {
        for (stream, subject, expected) in [
            ("CONTACTS", "contacts.submitted", true),
            ("CONTACTS", "deploy.portfolio", false),
            ("CONTACTS", "contacts.submitted.more", false),
            ("PIPELINE", "contacts.submitted", false),
        ] {
            let origin =
                Origin { stream: stream.to_owned(), subject: subject.to_owned(), ..origin(None) };
            let found = letter(&origin, &HeaderMap::new()).belongs_to(&CONTACTS);
            assert_eq!(found, expected, "{stream} {subject}");
        }
        for (subject, expected) in [
            ("pipeline.build.site", true),
            ("pipeline.build", false),
            ("pipeline.build.", false),
            ("pipeline.build.*", false),
            ("pipeline.build.>", false),
            ("pipeline.build.a.b", false),
        ] {
            assert_eq!(matches(PIPELINE.subjects[0], subject), expected, "{subject}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(one_line("a\r\nb"), "a  b");
        assert_eq!(one_line(&"ü".repeat(1000)).len(), MAX_REASON);
    }
}

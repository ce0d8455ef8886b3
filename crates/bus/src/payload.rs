//! Reading the payload of a message. Pure.

use anyhow::anyhow;
use events::Event;
use serde::Deserialize;

use crate::Failure;

/// The version alone, of a payload that cannot be read otherwise.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// Reads a payload. The reason in the error holds none of the payload's data. A payload of an
/// unknown version waits for a process that can read it.
pub(crate) fn read<E: Event>(payload: &[u8]) -> Result<E, Failure> {
    serde_json::from_slice(payload).map_err(|error| {
        match serde_json::from_slice::<Versioned>(payload) {
            Ok(Versioned { v }) if !E::VERSIONS.contains(&v) => Failure::Blocked(anyhow!(
                "its payload version {v} is unknown: a newer version of this process is needed"
            )),
            _ => Failure::Permanent(anyhow!(undecodable(E::TYPE, &error))),
        }
    })
}

/// Describes an error of serde without the value that it quotes, which may be personal data. The
/// names of our fields are safe.
fn undecodable(event_type: &str, error: &serde_json::Error) -> String {
    let words = error.to_string();
    let safe = words.starts_with("missing field `") || words.starts_with("payload version ");
    let what = if safe {
        words.split(" at line ").next().unwrap_or_default().to_owned()
    } else {
        format!("{:?} error", error.classify()).to_lowercase()
    };
    // An error about the whole payload has no place in it.
    let place = match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    };
    format!("not a {event_type}: {what}{place}")
}

#[cfg(test)]
mod tests {
    use events::ContactGroup;

    use super::*;

    #[test]
    fn the_reason_why_a_payload_cannot_be_read_holds_no_data() {
        for (text, expected) in [
            ("{", "not a portfolio.contact.submitted: eof error at line 1 column 1"),
            ("hunter2", "not a portfolio.contact.submitted: syntax error at line 1 column 1"),
            (
                r#"{"v":1,"id":"ada@example.org"}"#,
                "not a portfolio.contact.submitted: data error at line 1 column 29",
            ),
            (r#"{"v":1}"#, "not a portfolio.contact.submitted: missing field `id`"),
            (
                r#"{"v":1,"ada@example.org":1,"v":1}"#,
                "not a portfolio.contact.submitted: data error at line 1 column 30",
            ),
        ] {
            let failure = read::<ContactGroup>(text.as_bytes()).unwrap_err();
            assert!(matches!(failure, Failure::Permanent(_)), "{text}");
            assert_eq!(failure.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_payload_of_an_unknown_version_waits() {
        let failure = read::<ContactGroup>(br#"{"v":3,"contacts":[]}"#).unwrap_err();
        assert!(matches!(failure, Failure::Blocked(_)));
        assert_eq!(
            failure.to_string(),
            "waits: its payload version 3 is unknown: a newer version of this process is needed"
        );
    }
}

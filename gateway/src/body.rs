//! Reads a request's body: bounded in size and time, as JSON or as a form.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::problem::Problem;

/// The largest body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// How long a client may take to send it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The form of a body, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Form,
}

/// What a contact may come in.
pub(crate) const BOTH: [Format; 2] = [Format::Json, Format::Form];

/// Reads JSON only.
pub(crate) async fn json(headers: &HeaderMap, body: Body) -> Result<Value, Problem> {
    let format = format(headers, &[Format::Json])?;
    parse(format, &read(headers, body).await?)
}

/// Reads JSON or a form.
pub(crate) async fn json_or_form(headers: &HeaderMap, body: Body) -> Result<Value, Problem> {
    let format = format(headers, &BOTH)?;
    parse(format, &read(headers, body).await?)
}

/// The announced format, if it is one of those that are taken.
pub(crate) fn format(headers: &HeaderMap, taken: &[Format]) -> Result<Format, Problem> {
    let value =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let format = match media_type.as_str() {
        "application/json" => Some(Format::Json),
        "application/x-www-form-urlencoded" => Some(Format::Form),
        // RFC 6839: a structured syntax suffix tells the syntax.
        other if other.starts_with("application/") && other.ends_with("+json") => {
            Some(Format::Json)
        }
        _ => None,
    };
    format.filter(|format| taken.contains(format)).ok_or_else(|| {
        let detail = match taken {
            [Format::Json] => "the Content-Type has to be application/json",
            _ => "the Content-Type has to be application/json or application/x-www-form-urlencoded",
        };
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    })
}

/// Reads all of it.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB");
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body did not arrive whole")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 s"))
        }
    }
}

pub(crate) fn parse(format: Format, bytes: &[u8]) -> Result<Value, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    match format {
        // serde_json names line and column, and quotes nothing of what it read here: any value is a Value.
        Format::Json => {
            serde_json::from_slice(bytes).map_err(|error| bad(format!("not JSON: {error}")))
        }
        Format::Form => {
            let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes)
                .map_err(|_| bad("not a URL-encoded form".to_owned()))?;
            // Browsers send a line break as CR LF whatever was typed, which would count twice.
            let fields =
                pairs.into_iter().map(|(name, value)| (name, value.replace("\r\n", "\n").into()));
            Ok(Value::Object(fields.collect::<Map<_, _>>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_announced_formats_are_taken() {
        let judge = |value: &str, taken: &[Format]| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            format(&headers, taken).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(judge("application/json", &BOTH), Ok(Format::Json));
        assert_eq!(judge("Application/JSON; charset=utf-8", &BOTH), Ok(Format::Json));
        assert_eq!(judge("application/vnd.x+json", &BOTH), Ok(Format::Json));
        assert_eq!(judge("application/x-www-form-urlencoded", &BOTH), Ok(Format::Form));
        assert_eq!(judge("application/x-www-form-urlencoded", &[Format::Json]), Err(415));
        assert_eq!(judge("text/plain", &BOTH), Err(415));
        assert_eq!(judge("", &BOTH), Err(415));
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let deep = "[".repeat(10_000);
        for (text, place) in [
            ("{\n  \"a\": }", "line 2 column 8"),
            ("", "line 1 column 0"),
            (deep.as_str(), "recursion limit exceeded at line 1 column 128"),
            (r#"{"a": "\ud800"}"#, "line 1 column"),
            ("{\"a\": \"\u{1}\"}", "line 1 column"),
            (r#"{"a": 1} x"#, "line 1 column 10"),
        ] {
            let problem = parse(Format::Json, text.as_bytes()).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.detail().contains(place), "{}", problem.detail());
        }
        assert_eq!(parse(Format::Json, b"{\"a\": \"\xff\"}").unwrap_err().status(), 400);
    }
}

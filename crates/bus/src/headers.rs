//! The headers of a message: its id for deduplication, CloudEvents' attributes in binary mode, and the trace context.

use async_nats::{HeaderMap, HeaderName, HeaderValue, header::NATS_MESSAGE_ID};
use chrono::{SecondsFormat, Utc};
use events::Event;
use opentelemetry::Context;
use tracing::Span;

use service::propagation;

/// The headers of an event of ours.
pub(crate) fn of_event<E: Event>(event: &E, source: &str, span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let id = event.message_id();
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", &format!("/{source}")),
        ("ce-type", E::TYPE),
        ("ce-time", &now),
        ("content-type", "application/json"),
    ] {
        set(&mut headers, HeaderName::from_static(name), value);
    }
    set(&mut headers, NATS_MESSAGE_ID, &id);
    propagation::inject(span, |name, value| set(&mut headers, name, &value));
    headers
}

/// Sets a header, unless its value could end the line: then it is left out rather than let in.
pub(crate) fn set<N: async_nats::header::IntoHeaderName>(
    headers: &mut HeaderMap,
    name: N,
    value: &str,
) {
    if let Ok(value) = value.parse::<HeaderValue>() {
        headers.insert(name, value);
    }
}

/// The trace context that a message carries.
pub(crate) fn trace_context(headers: Option<&HeaderMap>) -> Context {
    propagation::extract(|name| {
        headers.and_then(|headers| headers.get(name)).map(HeaderValue::as_str)
    })
}

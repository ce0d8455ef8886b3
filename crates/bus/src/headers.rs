//! The headers of a message: its id for deduplication, and the trace context.

use async_nats::{HeaderMap, HeaderValue, header::NATS_MESSAGE_ID};
use events::Event;
use opentelemetry::Context;
use service::propagation;
use tracing::Span;

/// Returns the headers of an event.
pub(crate) fn of_event<E: Event>(event: &E, span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, NATS_MESSAGE_ID, &event.message_id());
    propagation::inject(span, |name, value| set(&mut headers, name, &value));
    headers
}

/// Sets a header. A value that could end the line is left out.
pub(crate) fn set<N: async_nats::header::IntoHeaderName>(
    headers: &mut HeaderMap,
    name: N,
    value: &str,
) {
    if let Ok(value) = value.parse::<HeaderValue>() {
        headers.insert(name, value);
    }
}

/// Returns the trace context that a message carries.
pub(crate) fn trace_context(headers: Option<&HeaderMap>) -> Context {
    propagation::extract(|name| {
        headers.and_then(|headers| headers.get(name)).map(HeaderValue::as_str)
    })
}

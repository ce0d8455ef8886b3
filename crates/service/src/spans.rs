//! Adds a status, attributes and links to spans after they have started.

use opentelemetry::{
    Array, Value,
    trace::{SpanContext, Status},
};
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Marks a span as failed: sets its status to the description and `error.type` to the kind.
///
/// The kind is one of a small set of values, by which traces can be grouped.
pub fn failed(span: &Span, kind: &str, description: impl Into<String>) {
    span.set_attribute(ERROR_TYPE, kind.to_owned());
    span.set_status(Status::error(description.into()));
}

/// Adds an attribute to a span for its trace only: log lines do not show it.
pub fn note(span: &Span, name: &'static str, value: impl Into<Value>) {
    span.set_attribute(name, value);
}

/// Adds an attribute whose value is a list, for the trace only.
pub fn note_list(span: &Span, name: &'static str, values: Vec<String>) {
    let values = values.into_iter().map(Into::into).collect();
    span.set_attribute(name, Value::Array(Array::String(values)));
}

/// Links a span to another one, unless the other one is not sampled.
pub fn link(span: &Span, other: &SpanContext) {
    if other.is_sampled() {
        span.add_link(other.clone());
    }
}

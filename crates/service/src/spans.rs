//! What is told of a span once more is known than at its begin.

use opentelemetry::{
    Array, Value,
    trace::{SpanContext, Status},
};
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Notes that what a span is about failed: its status, and `error.type`, which is one of few.
pub fn failed(span: &Span, kind: &str, description: impl Into<String>) {
    span.set_attribute(ERROR_TYPE, kind.to_owned());
    span.set_status(Status::error(description.into()));
}

/// Adds an attribute that log lines do not need.
pub fn note(span: &Span, name: &'static str, value: impl Into<Value>) {
    span.set_attribute(name, value);
}

/// Adds an attribute that is a list.
pub fn note_list(span: &Span, name: &'static str, values: Vec<String>) {
    let values = values.into_iter().map(Into::into).collect();
    span.set_attribute(name, Value::Array(Array::String(values)));
}

/// Links a span to another one, unless that is recorded nowhere.
pub fn link(span: &Span, other: &SpanContext) {
    if other.is_sampled() {
        span.add_link(other.clone());
    }
}

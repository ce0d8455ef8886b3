//! Trace context over HTTP and over the bus, in the headers of W3C Trace Context: `traceparent` and
//! `tracestate`.

use opentelemetry::{
    Context, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::display};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The headers that carry a trace context.
const NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// Reads the trace context from headers, which `get` returns by name.
///
/// Headers that are not valid yield an empty context.
pub fn extract<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> Context {
    let found = Found(NAMES.map(get));
    // Starts from an empty context: without headers, the caller has no trace, and the current
    // context must not be taken for the caller's.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &found)
}

/// The length of the longest `tracestate` that is passed on, in bytes.
///
/// The standard allows longer ones to be dropped.
const MAX_TRACESTATE: usize = 512;

/// Writes the trace context of a span into headers, by calling `set` with each name and value.
///
/// An empty `tracestate`, and one of more than 512 bytes, is left out.
pub fn inject(span: &Span, mut set: impl FnMut(&str, String)) {
    let set = |name: &str, value: String| {
        if !value.is_empty() && value.len() <= MAX_TRACESTATE {
            set(name, value);
        }
    };
    TraceContextPropagator::new().inject_context(&span.context(), &mut Set(set));
}

/// Makes a span the child of a remote span and records the id of their trace in its field
/// `trace_id`, which all log lines within the span show.
///
/// The span must not have been entered yet.
pub fn adopt(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid() {
        // Fails only if no OpenTelemetry layer is installed, as in unit tests.
        let _ = span.set_parent(parent);
    }
    span.record("trace_id", display(trace_id(span)));
}

/// Returns the id of the trace that a span belongs to.
pub fn trace_id(span: &Span) -> TraceId {
    span.context().span().span_context().trace_id()
}

/// Returns the id of a span's trace as text, or `None` if the span belongs to no trace.
pub fn trace_name(span: &Span) -> Option<String> {
    let id = trace_id(span);
    (id != TraceId::INVALID).then(|| id.to_string())
}

/// Returns true if the attributes of a span are recorded.
pub fn is_recorded(span: &Span) -> bool {
    span.context().span().is_recording()
}

/// Returns the context of a span, to which other spans can link.
pub fn span_context(span: &Span) -> SpanContext {
    span.context().span().span_context().clone()
}

/// Returns true if a span belongs to a trace but is not recorded.
pub fn is_unrecorded(span: &Span) -> bool {
    let context = span.context();
    let span = context.span();
    span.span_context().is_valid() && !span.is_recording()
}

/// Returns the span's context as a `traceparent` header, or `None` if the span has no trace.
pub fn traceparent(span: &Span) -> Option<String> {
    let context = span_context(span);
    context.is_valid().then(|| written(&context))
}

/// Returns the span's context as a `traceresponse` header (W3C Trace Context, level 2), which has
/// the form of a `traceparent`.
pub fn traceresponse(span: &Span) -> String {
    written(&span_context(span))
}

/// Formats a context as the value of a `traceparent` header.
fn written(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// The values of the headers in [`NAMES`], in the same order.
struct Found<'a>([Option<&'a str>; 2]);

impl Extractor for Found<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        NAMES.iter().position(|name| *name == key).and_then(|index| self.0[index])
    }

    fn keys(&self) -> Vec<&str> {
        NAMES.to_vec()
    }
}

/// An injector that passes each header to a function.
struct Set<F>(F);

impl<F: FnMut(&str, String)> Injector for Set<F> {
    fn set(&mut self, key: &str, value: String) {
        (self.0)(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_context_is_read() {
        let read = |text: &'static str| {
            let context = extract(|name| (name == "traceparent").then_some(text));
            context.span().span_context().trace_id().to_string()
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), trace);
        for nonsense in
            ["", "00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "zz-x-y-01", "ü"]
        {
            assert_eq!(read(nonsense), TraceId::INVALID.to_string(), "{nonsense}");
        }
    }
}

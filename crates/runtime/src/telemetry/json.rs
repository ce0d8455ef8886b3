//! Log lines as flat JSON objects: the event's fields beside those of its spans, so that `trace_id` is found at the top.

use std::fmt;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, JsonFields, Writer},
    },
    registry::{LookupSpan, Scope},
};

/// Writes one object a line: `timestamp`, `level`, `message`, `target`, then the fields. A span nearer to the event wins
/// over one around it, and the event over both.
pub(super) struct Lines;

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let text = extensions.get::<FormattedFields<JsonFields>>().map_or("", |formatted| formatted.as_str());
            if let Ok(Value::Object(of_span)) = serde_json::from_str(text) {
                fields.extend(of_span);
            }
        }
        event.record(&mut Collect(&mut fields));
        // Spans name themselves to OpenTelemetry, not to readers of logs.
        fields.retain(|name, _| !name.starts_with("otel.") && !name.starts_with("log."));

        let message = fields.remove("message").unwrap_or_default();
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let metadata = event.metadata();
        write!(writer, r#"{{"timestamp":"{timestamp}","level":"{}","message":{message}"#, metadata.level())?;
        write!(writer, r#","target":{}"#, Value::from(metadata.target()))?;
        for (name, value) in &fields {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(writer, "}}")
    }
}

/// Reads an event's fields.
struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Buffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(act: impl FnOnce()) -> Value {
        let buffer = Buffer::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(buffer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        let bytes = buffer.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_fields_of_all_spans_stand_at_the_top() {
        let line = logged(|| {
            let outer = tracing::info_span!("outer", trace_id = "abc", build.id = 1, otel.name = "x");
            let inner = tracing::info_span!(parent: &outer, "inner", build.id = 2, late = tracing::field::Empty);
            inner.record("late", "set");
            inner.in_scope(|| tracing::info!(ok = true, "said \"so\"\n"));
        });
        for (field, value) in [
            ("level", Value::from("INFO")),
            ("message", "said \"so\"\n".into()),
            ("trace_id", "abc".into()),
            ("build.id", 2.into()),
            ("late", "set".into()),
            ("ok", true.into()),
            ("otel.name", Value::Null),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
    }
}

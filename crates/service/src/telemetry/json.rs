//! Log lines as flat JSON objects, with the fields of the event and of its spans side by side.
//!
//! So `trace_id` is a field at the top level of each line.
//!
//! There are many more spans than lines, so the fields of a span are stored as values, and
//! formatted only for a line that shows them.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, Scope},
};

/// A layer that writes each event as one JSON object on a line of its own.
///
/// `timestamp`, `level`, `message` and `module` come first, then the fields. If several fields have
/// the same name, that of the event takes precedence over those of its spans, and that of an inner
/// span over that of an outer one.
pub(super) struct Lines<W>(pub(super) W);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields(Vec::with_capacity(attributes.fields().len()));
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(Fields(of_span)) = span.extensions().get() {
                fields.extend(
                    of_span.iter().map(|(name, value)| ((*name).to_owned(), value.clone())),
                );
            }
        }
        let mut own = Fields(Vec::new());
        event.record(&mut own);
        fields.extend(own.0.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if let Ok(line) = line(event, fields) {
            // If the log cannot be written to, the error cannot be reported either.
            let _ = self.0.make_writer_for(event.metadata()).write_all(line.as_bytes());
        }
    }
}

/// Formats an event as a line, with its fields and those of its spans.
fn line(event: &Event<'_>, mut fields: Map<String, Value>) -> Result<String, fmt::Error> {
    // Fields with these prefixes are meant for OpenTelemetry, not for readers of logs.
    let for_readers = |name: &str| {
        !["otel.", "log.", "messaging.", "db."].iter().any(|start| name.starts_with(start))
    };
    fields.retain(|name, _| for_readers(name));
    let message = fields.remove("message").unwrap_or_default();
    let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let metadata = event.metadata();
    let mut line = format!(
        r#"{{"timestamp":"{timestamp}","level":"{}","message":{message}"#,
        metadata.level()
    );
    write!(line, r#","module":{}"#, Value::from(metadata.target()))?;
    for (name, value) in &fields {
        write!(line, ",{}:{value}", Value::from(name.as_str()))?;
    }
    line.push_str("}\n");
    Ok(line)
}

/// The fields of a span or an event, in the order in which they were set.
///
/// A field that is set again is in the list twice, and its later value takes precedence.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
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

    use tracing_subscriber::layer::SubscriberExt;

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
        let lines = tracing_subscriber::registry().with(Lines(buffer.clone()));
        tracing::subscriber::with_default(lines, act);
        let bytes = buffer.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_fields_of_all_spans_are_at_the_top_level() {
        let line = logged(|| {
            let outer =
                tracing::info_span!("outer", trace_id = "abc", build.id = 1, otel.name = "x");
            let inner = tracing::info_span!(
                parent: &outer,
                "inner",
                build.id = 2,
                late = tracing::field::Empty
            );
            inner.record("late", "set");
            inner.in_scope(|| tracing::info!(ok = true, target = "portfolio", "said \"so\"\n"));
        });
        for (field, value) in [
            ("level", Value::from("INFO")),
            ("message", "said \"so\"\n".into()),
            ("trace_id", "abc".into()),
            ("build.id", 2.into()),
            ("late", "set".into()),
            ("ok", true.into()),
            // A field may have the name `target`: the target of the event is the field `module`.
            ("target", "portfolio".into()),
            ("module", module_path!().into()),
            ("otel.name", Value::Null),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
    }
}

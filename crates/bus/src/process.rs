//! What is done with messages: a handler says how each went, and what that means is settled here.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use events::{Consumer, Event};
use opentelemetry::{Context, TraceId, trace::TraceContextExt};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Instrument, Span, field};

use crate::metrics::ConsumerMetrics;
use crate::{
    Bus, Failure,
    dead_letter::DeadLetter,
    headers,
    settle::{Settlement, settle},
};
use service::{propagation, spans};

/// An event, as it was delivered.
#[derive(Clone, Debug)]
pub struct Delivery<E> {
    /// The event.
    pub event: E,
    /// Its place in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub deliveries: u64,
    /// The trace context that its publisher gave.
    trace: Context,
}

impl<E> Delivery<E> {
    /// The trace that the event belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.trace.span().span_context().trace_id()
    }
}

/// Handles the events of one consumer. It never touches acknowledgements.
pub trait Handler: Send + Sync + 'static {
    /// What it handles.
    type Event: Event;

    /// Waits until it can handle something. Nothing is asked of the bus before.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Handles a batch, of at least one event and at most as many as the consumer says. One result an event, in order.
    fn handle(
        &self,
        batch: Vec<Delivery<Self::Event>>,
    ) -> impl Future<Output = Vec<Result<(), Failure>>> + Send;
}

/// What stays the same from message to message.
pub(crate) struct Work<'a, H> {
    pub(crate) bus: &'a Bus,
    pub(crate) consumer: &'a Consumer,
    pub(crate) handler: &'a H,
    pub(crate) metrics: &'a ConsumerMetrics,
}

/// A message that could be read, and its event.
type Read<E> = (jetstream::Message, Delivery<E>);

impl<H: Handler> Work<'_, H> {
    /// Handles and settles messages. False if a dependency is away, so that no more is asked for.
    pub(crate) async fn process(&self, messages: Vec<jetstream::Message>) -> bool {
        let mut batch: Vec<Read<H::Event>> = Vec::with_capacity(messages.len());
        for message in messages {
            match decode::<H::Event>(&message) {
                Ok(delivery) => batch.push((message, delivery)),
                // It stands alone: the others of its batch are handled all the same.
                Err(reason) => {
                    let failure = Err(Failure::Permanent(anyhow::anyhow!(reason)));
                    let span = self.span(&[headers::trace_context(message.headers.as_ref())]);
                    tell(&span, std::slice::from_ref(&failure));
                    self.settle(&message, &failure, &span).await;
                }
            }
        }
        if batch.is_empty() {
            return true;
        }
        let traces: Vec<_> = batch.iter().map(|(_, delivery)| delivery.trace.clone()).collect();
        let span = self.span(&traces);
        let (messages, deliveries): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        // Boxed: a handler's future may be large, and there is one a batch.
        let handling = Box::pin(self.handler.handle(deliveries));
        let results = self.keeping_alive(&messages, handling).instrument(span.clone()).await;
        tell(&span, &results);
        let mut carry_on = true;
        for (message, result) in messages.iter().zip(&results) {
            carry_on &= !matches!(result, Err(Failure::Unavailable(_)));
            self.settle(message, result, &span).await;
        }
        carry_on
    }

    /// A single event's span is a child of its publisher's; a batch's is linked to each.
    fn span(&self, traces: &[Context]) -> Span {
        let span = tracing::info_span!(
            parent: None,
            "process",
            otel.name = format_args!("process {}", self.consumer.stream.name),
            otel.kind = "consumer",
            messaging.system = "nats",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = self.consumer.stream.name,
            messaging.consumer.group.name = %self.consumer.name,
            messaging.batch.message_count = field::Empty,
            trace_id = field::Empty,
        );
        if let [trace] = traces {
            propagation::adopt(&span, trace.clone());
        } else {
            span.record("messaging.batch.message_count", traces.len());
            for trace in traces {
                spans::link(&span, trace.span().span_context());
            }
            propagation::adopt(&span, Context::new());
        }
        span
    }

    /// Tells the bus that the messages are still in process, for as long as the handler takes.
    async fn keeping_alive<T>(
        &self,
        messages: &[jetstream::Message],
        mut handling: impl Future<Output = T> + Unpin,
    ) -> T {
        let mut beat = interval(self.consumer.ack_wait / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        loop {
            tokio::select! {
                result = &mut handling => return result,
                _ = beat.tick() => {
                    for message in messages {
                        // Lost with the connection; then the message is delivered again, which handlers bear.
                        let _ = message.ack_with(AckKind::Progress).await;
                    }
                }
            }
        }
    }

    async fn settle(
        &self,
        message: &jetstream::Message,
        result: &Result<(), Failure>,
        span: &Span,
    ) {
        let info = message.info();
        let (sequence, deliveries) = info.as_ref().map_or((0, 1), |info| {
            (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1))
        });
        let consumer = self.consumer.name.as_str();
        let warn = || {
            if let Err(failure) = result {
                span.in_scope(|| {
                    tracing::warn!(
                        consumer,
                        message.sequence = sequence,
                        deliveries,
                        "a message {failure}"
                    );
                });
            }
        };
        let kind = match settle(result, deliveries, self.consumer.max_deliveries) {
            Settlement::Ack => AckKind::Ack,
            Settlement::Leave => {
                warn();
                return;
            }
            Settlement::Again(delay) => {
                warn();
                AckKind::Nak((!delay.is_zero()).then_some(delay))
            }
            Settlement::DeadLetter(reason) => {
                let letter = DeadLetter {
                    consumer: self.consumer,
                    sequence,
                    deliveries,
                    subject: message.subject.to_string(),
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                };
                let trace_id = headers::trace_context(message.headers.as_ref())
                    .span()
                    .span_context()
                    .trace_id();
                match self.bus.store_dead_letter(letter, &reason).await {
                    Ok(_) => {
                        let labels = [self.consumer.stream.name, consumer];
                        self.metrics.dead_lettered.with_label_values(&labels).inc();
                        tracing::error!(%trace_id, consumer, message.sequence = sequence, "dead letter: {reason}");
                        AckKind::Term
                    }
                    Err(error) => {
                        tracing::error!(%trace_id, consumer, message.sequence = sequence,
                            "a dead letter could not be stored, the message stays: {error}");
                        AckKind::Nak(Some(Duration::from_secs(10)))
                    }
                }
            }
        };
        let outcome = match kind {
            AckKind::Ack => "settled",
            AckKind::Term => "dead_lettered",
            _ => "retried",
        };
        self.metrics
            .messages
            .with_label_values(&[self.consumer.stream.name, consumer, outcome])
            .inc();
        if let Err(error) = message.ack_with(kind).await {
            tracing::warn!(
                consumer,
                message.sequence = sequence,
                "could not settle, it will come again: {error}"
            );
        }
    }
}

/// Notes in the span of a batch how many of it failed, and why the first of them did.
fn tell(span: &Span, results: &[Result<(), Failure>]) {
    let mut failures = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|failure| failure.is_error());
    if let Some(first) = failures.next() {
        let failed = 1 + failures.count();
        let of_many = if results.len() > 1 {
            format!("{failed} of {}: ", results.len())
        } else {
            String::new()
        };
        spans::failed(span, first.kind(), format!("{of_many}{first}"));
    }
}

/// Reads an event. The reason why it cannot be read holds none of its data.
fn decode<E: Event>(message: &jetstream::Message) -> Result<Delivery<E>, String> {
    let event =
        serde_json::from_slice(&message.payload).map_err(|error| undecodable(E::TYPE, &error))?;
    let info = message.info().map_err(|error| format!("not a message of a stream: {error}"))?;
    let deliveries = u64::try_from(info.delivered).unwrap_or(1);
    Ok(Delivery {
        event,
        sequence: info.stream_sequence,
        deliveries,
        trace: headers::trace_context(message.headers.as_ref()),
    })
}

/// serde's own words quote what they found, which may be somebody's data. The names of our fields are safe to tell.
fn undecodable(event_type: &str, error: &serde_json::Error) -> String {
    let words = error.to_string();
    let what = if words.starts_with("missing field `") || words.starts_with("payload version ") {
        words.split(" at line ").next().unwrap_or_default().to_owned()
    } else {
        format!("{:?} error", error.classify()).to_lowercase()
    };
    format!("not a {event_type}: {what} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use events::ContactSubmitted;

    use super::*;

    #[test]
    fn why_a_payload_cannot_be_read_is_said_without_its_data() {
        let reason = |text: &str| {
            let error = serde_json::from_str::<ContactSubmitted>(text).unwrap_err();
            undecodable("contact", &error)
        };
        for (text, expected) in [
            ("{", "not a contact: eof error at line 1 column 1"),
            ("hunter2", "not a contact: syntax error at line 1 column 1"),
            (
                r#"{"v":2}"#,
                "not a contact: payload version 2 is not known, only 1 is at line 1 column 7",
            ),
            (r#"{"v":1,"id":"ada@example.org"}"#, "not a contact: data error at line 1 column 29"),
            (r#"{"v":1}"#, "not a contact: missing field `id` at line 1 column 7"),
            (
                r#"{"v":1,"ada@example.org":1,"v":1}"#,
                "not a contact: data error at line 1 column 30",
            ),
        ] {
            assert_eq!(reason(text), expected, "{text}");
        }
    }
}

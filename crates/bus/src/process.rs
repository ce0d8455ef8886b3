//! The processing of messages: a handler returns the result of each, and this module settles them.

use std::time::Duration;

use anyhow::anyhow;
use async_nats::jetstream::{self, AckKind};
use events::{Consumer, Event};
use futures::future::join_all;
use opentelemetry::{Context, TraceId, trace::TraceContextExt};
use service::{propagation, spans};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Instrument, Span, field};

use crate::{
    Bus, Failure, Handled, Refused,
    dead_letters::{DeadLetter, Part},
    failures::Failures,
    headers,
    metrics::ConsumerMetrics,
    payload,
    settle::{Settlement, settle},
};

/// A delivered event.
#[derive(Clone, Debug)]
pub struct Delivery<E> {
    /// The event.
    pub event: E,
    /// The place of the message in the stream.
    pub sequence: u64,
    /// The number of deliveries of the message, including this one.
    pub deliveries: u64,
    /// The trace context of the publisher.
    trace: Context,
}

impl<E> Delivery<E> {
    /// Returns the trace that the event belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.trace.span().span_context().trace_id()
    }
}

/// Handles the events of one consumer. A handler never touches acknowledgements.
pub trait Handler: Send + Sync + 'static {
    /// The event that is handled.
    type Event: Event;

    /// Waits until events can be handled. No messages are requested from the bus before.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Returns the trace contexts of an event's members, if they have their own.
    fn member_traces(&self, _event: &Self::Event) -> Vec<Context> {
        Vec::new()
    }

    /// Handles a batch of at least one event and at most as many as the consumer allows. Returns
    /// one result for each event, in order.
    fn handle(
        &self,
        batch: Vec<Delivery<Self::Event>>,
    ) -> impl Future<Output = Vec<Result<Handled, Failure>>> + Send;
}

/// The parts of the work that all messages share.
pub(crate) struct Work<'a, H> {
    pub(crate) bus: &'a Bus,
    pub(crate) consumer: &'a Consumer,
    pub(crate) handler: &'a H,
    pub(crate) metrics: &'a ConsumerMetrics,
    pub(crate) failures: Failures,
}

/// The longest time for storing a dead letter before the message is delivered again.
const DEAD_LETTER_WITHIN: Duration = Duration::from_secs(5);

/// The pause before a message is delivered again after its dead letter could not be stored.
const DEAD_LETTER_AGAIN: Duration = Duration::from_secs(10);

/// A message and its result.
type Settled = (jetstream::Message, Result<Handled, Failure>);

impl<H: Handler> Work<'_, H> {
    /// Handles and settles messages. Returns false if a dependency is away, so that no more
    /// messages are requested.
    pub(crate) async fn process(&self, messages: Vec<jetstream::Message>) -> bool {
        let mut batch = Vec::with_capacity(messages.len());
        let mut unread: Vec<Settled> = Vec::new();
        for message in messages {
            match decode::<H::Event>(&message) {
                Ok(delivery) => batch.push((message, delivery)),
                // The other messages of the batch are still handled.
                Err(failure) => unread.push((message, Err(failure))),
            }
        }
        if !unread.is_empty() {
            let traces: Vec<_> = unread.iter().map(|(message, _)| trace_of(message)).collect();
            let span = self.span(&traces);
            record(&span, unread.iter().map(|(_, result)| result));
            self.settle_all(unread, &span).await;
        }
        if batch.is_empty() {
            return true;
        }
        let span = self.span(&self.traces(batch.iter().map(|(_, delivery)| delivery)));
        let (messages, deliveries): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        // Boxed: a handler's future may be large, and each batch has one.
        let handling = Box::pin(self.handler.handle(deliveries));
        let results = self.keeping_alive(&messages, handling).instrument(span.clone()).await;
        record(&span, &results);
        let carry_on = !results.iter().any(|result| matches!(result, Err(Failure::Unavailable(_))));
        self.settle_all(messages.into_iter().zip(results).collect(), &span).await;
        carry_on
    }

    /// Returns the trace contexts of events: those of their members, or else those of the
    /// publishers.
    fn traces<'e>(&self, deliveries: impl Iterator<Item = &'e Delivery<H::Event>>) -> Vec<Context> {
        deliveries
            .flat_map(|delivery| {
                let members = self.handler.member_traces(&delivery.event);
                if members.is_empty() { vec![delivery.trace.clone()] } else { members }
            })
            .collect()
    }

    /// Acknowledges messages that are done first, so that none waits behind a dead letter. Dead
    /// letters are stored side by side.
    async fn settle_all(&self, settled: Vec<Settled>, span: &Span) {
        let is_done = |(_, result): &Settled| {
            matches!(result, Ok(Handled::Whole) | Err(Failure::Overtaken(_)))
        };
        let (done, others): (Vec<_>, Vec<_>) = settled.into_iter().partition(is_done);
        for (message, result) in &done {
            self.settle(message, result, span).await;
        }
        join_all(others.iter().map(|(message, result)| self.settle(message, result, span))).await;
    }

    /// Returns the span of a batch: a child of the publisher's span for a single event, otherwise
    /// linked to the span of each event.
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

    /// Extends the leases of the messages for as long as the handler takes.
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
                        // If the signal is lost with the connection, the message is delivered
                        // again, which handlers tolerate.
                        let _ = message.ack_with(AckKind::Progress).await;
                    }
                }
            }
        }
    }

    async fn settle(
        &self,
        message: &jetstream::Message,
        result: &Result<Handled, Failure>,
        span: &Span,
    ) {
        let (sequence, deliveries) = message.info().map_or((0, 1), |info| {
            (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1))
        });
        let consumer = self.consumer.name.as_str();
        let failures = self.failures.count(sequence, result);
        let letter = |part| DeadLetter {
            consumer: self.consumer,
            sequence,
            deliveries,
            subject: message.subject.to_string(),
            headers: message.headers.clone(),
            part,
        };
        let kind = match settle(result, deliveries, failures, self.consumer.max_failures) {
            Settlement::Ack => {
                let Ok(Handled::Except(parts)) = result else { return self.ack(message).await };
                let stored = join_all(parts.iter().map(|Refused { index, payload, reason }| {
                    let part = Part { index: Some(*index), payload: payload.clone() };
                    self.set_aside(letter(part), reason)
                }));
                let all = stored.await.into_iter().all(|stored| stored);
                if all { AckKind::Ack } else { AckKind::Nak(Some(DEAD_LETTER_AGAIN)) }
            }
            Settlement::Leave => return warn(span, consumer, sequence, deliveries, result),
            Settlement::Again(delay) => {
                warn(span, consumer, sequence, deliveries, result);
                AckKind::Nak((!delay.is_zero()).then_some(delay))
            }
            Settlement::DeadLetter(reason) => {
                let whole = Part { index: None, payload: message.payload.clone() };
                let stored = self.set_aside(letter(whole), &reason).await;
                if stored { AckKind::Term } else { AckKind::Nak(Some(DEAD_LETTER_AGAIN)) }
            }
        };
        self.answer(message, kind).await;
    }

    async fn ack(&self, message: &jetstream::Message) {
        self.answer(message, AckKind::Ack).await;
    }

    async fn answer(&self, message: &jetstream::Message, kind: AckKind) {
        let outcome = match kind {
            AckKind::Ack => "settled",
            AckKind::Term => "dead_lettered",
            _ => "retried",
        };
        match message.ack_with(kind).await {
            Ok(()) => {
                let labels = [self.consumer.stream.name, self.consumer.name.as_str(), outcome];
                self.metrics.messages.with_label_values(&labels).inc();
            }
            Err(error) => tracing::warn!(
                consumer = self.consumer.name,
                "could not settle, the message will come again: {error}"
            ),
        }
    }

    /// Stores a dead letter, and returns whether that succeeded.
    async fn set_aside(&self, letter: DeadLetter<'_>, reason: &str) -> bool {
        let trace = headers::trace_context(letter.headers.as_ref());
        let trace_id = trace.span().span_context().trace_id();
        let (consumer, sequence) = (self.consumer.name.as_str(), letter.sequence);
        match self.bus.store_dead_letter(letter, reason, DEAD_LETTER_WITHIN).await {
            Ok(published) => {
                if !published.duplicate {
                    let labels = [self.consumer.stream.name, consumer];
                    self.metrics.dead_lettered.with_label_values(&labels).inc();
                }
                tracing::error!(
                    %trace_id, consumer, message.sequence = sequence, "dead letter: {reason}"
                );
                true
            }
            Err(error) => {
                tracing::error!(%trace_id, consumer, message.sequence = sequence,
                    "a dead letter could not be stored, the message stays: {error}");
                false
            }
        }
    }
}

fn warn<T>(
    span: &Span,
    consumer: &str,
    sequence: u64,
    deliveries: u64,
    result: &Result<T, Failure>,
) {
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
}

fn trace_of(message: &jetstream::Message) -> Context {
    headers::trace_context(message.headers.as_ref())
}

/// Records in the span of a batch how many of its messages failed, and the first reason.
fn record<'a>(span: &Span, results: impl IntoIterator<Item = &'a Result<Handled, Failure>>) {
    let results: Vec<_> = results.into_iter().collect();
    let mut failures = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|failure| failure.is_error());
    if let Some(first) = failures.next() {
        let failed = 1 + failures.count();
        let of_many = match results.len() {
            1 => String::new(),
            many => format!("{failed} of {many}: "),
        };
        spans::failed(span, first.kind(), format!("{of_many}{first}"));
    }
}

/// Reads an event.
fn decode<E: Event>(message: &jetstream::Message) -> Result<Delivery<E>, Failure> {
    let event = payload::read(&message.payload)?;
    let info = message
        .info()
        .map_err(|error| Failure::Permanent(anyhow!("not a message of a stream: {error}")))?;
    let deliveries = u64::try_from(info.delivered).unwrap_or(1);
    let trace = trace_of(message);
    Ok(Delivery { event, sequence: info.stream_sequence, deliveries, trace })
}

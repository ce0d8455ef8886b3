//! The metrics of the bus: its connection, publishing, and the fill level of the streams.

use std::time::Duration;

use async_nats::jetstream::stream::Info;
use events::Stream;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::{PublishError, Published};
use service::metrics::register;

/// The metrics that every process has of its bus.
#[derive(Clone, Debug)]
pub(crate) struct BusMetrics {
    pub(crate) connected: IntGauge,
    pub(crate) disconnects: IntCounter,
    published: HistogramVec,
    /// The number of contacts that share a commit, by stream.
    pub(crate) group: HistogramVec,
    fill: [IntGaugeVec; 4],
}

/// Buckets in seconds: from a disk without a wait to the longest time that a publisher waits.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Buckets from one member to the largest group.
const MEMBERS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

impl BusMetrics {
    /// Creates the metrics and adds them to a registry.
    pub(crate) fn new(registry: &Registry) -> Self {
        let of_stream = &["stream"];
        let seconds = HistogramOpts::new(
            "publish_duration_seconds",
            "Time until the bus has a message on disk, or not",
        );
        let group = HistogramOpts::new("publish_group_members", "Contacts that share one commit");
        let gauge = |name: &str, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), of_stream))
        };
        Self {
            connected: register(
                registry,
                IntGauge::new("nats_connected", "1 while the bus is connected, else 0"),
            ),
            disconnects: register(
                registry,
                IntCounter::new(
                    "nats_disconnects_total",
                    "How often the connection to the bus was lost",
                ),
            ),
            published: register(
                registry,
                HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["stream", "outcome"]),
            ),
            group: register(
                registry,
                HistogramVec::new(group.buckets(MEMBERS.to_vec()), of_stream),
            ),
            fill: [
                gauge("jetstream_stream_bytes", "Bytes that the stream holds"),
                gauge(
                    "jetstream_stream_max_bytes",
                    "Bytes that the stream may hold; 0 for any number",
                ),
                gauge("jetstream_stream_messages", "Messages that the stream holds"),
                gauge(
                    "jetstream_stream_max_messages",
                    "Messages that the stream may hold; 0 for any number",
                ),
            ],
        }
    }

    /// Records the duration and the outcome of publishing a message.
    pub(crate) fn published(
        &self,
        stream: &Stream,
        took: Duration,
        result: &Result<Published, PublishError>,
    ) {
        self.published
            .with_label_values(&[stream.name, outcome(result)])
            .observe(took.as_secs_f64());
    }

    /// Records the fill level of a stream.
    pub(crate) fn filled(&self, stream: &Stream, info: &Info) {
        // The server writes "no limit" as -1.
        let limit = |limit: i64| u64::try_from(limit).unwrap_or(0);
        let values = [
            info.state.bytes,
            limit(info.config.max_bytes),
            info.state.messages,
            limit(info.config.max_messages),
        ];
        for (gauge, value) in self.fill.iter().zip(values) {
            gauge.with_label_values(&[stream.name]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

fn outcome(result: &Result<Published, PublishError>) -> &'static str {
    match result {
        Ok(_) => "stored",
        Err(error) => error.kind(),
    }
}

/// The metrics of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerMetrics {
    /// Messages that wait for the consumer or are in process, by stream and consumer.
    pub pending: IntGaugeVec,
    /// Pending messages that are in process, by stream and consumer.
    pub in_process: IntGaugeVec,
    /// Pending messages that were delivered more than once, by stream and consumer.
    pub redelivered: IntGaugeVec,
    /// The time since the oldest pending message was published, in seconds, by stream and consumer;
    /// 0 if there is none.
    pub oldest_age: GaugeVec,
    /// Messages that were handled, by stream, consumer and outcome: `settled`, `retried`,
    /// `dead_lettered`.
    pub messages: IntCounterVec,
    /// Messages that became dead letters, by stream and consumer.
    pub dead_lettered: IntCounterVec,
}

impl ConsumerMetrics {
    /// Creates the metrics and adds them to a registry. The counter of dead letters is named after
    /// the consumed items `what`, such as `contacts_dead_lettered_total`.
    pub fn new(registry: &Registry, what: &str) -> Self {
        let labels = &["stream", "consumer"];
        let pending =
            Opts::new("consumer_pending", "Messages that wait for the consumer or are in process");
        let dead = Opts::new(
            format!("{what}_dead_lettered_total"),
            "Messages that could not be handled and became dead letters",
        );
        let gauge = |name: &str, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let age = Opts::new(
            "consumer_oldest_age_seconds",
            "Time since the oldest of them was published; 0 without any",
        );
        let messages = Opts::new(
            "consumer_messages_total",
            "Messages that were handled, by what became of them",
        );
        Self {
            pending: register(registry, IntGaugeVec::new(pending, labels)),
            in_process: gauge(
                "consumer_in_process",
                "Messages that were delivered and are not settled",
            ),
            redelivered: gauge(
                "consumer_redelivered",
                "Messages that were delivered more than once and are not settled",
            ),
            oldest_age: register(registry, GaugeVec::new(age, labels)),
            messages: register(
                registry,
                IntCounterVec::new(messages, &["stream", "consumer", "outcome"]),
            ),
            dead_lettered: register(registry, IntCounterVec::new(dead, labels)),
        }
    }
}

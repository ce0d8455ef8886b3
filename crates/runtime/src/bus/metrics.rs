//! What the bus tells Prometheus: its connection, publishing, and how full the streams are.

use std::time::Duration;

use async_nats::jetstream::stream::Info;
use events::Stream;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{PublishError, Published};
use crate::metrics::register;

/// What every process tells of its bus.
#[derive(Clone, Debug)]
pub(super) struct BusMetrics {
    pub(super) connected: IntGauge,
    pub(super) disconnects: IntCounter,
    published: HistogramVec,
    /// How many messages share a commit, by stream.
    pub(super) batch: HistogramVec,
    /// Batches that were refused and published one by one, by stream.
    pub(super) fallbacks: IntCounterVec,
    fill: [IntGaugeVec; 4],
}

/// From a disk without a wait to the longest patience, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From one message to the largest batch.
const MESSAGES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

impl BusMetrics {
    /// Adds them to a registry.
    pub(super) fn new(registry: &Registry) -> Self {
        let of_stream = &["stream"];
        let seconds = HistogramOpts::new(
            "publish_duration_seconds",
            "Time until the bus has a message on disk, or not",
        );
        let batch = HistogramOpts::new("publish_batch_messages", "Messages that share one commit");
        let fallbacks = Opts::new(
            "publish_fallbacks_total",
            "Batches that were refused and published one by one",
        );
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
            batch: register(
                registry,
                HistogramVec::new(batch.buckets(MESSAGES.to_vec()), of_stream),
            ),
            fallbacks: register(registry, IntCounterVec::new(fallbacks, of_stream)),
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

    /// Notes how publishing a message went.
    pub(super) fn published(
        &self,
        stream: &Stream,
        took: Duration,
        result: &Result<Published, PublishError>,
    ) {
        self.published
            .with_label_values(&[stream.name, outcome(result)])
            .observe(took.as_secs_f64());
    }

    /// Notes how full a stream is.
    pub(super) fn filled(&self, stream: &Stream, info: &Info) {
        // The server says "no limit" as -1.
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

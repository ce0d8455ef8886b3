//! The backlog of consumers, as gauges.

use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use chrono::{DateTime, Utc};
use events::Consumer;
use prometheus::{Gauge, IntGauge};
use service::shutdown::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Bus, metrics::ConsumerMetrics};

/// The interval between two requests about one consumer, if there are few consumers.
const EVERY: Duration = Duration::from_secs(1);

/// The time for each consumer in a round, if there are many, so that more targets do not cause more
/// requests a second.
const SHARE: Duration = Duration::from_millis(10);

impl Bus {
    /// Keeps the gauges of consumers up to date until the shutdown begins.
    ///
    /// Requests information on one consumer after the other: hundreds of requests at once would
    /// need memory for answers that are not urgent.
    pub async fn watch_backlog(
        &self,
        consumers: &[Consumer],
        metrics: &ConsumerMetrics,
        shutdown: &Shutdown,
    ) {
        let mut backlogs: Vec<_> =
            consumers.iter().map(|consumer| Backlog::new(consumer, metrics)).collect();
        let share = SHARE * u32::try_from(consumers.len()).unwrap_or(u32::MAX);
        let mut every = interval(EVERY.max(share));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = async {
                every.tick().await;
                for backlog in &mut backlogs {
                    backlog.update(self).await;
                }
            };
            if shutdown.unless_begun(round).await.is_none() {
                return;
            }
        }
    }

    /// Returns the time at which the first message for a consumer behind a place in its stream was
    /// published.
    async fn published_after(&self, consumer: &Consumer, sequence: u64) -> Option<DateTime<Utc>> {
        let stream = self.jetstream.get_stream_no_info(consumer.stream.name).await.ok()?;
        let first =
            stream.get_first_raw_message_by_subject(&consumer.filter, sequence + 1).await.ok()?;
        DateTime::from_timestamp(first.time.unix_timestamp(), 0)
    }
}

/// The gauges of one consumer.
struct Backlog<'a> {
    consumer: &'a Consumer,
    pending: IntGauge,
    in_process: IntGauge,
    redelivered: IntGauge,
    oldest_age: Gauge,
    /// The last settled message, and the time at which the message behind it was published.
    oldest: Option<(u64, DateTime<Utc>)>,
}

impl<'a> Backlog<'a> {
    fn new(consumer: &'a Consumer, metrics: &ConsumerMetrics) -> Self {
        let labels = &[consumer.stream.name, consumer.name.as_str()];
        Self {
            consumer,
            pending: metrics.pending.with_label_values(labels),
            in_process: metrics.in_process.with_label_values(labels),
            redelivered: metrics.redelivered.with_label_values(labels),
            oldest_age: metrics.oldest_age.with_label_values(labels),
            oldest: None,
        }
    }

    async fn update(&mut self, bus: &Bus) {
        // The latch of the consuming process shows why a consumer cannot be used.
        if let Ok(found) = bus.find_consumer(self.consumer).await {
            let info = found.cached_info();
            let in_process = u64::try_from(info.num_ack_pending).unwrap_or(0);
            let waiting = info.num_pending + in_process;
            self.pending.set(gauge(waiting));
            self.in_process.set(gauge(in_process));
            self.redelivered.set(gauge(u64::try_from(info.num_redelivered).unwrap_or(0)));
            self.find_oldest(bus, settled(info), waiting).await;
        }
        // Without an answer from the server, the age of a waiting message still grows.
        let age = self.oldest.map_or(0.0, |(_, at)| (Utc::now() - at).as_seconds_f64());
        self.oldest_age.set(age.max(0.0));
    }

    /// Looks up the time at which the oldest unsettled message was published, once for each
    /// message.
    async fn find_oldest(&mut self, bus: &Bus, settled: u64, waiting: u64) {
        if waiting == 0 {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(behind, _)| behind != settled) {
            let published = bus.published_after(self.consumer, settled).await;
            self.oldest = published.map(|at| (settled, at));
        }
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the sequence up to which every message is settled: stored, or a dead letter. After a
/// crash, the server may have forgotten the last settlements and report a lower sequence.
pub(crate) fn settled(info: &Info) -> u64 {
    info.ack_floor.stream_sequence
}

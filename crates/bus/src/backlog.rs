//! What waits for a consumer, and what it has settled and no longer needs.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::Info;
use chrono::{DateTime, Utc};
use events::Consumer;
use prometheus::{Gauge, IntGauge};
use tokio::time::{MissedTickBehavior, interval};

use crate::Bus;
use crate::metrics::ConsumerMetrics;
use service::shutdown::Shutdown;

/// How often a consumer is asked, where there are few of them.
const EVERY: Duration = Duration::from_secs(1);

/// Where there are many, this is the share of each in a round, so that a rising number of targets asks the server no more often.
const SHARE: Duration = Duration::from_millis(10);

impl Bus {
    /// Keeps `consumer_pending` up to date, and removes what is settled where a consumer is to, until the shutdown begins.
    ///
    /// One consumer is asked after the other: hundreds of requests at once would need memory for an answer that can wait.
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

    /// Removes what the consumer has settled, once it has ended. What stays is removed after the next start; so a bus that is away
    /// is not waited for.
    pub async fn remove_settled(&self, consumer: &Consumer) {
        if !self.is_connected() {
            return;
        }
        let Ok(found) = self.find_consumer(consumer).await else { return };
        if let Err(error) = self.remove_up_to(consumer, settled(found.cached_info())).await {
            tracing::warn!("what is settled stays in the stream until the next start: {error:#}");
        }
    }

    /// When the first message for a consumer behind a place in its stream was published.
    async fn published_after(&self, consumer: &Consumer, sequence: u64) -> Option<DateTime<Utc>> {
        let stream = self.jetstream.get_stream_no_info(consumer.stream.name).await.ok()?;
        let first =
            stream.get_first_raw_message_by_subject(&consumer.filter, sequence + 1).await.ok()?;
        DateTime::from_timestamp(first.time.unix_timestamp(), 0)
    }

    async fn remove_up_to(&self, consumer: &Consumer, sequence: u64) -> anyhow::Result<()> {
        // Servers differ in what "up to 1" means: to some of them, all.
        if sequence == 0 {
            return Ok(());
        }
        let name = consumer.stream.name;
        let stream = self.jetstream.get_stream_no_info(name).await?;
        stream
            .purge()
            .sequence(sequence + 1)
            .await
            .with_context(|| format!("stream {name} cannot be purged"))?;
        Ok(())
    }
}

/// What is known of one consumer.
struct Backlog<'a> {
    consumer: &'a Consumer,
    pending: IntGauge,
    in_process: IntGauge,
    redelivered: IntGauge,
    oldest_age: Gauge,
    /// The last message that was settled, and when the one behind it was published.
    oldest: Option<(u64, DateTime<Utc>)>,
    removed: u64,
    failing: bool,
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
            removed: 0,
            failing: false,
        }
    }

    async fn update(&mut self, bus: &Bus) {
        // Why it cannot be found, the latch of whoever consumes tells.
        let Ok(found) = bus.find_consumer(self.consumer).await else { return };
        let info = found.cached_info();
        let waiting = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(0);
        self.pending.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.in_process.set(i64::try_from(info.num_ack_pending).unwrap_or(i64::MAX));
        self.redelivered.set(i64::try_from(info.num_redelivered).unwrap_or(i64::MAX));
        self.note_oldest(bus, settled(info), waiting).await;
        if !self.consumer.removes_settled || settled(info) == self.removed {
            return;
        }
        match bus.remove_up_to(self.consumer, settled(info)).await {
            Ok(()) => {
                self.removed = settled(info);
                self.failing = false;
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(
                    "what is settled stays in the stream, which may get full: {error:#}"
                );
            }
            Err(_) => {}
        }
    }
}

impl Backlog<'_> {
    /// Looks up when the oldest message that is not settled was published, once for each.
    async fn note_oldest(&mut self, bus: &Bus, settled: u64, waiting: u64) {
        if waiting == 0 {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(behind, _)| behind != settled) {
            let published = bus.published_after(self.consumer, settled).await;
            self.oldest = published.map(|at| (settled, at));
        }
        let age = self.oldest.map_or(0.0, |(_, at)| (Utc::now() - at).as_seconds_f64());
        self.oldest_age.set(age.max(0.0));
    }
}

/// Up to this sequence, every message is settled: stored, or a dead letter. The server may forget the last of it in a crash,
/// and then tells a lower one.
fn settled(info: &Info) -> u64 {
    info.ack_floor.stream_sequence
}

//! What waits for a consumer, and what it has settled and no longer needs.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::Info;
use events::Consumer;
use tokio::time::{MissedTickBehavior, interval};

use super::Bus;
use crate::{metrics::ConsumerMetrics, shutdown::Shutdown};

/// How often the consumer is asked.
const EVERY: Duration = Duration::from_secs(1);

impl Bus {
    /// Keeps `consumer_pending` up to date, and removes what is settled if the consumer is to, until the shutdown begins.
    pub async fn watch_backlog(&self, consumer: &Consumer, metrics: &ConsumerMetrics, shutdown: &Shutdown) {
        let gauge = metrics.pending.with_label_values(&[consumer.stream.name, &consumer.name]);
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut removed, mut failing) = (0, false);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = every.tick() => {}
            }
            // Why it cannot be found, the latch of whoever consumes tells.
            let Ok(found) = self.find_consumer(consumer).await else { continue };
            let info = found.cached_info();
            let waiting = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(0);
            gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            if !consumer.removes_settled || settled(info) == removed {
                continue;
            }
            match self.remove_up_to(consumer, settled(info)).await {
                Ok(()) => {
                    removed = settled(info);
                    failing = false;
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!("what is settled stays in the stream, which may get full: {error:#}");
                }
                Err(_) => {}
            }
        }
    }

    /// Removes what the consumer has settled, once it has ended. What stays is removed after the next start.
    pub async fn remove_settled(&self, consumer: &Consumer) {
        let Ok(found) = self.find_consumer(consumer).await else { return };
        if let Err(error) = self.remove_up_to(consumer, settled(found.cached_info())).await {
            tracing::warn!("what is settled stays in the stream until the next start: {error:#}");
        }
    }

    async fn remove_up_to(&self, consumer: &Consumer, sequence: u64) -> anyhow::Result<()> {
        // Servers differ in what "up to 1" means: to some of them, all.
        if sequence == 0 {
            return Ok(());
        }
        let name = consumer.stream.name;
        let stream = self.jetstream.get_stream_no_info(name).await?;
        stream.purge().sequence(sequence + 1).await.with_context(|| format!("stream {name} cannot be purged"))?;
        Ok(())
    }
}

/// Up to this sequence, every message is settled: stored, or a dead letter. The server may forget the last of it in a crash,
/// and then tells a lower one.
fn settled(info: &Info) -> u64 {
    info.ack_floor.stream_sequence
}

//! The removal of settled messages from a stream, many at once.
//!
//! A work queue would remove each message by itself, with a sync of the disk each time. Messages
//! are removed only if stream and consumer are configured as declared: the acknowledgements of a
//! consumer that skips messages do not cover the skipped ones.

use std::time::Duration;

use events::Consumer;
use service::shutdown::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Bus, backlog::settled, consume::ConsumerUnusable, provision::StreamUnusable};

/// The interval between two removals of settled messages.
const EVERY: Duration = Duration::from_secs(1);

/// Settled messages could not be removed.
#[derive(Debug, thiserror::Error)]
enum NotRemoved {
    #[error(transparent)]
    Consumer(#[from] ConsumerUnusable),
    #[error(transparent)]
    Stream(#[from] StreamUnusable),
    #[error("stream {stream} cannot be purged: {why}")]
    Refused { stream: &'static str, why: String },
}

impl Bus {
    /// Removes the messages that a consumer has settled, once a second, until the shutdown begins.
    /// A failure is logged once, since the stream fills up meanwhile.
    pub async fn remove_settled_regularly(&self, consumer: &Consumer, shutdown: &Shutdown) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut removed, mut failing) = (0, false);
        loop {
            let round = async {
                every.tick().await;
                self.remove(consumer, removed).await
            };
            match shutdown.unless_begun(round).await {
                None => return,
                Some(Ok(sequence)) => (removed, failing) = (sequence, false),
                Some(Err(error)) if !failing => {
                    failing = true;
                    tracing::warn!(
                        "settled messages stay in the stream, which may get full: {error}"
                    );
                }
                Some(Err(_)) => {}
            }
        }
    }

    /// Removes the messages that a consumer has settled, at the end of a process. Messages that
    /// remain are removed after the next start, so this does not wait for a bus that is away.
    pub async fn remove_settled(&self, consumer: &Consumer) {
        if !self.is_connected() {
            return;
        }
        if let Err(error) = self.remove(consumer, 0).await {
            tracing::warn!("settled messages stay in the stream until the next start: {error}");
        }
    }

    /// Removes settled messages, if there are more than those up to `removed`. Returns the sequence
    /// of the last one.
    async fn remove(&self, consumer: &Consumer, removed: u64) -> Result<u64, NotRemoved> {
        let last = settled(self.find_consumer(consumer).await?.cached_info());
        // Servers interpret "up to 1" differently: some of them remove everything.
        if last == 0 || last == removed {
            return Ok(removed);
        }
        self.check_stream(consumer.stream).await?;
        let name = consumer.stream.name;
        let refused = |why: String| NotRemoved::Refused { stream: name, why };
        let stream = self.jetstream.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| refused(error.to_string()))?;
        let purged = stream.purge().sequence(last + 1).await;
        purged.map_err(|error| refused(error.to_string()))?;
        Ok(last)
    }
}

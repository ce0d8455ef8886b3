//! The number of dead letters, as a gauge.

use std::time::Duration;

use events::{DEAD_LETTERS, Stream, dead_letter_subject};
use futures::TryStreamExt;
use prometheus::{IntGaugeVec, Opts, Registry};
use service::{metrics::register, shutdown::Shutdown};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Bus, ReadError};

/// The interval between two counts.
const EVERY: Duration = Duration::from_secs(5);

impl Bus {
    /// Keeps the gauge of the dead letters of these streams up to date until the shutdown begins.
    /// While the bus does not answer, the gauge keeps its last value.
    pub async fn watch_dead_letters(
        &self,
        streams: &[&'static Stream],
        registry: &Registry,
        shutdown: &Shutdown,
    ) {
        let what = Opts::new("dead_letters", "Dead letters that wait for a decision, by stream");
        let gauge = register(registry, IntGaugeVec::new(what, &["stream"]));
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = async {
                every.tick().await;
                self.wait_until_connected().await;
                for stream in streams {
                    match self.count_dead_letters(stream).await {
                        Ok(count) => gauge.with_label_values(&[stream.name]).set(count),
                        Err(error) => tracing::debug!("dead letters cannot be counted: {error}"),
                    }
                }
            };
            if shutdown.unless_begun(round).await.is_none() {
                return;
            }
        }
    }

    async fn count_dead_letters(&self, of: &Stream) -> Result<i64, ReadError> {
        let broken =
            |error: &dyn std::fmt::Display| ReadError::broken(&DEAD_LETTERS, &error.to_string());
        let stream = self.jetstream.get_stream_no_info(DEAD_LETTERS.name).await;
        let counts = stream.map_err(|error| broken(&error))?;
        let counts = counts.info_with_subjects(dead_letter_subject(of)).await;
        let counts: Vec<_> = counts
            .map_err(|error| broken(&error))?
            .try_collect()
            .await
            .map_err(|error| broken(&error))?;
        let sum = counts.iter().map(|(_, count)| *count).sum::<usize>();
        Ok(i64::try_from(sum).unwrap_or(i64::MAX))
    }
}

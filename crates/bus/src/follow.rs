//! Following a stream from its first message on, for read models: in order, without a gap, over every loss of connection.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use events::{Event, Stream};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Bus;
use service::{readiness::Latch, shutdown::Shutdown};

/// What a follower is told.
#[derive(Debug)]
pub enum Followed<E> {
    /// The next event of the stream, or none if the message is not one of ours.
    Event {
        /// Its place in the stream.
        sequence: u64,
        /// What it is.
        event: Option<E>,
    },
    /// The stream was made anew: it is told from its first message on.
    Restart,
    /// All that was in the stream when the follower began, or began again, has been told.
    CaughtUp {
        /// The last message of the stream at that moment.
        sequence: u64,
    },
}

const PAUSE: Duration = Duration::from_millis(500);

impl Bus {
    /// Tells everything that is and comes in the stream of `E`, until the shutdown begins. The latch is set once the past
    /// has been told.
    pub async fn follow<E: Event>(
        &self,
        latch: Latch,
        shutdown: Shutdown,
        mut tell: impl FnMut(Followed<E>) + Send,
    ) {
        let mut last = 0;
        while !shutdown.has_begun() {
            let error = shutdown
                .unless_begun(self.follow_from(E::STREAM, &mut last, &latch, &mut tell))
                .await;
            let Some(error) = error else { return };
            latch.unset(error);
            if shutdown.unless_begun(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Follows from behind `last` until something breaks, and says what.
    async fn follow_from<E: DeserializeOwned>(
        &self,
        stream: &'static Stream,
        last: &mut u64,
        latch: &Latch,
        tell: &mut (impl FnMut(Followed<E>) + Send),
    ) -> String {
        let broke = |error: &dyn std::fmt::Display| {
            format!("stream {} cannot be followed: {error}", stream.name)
        };
        let target = match self.last_sequence(stream).await {
            Ok(target) => target,
            Err(error) => return error,
        };
        if target < *last {
            *last = 0;
            tell(Followed::Restart);
        }
        let config = pull::OrderedConfig {
            name: Some(self.consumer_name()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: *last + 1 },
            ..Default::default()
        };
        let messages = match self.jetstream.create_consumer_on_stream(config, stream.name).await {
            Ok(consumer) => consumer.messages().await,
            Err(error) => return broke(&error),
        };
        let mut messages = match messages {
            Ok(messages) => messages,
            Err(error) => return broke(&error),
        };
        let mut caught_up = false;
        loop {
            if *last >= target && !caught_up {
                caught_up = true;
                tell(Followed::CaughtUp { sequence: target });
                latch.set("followed");
            }
            let message = match messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return broke(&error),
                None => return broke(&"it ended"),
            };
            let (sequence, pending) = match message.info() {
                Ok(info) => (info.stream_sequence, info.pending),
                Err(error) => return broke(&error),
            };
            let event = serde_json::from_slice(&message.payload).ok();
            if event.is_none() {
                tracing::warn!(
                    stream = stream.name,
                    message.sequence = sequence,
                    "not one of ours, passed over"
                );
            }
            // The stream's last message may be gone; then the last one that is left is the target.
            *last = if pending == 0 { sequence.max(target) } else { sequence };
            tell(Followed::Event { sequence, event });
        }
    }

    /// The place of the stream's last message.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn last_sequence(&self, stream: &Stream) -> Result<u64, String> {
        let info = self.stream_info(stream).await?;
        Ok(info.state.last_sequence)
    }

    /// All events of a stream with a subject that fits `filter`, oldest first. For few of them.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn read_all<E: Event>(&self, filter: &str) -> Result<Vec<(u64, E)>, String> {
        let config = pull::Config { filter_subject: filter.to_owned(), ..self.reading() };
        self.read::<E>(config, usize::MAX).await
    }

    /// The events of a stream behind a place in it, oldest first, `limit` at most.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn read_after<E: Event>(
        &self,
        place: u64,
        limit: usize,
    ) -> Result<Vec<(u64, E)>, String> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: place + 1 },
            ..self.reading()
        };
        self.read::<E>(config, limit).await
    }

    /// The last event on a subject, and its place in the stream.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn read_last<E: Event>(&self, subject: &str) -> Result<Option<(u64, E)>, String> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind as Kind;
        let broke = |error: &dyn std::fmt::Display| {
            format!("stream {} cannot be read: {error}", E::STREAM.name)
        };
        let stream = self
            .jetstream
            .get_stream_no_info(E::STREAM.name)
            .await
            .map_err(|error| broke(&error))?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let event =
                    serde_json::from_slice(&message.payload).map_err(|error| broke(&error))?;
                Ok(Some((message.sequence, event)))
            }
            Err(error) if matches!(error.kind(), Kind::NoMessageFound) => Ok(None),
            Err(error) => Err(broke(&error)),
        }
    }

    async fn read<E: Event>(
        &self,
        config: pull::Config,
        limit: usize,
    ) -> Result<Vec<(u64, E)>, String> {
        let broke = |error: &dyn std::fmt::Display| {
            format!("stream {} cannot be read: {error}", E::STREAM.name)
        };
        let consumer: PullConsumer = self
            .jetstream
            .create_consumer_on_stream(config, E::STREAM.name)
            .await
            .map_err(|error| broke(&error))?;
        let mut left =
            usize::try_from(consumer.cached_info().num_pending).unwrap_or(usize::MAX).min(limit);
        let mut found = Vec::with_capacity(left.min(64));
        while left > 0 {
            let batch = consumer
                .fetch()
                .max_messages(left.min(256))
                .expires(Duration::from_secs(2))
                .messages();
            let mut batch = batch.await.map_err(|error| broke(&error))?;
            let before = left;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| broke(&error))?;
                left -= 1;
                let sequence = message.info().map_err(|error| broke(&error))?.stream_sequence;
                if let Ok(event) = serde_json::from_slice(&message.payload) {
                    found.push((sequence, event));
                }
            }
            if left == before {
                // Removed meanwhile, by age.
                break;
            }
        }
        Ok(found)
    }

    /// A consumer that is gone soon after it was read.
    fn reading(&self) -> pull::Config {
        pull::Config {
            name: Some(self.consumer_name()),
            ack_policy: AckPolicy::None,
            inactive_threshold: Duration::from_secs(10),
            ..Default::default()
        }
    }

    /// A name for a consumer that is ours alone. Without one in its subject, a request may name any consumer of the stream, and
    /// change it: users who may not do that are refused it.
    fn consumer_name(&self) -> String {
        format!("{}-{}", self.name, Uuid::new_v4().simple())
    }
}

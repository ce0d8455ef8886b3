//! Reading streams: following a stream from its first message on, for read models, and looking up
//! single events.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    stream::LastRawMessageErrorKind,
};
use events::{Event, Stream};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use service::{readiness::Latch, shutdown::Shutdown};
use uuid::Uuid;

use crate::{
    Bus, StreamUnusable,
    pull::{LARGEST_MESSAGE, Limit, Puller},
};

/// A step of a follower.
#[derive(Debug)]
pub enum Followed<E> {
    /// The next event of the stream, or none if the message cannot be read.
    Event {
        /// The place of the event in the stream.
        sequence: u64,
        /// The event.
        event: Option<E>,
    },
    /// The stream was replaced by a new one, which is read from its first message on.
    Restart,
    /// Everything that was in the stream when the follower began, or began again, has been read.
    CaughtUp {
        /// The last sequence of the stream at that moment.
        sequence: u64,
    },
}

/// A stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream is missing, or its state cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamUnusable),
    /// The bus refuses, or the connection broke.
    #[error("stream {stream} cannot be read: {why}")]
    Broken {
        /// The stream.
        stream: &'static str,
        /// The reason.
        why: String,
    },
}

impl ReadError {
    pub(crate) fn broken(stream: &Stream, why: &impl ToString) -> Self {
        Self::Broken { stream: stream.name, why: why.to_string() }
    }
}

/// The pause before a broken follower begins again.
const PAUSE: Duration = Duration::from_millis(500);

/// The number of messages that a follower requests at once.
const PAGE: Limit = Limit { messages: 256, bytes: LARGEST_MESSAGE };

/// The time for which the server keeps the consumer of a follower that is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl Bus {
    /// Reads all events in the stream of `E` and each new one, in order and without a gap, until
    /// the shutdown begins. The latch is set once the past has been read.
    pub async fn follow<E: Event>(
        &self,
        latch: Latch,
        shutdown: Shutdown,
        mut step: impl FnMut(Followed<E>) + Send,
    ) {
        let mut last = 0;
        while !shutdown.has_begun() {
            let following = self.follow_from(E::STREAM, &mut last, &latch, &mut step);
            let Some(error) = shutdown.unless_begun(following).await else { return };
            latch.unset(error.to_string());
            if shutdown.unless_begun(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Follows the stream behind `last` until something fails.
    async fn follow_from<E: DeserializeOwned>(
        &self,
        stream: &'static Stream,
        last: &mut u64,
        latch: &Latch,
        step: &mut (impl FnMut(Followed<E>) + Send),
    ) -> ReadError {
        let broken = |why: &dyn std::fmt::Display| ReadError::broken(stream, &why.to_string());
        let target = match self.last_sequence(stream).await {
            Ok(target) => target,
            Err(error) => return error,
        };
        if target < *last {
            *last = 0;
            step(Followed::Restart);
        }
        let (mut puller, waiting) = match self.puller_behind(stream, *last).await {
            Ok(started) => started,
            Err(error) => return error,
        };
        let mut caught_up = false;
        let mut catch_up = |last: &mut u64, step: &mut (dyn FnMut(Followed<E>) + Send)| {
            if !caught_up {
                caught_up = true;
                *last = target.max(*last);
                step(Followed::CaughtUp { sequence: *last });
                latch.set("followed");
            }
        };
        // Some or all messages up to the target may be gone. Only the server knows whether any is
        // left.
        if waiting == 0 {
            catch_up(last, step);
        }
        let mut expected = 1;
        loop {
            let messages = tokio::select! {
                biased;
                () = self.disconnected() => return broken(&"the connection broke"),
                messages = puller.next() => messages,
            };
            let messages = match messages {
                Ok(messages) => messages,
                Err(error) => return broken(&error),
            };
            let mut left = 0;
            for message in messages {
                let info = match message.info() {
                    Ok(info) => info,
                    Err(error) => return broken(&error),
                };
                if info.consumer_sequence != expected {
                    return broken(&"a message was lost on its way");
                }
                expected += 1;
                left = info.pending;
                *last = info.stream_sequence;
                let event = serde_json::from_slice(&message.payload).ok();
                if event.is_none() {
                    let sequence = info.stream_sequence;
                    tracing::warn!(
                        stream = stream.name,
                        message.sequence = sequence,
                        "a message cannot be read and is passed over"
                    );
                }
                step(Followed::Event { sequence: info.stream_sequence, event });
            }
            if left == 0 || *last >= target {
                catch_up(last, step);
            }
        }
    }

    /// Starts to read a stream behind a place. Also returns the number of waiting messages.
    async fn puller_behind(
        &self,
        stream: &'static Stream,
        last: u64,
    ) -> Result<(Puller, u64), ReadError> {
        let name = self.consumer_name();
        let config = pull::Config {
            name: Some(name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..self.reading()
        };
        let consumer: PullConsumer = self
            .jetstream
            .create_consumer_on_stream(config, stream.name)
            .await
            .map_err(|error| ReadError::broken(stream, &error))?;
        let puller = Puller::start(self, stream.name, &name, PAGE).await;
        let puller = puller.map_err(|error| ReadError::broken(stream, &error))?;
        Ok((puller, consumer.cached_info().num_pending))
    }

    /// Returns the sequence of the stream's last message, which may be gone.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn last_sequence(&self, stream: &Stream) -> Result<u64, ReadError> {
        let info = self.stream_info(stream).await?;
        Ok(info.state.last_sequence)
    }

    /// Returns all events of a stream with a subject that matches `filter`, oldest first. Meant for
    /// a small number of events.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn read_all<E: Event>(&self, filter: &str) -> Result<Vec<(u64, E)>, ReadError> {
        let config = pull::Config { filter_subject: filter.to_owned(), ..self.reading() };
        self.read::<E>(config, usize::MAX).await
    }

    /// Returns the events of a stream behind a place in it, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn read_after<E: Event>(
        &self,
        place: u64,
        limit: usize,
    ) -> Result<Vec<(u64, E)>, ReadError> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: place + 1 },
            ..self.reading()
        };
        self.read::<E>(config, limit).await
    }

    /// Returns the last event on a subject, and its place in the stream.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn read_last<E: Event>(&self, subject: &str) -> Result<Option<(u64, E)>, ReadError> {
        let broke =
            |error: &dyn std::fmt::Display| ReadError::broken(E::STREAM, &error.to_string());
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
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(None)
            }
            Err(error) => Err(broke(&error)),
        }
    }

    async fn read<E: Event>(
        &self,
        config: pull::Config,
        limit: usize,
    ) -> Result<Vec<(u64, E)>, ReadError> {
        let broke =
            |error: &dyn std::fmt::Display| ReadError::broken(E::STREAM, &error.to_string());
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
                // The message has been removed meanwhile, by age.
                break;
            }
        }
        Ok(found)
    }

    /// Returns the configuration of a consumer that the server removes soon after its last use.
    fn reading(&self) -> pull::Config {
        pull::Config {
            name: Some(self.consumer_name()),
            ack_policy: AckPolicy::None,
            inactive_threshold: Duration::from_secs(10),
            ..Default::default()
        }
    }

    /// Returns a name for a consumer of our own. A request without a name in its subject could
    /// name, and change, any consumer of the stream, so the server refuses it to users without that
    /// permission.
    fn consumer_name(&self) -> String {
        format!("{}-{}", self.name, Uuid::new_v4().simple())
    }
}

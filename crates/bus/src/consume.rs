//! Consuming: takes messages one at a time or many at once, and begins again after each failure of
//! the bus.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{consumer::PullConsumer, stream::ConsumerErrorKind};
use events::Consumer;
use futures::future::join_all;
use service::{readiness::Latch, shutdown::Shutdown};
use tokio_util::sync::CancellationToken;

use crate::{
    Bus,
    failures::Failures,
    metrics::ConsumerMetrics,
    process::{Handler, Work},
    pull::{Limit, Puller},
    streams::{differences, essential_of_consumer},
};

/// The pause after a failure of the bus, and between two checks for a consumer that is missing.
const PAUSE: Duration = Duration::from_secs(1);

/// A consumer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumerUnusable {
    /// The bus is away.
    #[error(transparent)]
    NotConnected(#[from] crate::NotConnected),
    /// The consumer does not exist.
    #[error("consumer {0} is missing: run provision as a privileged user")]
    Missing(String),
    /// The consumer would skip messages, or read others.
    #[error("consumer {name} is misconfigured ({difference}): remove it and run provision")]
    Misconfigured {
        /// The consumer.
        name: String,
        /// The setting, its value and the value that is needed.
        difference: String,
    },
    /// The bus refuses, or the consumer broke.
    #[error("consumer {name} cannot be used: {why}")]
    Broken {
        /// The consumer.
        name: String,
        /// The reason.
        why: String,
    },
}

impl Bus {
    /// Consumes until the shutdown begins, then finishes the messages in process and returns. A
    /// failure of the bus or the consumer shows in the latch, and consuming begins again.
    pub async fn consume<H: Handler>(
        &self,
        consumer: Consumer,
        handler: Arc<H>,
        metrics: ConsumerMetrics,
        latch: Latch,
        shutdown: Shutdown,
    ) {
        // A counter that exists from the start can be watched for its first increase.
        metrics.dead_lettered.with_label_values(&[consumer.stream.name, &consumer.name]);
        for outcome in ["settled", "retried", "dead_lettered"] {
            let labels = [consumer.stream.name, consumer.name.as_str(), outcome];
            metrics.messages.with_label_values(&labels);
        }
        let work = Work {
            bus: self,
            consumer: &consumer,
            handler: &*handler,
            metrics: &metrics,
            failures: Failures::default(),
        };
        while !shutdown.has_begun() {
            if shutdown.unless_begun(handler.ready()).await.is_none() {
                break;
            }
            if let Err(error) = work.take_until(&shutdown, &latch).await {
                latch.unset(error.to_string());
            }
            if shutdown.unless_begun(tokio::time::sleep(PAUSE)).await.is_none() {
                break;
            }
        }
    }

    /// Finds a consumer and checks that it delivers every message until it is acknowledged.
    pub(crate) async fn find_consumer(
        &self,
        consumer: &Consumer,
    ) -> Result<PullConsumer, ConsumerUnusable> {
        self.connected(Duration::from_secs(5)).await?;
        let found =
            self.jetstream.get_consumer_from_stream(&consumer.name, consumer.stream.name).await;
        let broken = |why: String| ConsumerUnusable::Broken { name: consumer.name.clone(), why };
        let found: PullConsumer = found.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(answer) if answer.code() == 404 => {
                ConsumerUnusable::Missing(consumer.name.clone())
            }
            _ => broken(error.to_string()),
        })?;
        let config = serde_json::to_value(&found.cached_info().config)
            .map_err(|error| broken(error.to_string()))?;
        let differences = differences(&config, &consumer.to_json());
        match essential_of_consumer(&differences).first() {
            None => Ok(found),
            Some(difference) => Err(ConsumerUnusable::Misconfigured {
                name: consumer.name.clone(),
                difference: difference.to_string(),
            }),
        }
    }
}

impl<H: Handler> Work<'_, H> {
    /// Takes messages until the shutdown begins, the consumer breaks, or the handler lacks a
    /// dependency.
    async fn take_until(&self, shutdown: &Shutdown, latch: &Latch) -> Result<(), ConsumerUnusable> {
        let found = shutdown.unless_begun(self.bus.find_consumer(self.consumer)).await;
        let Some(found) = found else { return Ok(()) };
        found?;
        latch.set("consuming");
        // Boxed: there may be hundreds of consumers, and each needs only one of the two futures.
        let taking = if self.consumer.batch == 1 && self.consumer.batches_in_process == 1 {
            Box::pin(self.one_at_a_time(shutdown)).await
        } else {
            Box::pin(self.many_at_once(shutdown)).await
        };
        taking.map_err(|why| ConsumerUnusable::Broken { name: self.consumer.name.clone(), why })
    }

    async fn one_at_a_time(&self, shutdown: &Shutdown) -> Result<(), String> {
        loop {
            let message = tokio::select! {
                biased;
                () = shutdown.begun() => return Ok(()),
                // When a connection ends, the server forgets its requests.
                () = self.bus.disconnected() => return Ok(()),
                message = self.bus.next(self.consumer) => message?,
            };
            if let Some(message) = message
                && !self.process(vec![message]).await
            {
                return Ok(());
            }
        }
    }

    /// Processes several batches side by side. Once one of them ends, each of the others ends after
    /// its current batch.
    async fn many_at_once(&self, shutdown: &Shutdown) -> Result<(), String> {
        let end = shutdown.token().child_token();
        let places = (0..self.consumer.batches_in_process).map(|_| self.one_place(&end));
        join_all(places).await.into_iter().collect()
    }

    /// Requests a batch and processes it, again and again.
    async fn one_place(&self, end: &CancellationToken) -> Result<(), String> {
        let _guard = end.clone().drop_guard();
        let Consumer { stream, name, batch, batch_bytes, .. } = self.consumer;
        let limit = Limit { messages: *batch, bytes: *batch_bytes };
        let puller = Puller::start(self.bus, stream.name, name, limit).await;
        let mut puller = puller.map_err(|error| error.to_string())?;
        loop {
            let messages = tokio::select! {
                biased;
                () = end.cancelled() => Ok(None),
                // When a connection ends, the server forgets its requests.
                () = self.bus.disconnected() => Ok(None),
                messages = puller.next() => messages.map(Some).map_err(|error| error.to_string()),
            };
            let carry_on = match messages {
                Ok(Some(messages)) if messages.is_empty() => true,
                Ok(Some(messages)) => self.process(messages).await,
                Ok(None) | Err(_) => {
                    puller.give_back().await;
                    return messages.map(drop);
                }
            };
            if !carry_on {
                puller.give_back().await;
                return Ok(());
            }
        }
    }
}

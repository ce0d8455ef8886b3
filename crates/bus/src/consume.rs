//! Consuming: messages come one at a time or many at once, and again after whatever goes wrong with the bus.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind,
    consumer::{PullConsumer, pull},
};
use events::Consumer;
use futures::{
    FutureExt, StreamExt,
    stream::{FuturesUnordered, ReadyChunks},
};
use tokio::task::coop::unconstrained;

use crate::metrics::ConsumerMetrics;
use crate::{
    Bus,
    process::{Handler, Work},
};
use service::{readiness::Latch, shutdown::Shutdown};

/// The pause after a failure of the bus, and between looks for a consumer that is missing.
const PAUSE: Duration = Duration::from_secs(1);

impl Bus {
    /// Consumes until the shutdown begins, then finishes what it has and returns. Whatever goes wrong with the bus or the
    /// consumer meanwhile shows in the latch, and is tried again.
    pub async fn consume<H: Handler>(
        &self,
        consumer: Consumer,
        handler: Arc<H>,
        metrics: ConsumerMetrics,
        latch: Latch,
        shutdown: Shutdown,
    ) {
        // A counter that is there from the start can be watched for its first increase.
        metrics.dead_lettered.with_label_values(&[consumer.stream.name, &consumer.name]);
        for outcome in ["settled", "retried", "dead_lettered"] {
            metrics.messages.with_label_values(&[
                consumer.stream.name,
                consumer.name.as_str(),
                outcome,
            ]);
        }
        let work = Work { bus: self, consumer: &consumer, handler: &*handler, metrics: &metrics };
        while !shutdown.has_begun() {
            if shutdown.unless_begun(handler.ready()).await.is_none() {
                break;
            }
            if let Err(error) = work.take_until(&shutdown, &latch).await {
                latch.unset(error);
            }
            if shutdown.unless_begun(tokio::time::sleep(PAUSE)).await.is_none() {
                break;
            }
        }
    }

    pub(crate) async fn find_consumer(&self, consumer: &Consumer) -> Result<PullConsumer, String> {
        self.connected(Duration::from_secs(5)).await.map_err(|error| error.to_string())?;
        let found =
            self.jetstream.get_consumer_from_stream(&consumer.name, consumer.stream.name).await;
        found.map_err(|error| {
            use async_nats::jetstream::stream::ConsumerErrorKind as Kind;
            let name = &consumer.name;
            match error.kind() {
                Kind::JetStream(answer) if answer.code() == 404 => {
                    format!("consumer {name} is missing: run provision as a privileged user")
                }
                _ => format!("consumer {name} cannot be used: {error}"),
            }
        })
    }
}

/// How often the server says that it still waits with us for messages. Twice as long without a word, and we ask anew.
const HEARTBEAT: Duration = Duration::from_secs(2);

impl<H: Handler> Work<'_, H> {
    /// Takes messages until the shutdown begins, the consumer breaks, or the handler lacks a dependency.
    async fn take_until(&self, shutdown: &Shutdown, latch: &Latch) -> Result<(), String> {
        let Some(found) = shutdown.unless_begun(self.bus.find_consumer(self.consumer)).await else {
            return Ok(());
        };
        let found = found?;
        latch.set("consuming");
        // Boxed: there may be hundreds of consumers, and each needs one of the two.
        if self.consumer.batch == 1 && self.consumer.batches_in_process == 1 {
            Box::pin(self.one_at_a_time(shutdown)).await
        } else {
            Box::pin(self.many_at_once(found, shutdown)).await
        }
    }

    async fn one_at_a_time(&self, shutdown: &Shutdown) -> Result<(), String> {
        loop {
            let message = tokio::select! {
                biased;
                () = shutdown.begun() => return Ok(()),
                // The server forgets what was asked for over a connection when that ends.
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

    async fn many_at_once(
        &self,
        consumer: PullConsumer,
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.consumer.batch * self.consumer.batches_in_process)
            .expires(Duration::from_secs(30))
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| format!("consumer {} cannot be read: {error}", self.consumer.name))?;
        let mut chunks = messages.ready_chunks(self.consumer.batch);
        let mut in_process = FuturesUnordered::new();
        let (mut end, mut silent) = (Ok(()), false);
        loop {
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                // Tokio would end a chunk after 128 messages, for the sake of other tasks, which are not kept waiting here.
                chunk = unconstrained(chunks.next()), if in_process.len() < self.consumer.batches_in_process => {
                    let Some(chunk) = chunk else { break };
                    let mut messages = Vec::with_capacity(chunk.len());
                    for item in chunk {
                        match item {
                            Ok(message) => messages.push(message),
                            // What was asked for is lost, or was answered before the client knew that it had asked: then it
                            // counts one too many, and asks for nothing until that expires. So ask anew.
                            Err(error) if error.kind() == pull::MessagesErrorKind::MissingHeartbeat => silent = true,
                            Err(error) => end = Err(format!("consumer {} broke: {error}", self.consumer.name)),
                        }
                    }
                    in_process.push(self.process(messages));
                    if silent || end.is_err() { break }
                }
                Some(carry_on) = in_process.next() => if !carry_on { break },
            }
        }
        while in_process.next().await.is_some() {}
        give_back(chunks).await;
        end
    }
}

/// Messages that were fetched and not looked at go back at once, so that another replica need not wait for them.
async fn give_back(mut chunks: ReadyChunks<pull::Stream>) {
    while let Some(Some(chunk)) = chunks.next().now_or_never() {
        for message in chunk.into_iter().flatten() {
            let _ = message.ack_with(AckKind::Nak(None)).await;
        }
    }
}

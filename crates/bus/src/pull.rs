//! Pull requests that return the waiting messages, up to a limit of number and size, or else the
//! first ones that arrive.
//!
//! A request is sent when there is time to handle its messages, so that none of them waits in a
//! buffer without a lease.

use std::{mem::take, time::Duration};

use async_nats::{
    Message, Request, StatusCode, Subscriber,
    jetstream::{self, AckKind},
};
use futures::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use crate::Bus;

/// The longest time that the server waits for the first message.
const EXPIRES: Duration = Duration::from_secs(5);

/// The interval of the server's heartbeats while it waits.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The silence after which a request counts as lost, with its consumer or its server.
const SILENCE: Duration = Duration::from_millis(2_500);

/// The pause after a request that the server cannot serve at the moment.
const PAUSE: Duration = Duration::from_millis(100);

/// The description of a request that ends because the next message exceeds its limit of bytes.
const BYTES_USED_UP: &str = "Message Size Exceeds MaxBytes";

/// The header with the number of messages that were requested and will not be sent.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// A size above that of the largest message (1 MiB by default), so that a request always fits one.
pub(crate) const LARGEST_MESSAGE: usize = 1_100_000;

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// The largest number of messages.
    pub(crate) messages: usize,
    /// The largest size of all messages, in bytes.
    pub(crate) bytes: usize,
}

/// The reason why a pull request failed and another one would fail, too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// The client cannot send.
    #[error("{0}")]
    Client(String),
    /// The server is silent: the request was lost.
    #[error("the server is silent")]
    Silent,
    /// The server ends the request: the consumer is gone or changes its leader.
    #[error("{0}")]
    Ended(String),
}

/// Requests messages of one consumer, one request after the other.
#[derive(Debug)]
pub(crate) struct Puller {
    bus: Bus,
    /// The subject of requests, without the API's prefix.
    next: String,
    inbox: String,
    answers: Subscriber,
    requests: u64,
    limit: Limit,
    /// Set while a request may still be answered.
    open: bool,
    /// The number of messages since the request.
    received: usize,
    /// The number of messages that the server sends for the request, once it has ended. A cluster
    /// announces the end before it sends the messages.
    announced: Option<usize>,
    /// The messages of the answer so far.
    held: Vec<jetstream::Message>,
}

impl Puller {
    pub(crate) async fn start(
        bus: &Bus,
        stream: &str,
        consumer: &str,
        limit: Limit,
    ) -> Result<Self, PullError> {
        let inbox = bus.client.new_inbox();
        let answers = bus.client.subscribe(format!("{inbox}.*")).await;
        let answers = answers.map_err(|error| PullError::Client(error.to_string()))?;
        let next = format!("CONSUMER.MSG.NEXT.{stream}.{consumer}");
        Ok(Self {
            bus: bus.clone(),
            next,
            inbox,
            answers,
            requests: 0,
            limit,
            open: false,
            received: 0,
            announced: None,
            held: Vec::new(),
        })
    }

    /// Returns the waiting messages, or else the first ones that arrive within some seconds.
    /// Dropping the future loses nothing: messages that have arrived are part of the next answer,
    /// or are given back.
    ///
    /// # Errors
    /// The consumer has to be looked up again.
    pub(crate) async fn next(&mut self) -> Result<Vec<jetstream::Message>, PullError> {
        if !self.open {
            self.request().await?;
            self.open = true;
        }
        let mut bytes = 0;
        while self.held.len() < self.limit.messages
            && bytes < self.limit.bytes
            && self.announced.is_none_or(|announced| self.received < announced)
        {
            let Ok(answer) = timeout(SILENCE, self.answers.next()).await else {
                self.open = false;
                return self.unless_empty(PullError::Silent);
            };
            let answer = answer.ok_or(PullError::Silent)?;
            let Some(status) = answer.status else {
                bytes += answer.length;
                self.received += 1;
                let context = self.bus.jetstream.clone();
                self.held.push(jetstream::Message { message: answer, context });
                continue;
            };
            let request = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            // The end of an earlier request may arrive late.
            if status == StatusCode::IDLE_HEARTBEAT || request != Some(self.requests) {
                continue;
            }
            let words = answer.description.as_deref().unwrap_or_default();
            if words == BYTES_USED_UP
                && let Some(pending) = pending_messages(&answer)
                && pending < self.limit.messages
            {
                self.announced = Some(self.limit.messages - pending);
                continue;
            }
            self.open = false;
            return match status {
                // The stream has no more messages, or the wait is over.
                StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {
                    if words == "Requests Pending" {
                        // Another request waits for the same messages.
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(take(&mut self.held))
                }
                // A message exceeds the limit of bytes by itself, or the consumer is gone.
                _ => self.unless_empty(PullError::Ended(format!("{status} {words}"))),
            };
        }
        self.open = false;
        Ok(take(&mut self.held))
    }

    fn unless_empty(&mut self, error: PullError) -> Result<Vec<jetstream::Message>, PullError> {
        if self.held.is_empty() { Err(error) } else { Ok(take(&mut self.held)) }
    }

    async fn request(&mut self) -> Result<(), PullError> {
        self.requests += 1;
        (self.received, self.announced) = (0, None);
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({
            "batch": self.limit.messages,
            "max_bytes": self.limit.bytes,
            "expires": nanos(EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
            // With an expiry, the server sends the waiting messages, or else the first ones that
            // arrive.
            "no_wait": true,
        });
        let inbox = format!("{}.{}", self.inbox, self.requests);
        let request = Request::new().inbox(inbox).payload(body.to_string().into());
        let sent = self.bus.jetstream.send_request(self.next.clone(), request).await;
        sent.map_err(|error| PullError::Client(error.to_string()))
    }

    /// Gives back the messages that have arrived and were not handed out, so that another replica
    /// need not wait for the end of their leases.
    pub(crate) async fn give_back(mut self) {
        let _ = self.answers.unsubscribe().await;
        while let Ok(Some(message)) = timeout(PAUSE, self.answers.next()).await {
            if message.status.is_none() {
                let context = self.bus.jetstream.clone();
                self.held.push(jetstream::Message { message, context });
            }
        }
        for message in self.held {
            // If the answer is lost with the connection, the message is delivered again.
            let _ = message.ack_with(AckKind::Nak(None)).await;
        }
    }
}

fn pending_messages(end: &Message) -> Option<usize> {
    end.headers.as_ref()?.get(PENDING_MESSAGES)?.as_str().parse().ok()
}

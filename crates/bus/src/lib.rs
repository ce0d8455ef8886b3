//! NATS `JetStream` for our own events: publish, consume, follow, and the check that streams and
//! consumers are configured as declared.

mod backlog;
pub mod config;
mod connect;
mod consume;
mod cut_off;
mod dead_letters;
mod failures;
mod follow;
mod group;
mod headers;
mod metrics;
mod next;
mod payload;
mod process;
mod provision;
mod publish;
mod pull;
mod refused;
mod removal;
mod settle;
mod streams;

pub use connect::NotConnected;
pub use dead_letters::{DeadLetterError, DeadLettersCommand};
pub use follow::{Followed, ReadError};
pub use group::GroupPublisher;
pub use group_commit::Limits;
pub use metrics::ConsumerMetrics;
pub use process::{Delivery, Handler};
pub use provision::StreamUnusable;
pub use publish::{PublishError, Published};
pub use settle::{Failure, Handled, Refused};

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use tokio::sync::{OnceCell, watch};

/// A connection to the bus, which its clones share. It connects by itself, and again after each
/// loss.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The process' name, which is the CloudEvents `source` of what it publishes.
    name: &'static str,
    client: async_nats::Client,
    jetstream: jetstream::Context,
    connected: watch::Receiver<bool>,
    refusals: refused::Refusals,
    cut_off: Arc<cut_off::CutOff>,
    /// Created with the first request for a message.
    pulls: Arc<OnceCell<next::Pulls>>,
    metrics: metrics::BusMetrics,
}

impl Bus {
    /// Waits until all buffered messages are sent, for at most two seconds.
    pub async fn flush(&self) {
        if *self.connected.borrow() {
            // Callers that waited for an acknowledgement have it already. A message whose
            // acknowledgement is lost here is delivered again.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.client.flush()).await;
        }
    }
}

//! From a request to the bus: what is published here has been acknowledged, or the client hears that it was not.

use std::time::Duration;

use axum::http::StatusCode;
use events::Event;
use runtime::bus::{Bus, PublishError};

use crate::problem::Problem;

/// How long a request waits for the bus. The answer comes within five seconds.
const WITHIN: Duration = Duration::from_secs(4);

/// Publishes the events of requests.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(Bus);

impl Publisher {
    pub(crate) fn new(bus: Bus) -> Self {
        Self(bus)
    }

    /// Done means: on disk in the bus.
    pub(crate) async fn publish<E: Event>(&self, event: &E) -> Result<(), Problem> {
        match self.0.publish(event, WITHIN).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(stream = E::STREAM.name, "not accepted: {error}");
                Err(problem(&error))
            }
        }
    }
}

fn problem(error: &PublishError) -> Problem {
    match error {
        PublishError::Full => Problem::unavailable("the queue is full; nothing was accepted", 30),
        PublishError::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "larger than the message bus allows"),
        PublishError::Unavailable
        | PublishError::NoStream
        | PublishError::MovedOn
        | PublishError::Encode(_)
        | PublishError::Refused(_) => {
            Problem::unavailable("the message bus does not acknowledge; nothing was accepted, try again", 2)
        }
    }
}

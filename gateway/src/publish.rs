//! From a request to the bus: what is published here has been acknowledged, or the client hears that it was not.

use std::time::Duration;

use axum::http::StatusCode;
use bus::{Bus, GroupPublisher, Limits, PublishError, Published};
use events::{BuildFinished, CONTACTS, ContactSubmitted, TargetChanged};

use crate::problem::Problem;

/// How long a request waits for the bus. The answer comes within five seconds.
const WITHIN: Duration = Duration::from_secs(4);

/// Publishes the events of requests. Contacts share the durable steps of the bus; builds are few.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    bus: Bus,
    contacts: GroupPublisher,
}

impl Publisher {
    pub(crate) fn start(bus: Bus, limits: Limits) -> Self {
        let contacts = GroupPublisher::start(bus.clone(), &CONTACTS, WITHIN, limits);
        Self { bus, contacts }
    }

    /// The bus itself.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Done means: on disk in the bus.
    pub(crate) async fn contact(&self, contact: &ContactSubmitted) -> Result<(), Problem> {
        accepted(self.contacts.publish(contact).await)
    }

    /// Done means: on disk in the bus.
    pub(crate) async fn target(&self, changed: &TargetChanged) -> Result<(), Problem> {
        accepted(self.bus.publish(changed, WITHIN).await)
    }

    /// Done means: on disk in the bus.
    pub(crate) async fn build(&self, build: &BuildFinished) -> Result<(), Problem> {
        accepted(self.bus.publish(build, WITHIN).await)
    }
}

fn accepted(result: Result<Published, PublishError>) -> Result<(), Problem> {
    result.map(|_| ()).map_err(|error| {
        tracing::warn!("not accepted: {error}");
        problem(&error)
    })
}

/// What the client hears of it.
pub(crate) fn problem(error: &PublishError) -> Problem {
    match error {
        PublishError::Busy => Problem::overloaded(
            "too many contacts wait for the bus; nothing was accepted, try again",
        ),
        PublishError::Full => Problem::unavailable("the queue is full; nothing was accepted", 30),
        PublishError::TooLarge => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "larger than the message bus allows")
        }
        PublishError::Unavailable
        | PublishError::NoStream
        | PublishError::MovedOn
        | PublishError::Encode(_)
        | PublishError::Refused(_) => Problem::unavailable(
            "the message bus does not acknowledge; nothing was accepted, try again",
            2,
        ),
    }
}

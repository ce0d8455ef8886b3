//! Publishes the events of requests to the bus. Once a call returns, the event has been
//! acknowledged, or the client learns that it was not, or that this is unknown.

use std::time::Duration;

use axum::http::StatusCode;
use bus::{Bus, GroupPublisher, Limits, PublishError, Published};
use events::{BuildFinished, Contact, ContactGroup, TargetChanged};

use crate::problem::Problem;

/// The patience of a request with the bus: longer than a cluster takes to elect a leader, 4 to 9 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes the events of requests. Contacts share the durable writes of the bus; builds are few.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    bus: Bus,
    contacts: GroupPublisher<ContactGroup>,
}

impl Publisher {
    pub(crate) fn start(bus: Bus, limits: Limits) -> Self {
        let contacts = GroupPublisher::start(bus.clone(), PATIENCE, limits);
        Self { bus, contacts }
    }

    /// Returns the bus itself.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes a contact. Returns once the contact is on disk on the bus.
    pub(crate) async fn contact(&self, contact: Contact) -> Result<(), Problem> {
        accepted(self.contacts.publish(contact).await)
    }

    /// Publishes a decision about a target. Returns once the decision is on disk on the bus.
    pub(crate) async fn target(&self, changed: &TargetChanged) -> Result<(), Problem> {
        accepted(self.bus.publish(changed, PATIENCE).await)
    }

    /// Publishes a build. Returns once the build is on disk on the bus.
    pub(crate) async fn build(&self, build: &BuildFinished) -> Result<(), Problem> {
        accepted(self.bus.publish(build, PATIENCE).await)
    }
}

fn accepted(result: Result<Published, PublishError>) -> Result<(), Problem> {
    result.map(|_| ()).map_err(|error| {
        tracing::warn!("not accepted: {error}");
        problem(&error)
    })
}

/// Returns the answer to a request whose event was not acknowledged. The answer says that nothing
/// was accepted only if that is known.
pub(crate) fn problem(error: &PublishError) -> Problem {
    match error {
        PublishError::Busy => Problem::overloaded(
            "too many contacts wait for the bus; nothing was accepted, try again",
        ),
        PublishError::Full => Problem::unavailable("the queue is full; nothing was accepted", 30),
        PublishError::TooLarge => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "larger than the message bus allows")
        }
        PublishError::Unknown => Problem::unavailable(
            "the message bus did not answer in time, so it is not known whether the request was \
             accepted; to send it again without doing it twice, use the same Idempotency-Key",
            2,
        ),
        PublishError::NotSent => Problem::unavailable(
            "the message bus cannot be reached; nothing was accepted, try again",
            2,
        ),
        PublishError::NoStream
        | PublishError::MovedOn
        | PublishError::Encode(_)
        | PublishError::Refused(_) => Problem::unavailable(
            "the message bus does not take the request; nothing was accepted, try again",
            10,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_was_accepted_is_said_only_if_it_is_known() {
        for (error, known) in [
            (PublishError::Busy, true),
            (PublishError::Full, true),
            (PublishError::NotSent, true),
            (PublishError::NoStream, true),
            (PublishError::Unknown, false),
        ] {
            let problem = problem(&error);
            assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(problem.detail().contains("nothing was accepted"), known, "{error}");
            assert_eq!(problem.detail().contains("not known"), !known, "{error}");
        }
    }
}

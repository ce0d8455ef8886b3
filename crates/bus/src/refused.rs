//! Requests that the server refuses to our user. The server does not answer such a request, but
//! reports the refusal separately, as an error of the connection.

use async_nats::{Event, ServerError};
use tokio::sync::watch;

use crate::Bus;

/// The server refuses a request to our user.
#[derive(Debug, thiserror::Error)]
#[error("the server refuses it to this user: {0}")]
pub(crate) struct Refused(String);

/// The server's last report of a refusal.
pub(crate) type Refusals = watch::Receiver<String>;

/// Returns the server's report of a refusal, if the event is one.
pub(crate) fn refusal(event: &Event) -> Option<&str> {
    match event {
        Event::ServerError(ServerError::Other(told))
            if told.starts_with("Permissions Violation") =>
        {
            Some(told)
        }
        _ => None,
    }
}

impl Bus {
    /// Waits for the answer to a request of JetStream's API, or for its refusal. `of` holds the
    /// tokens of the request's subject by which a refusal is recognized.
    pub(crate) async fn unless_refused<T>(
        &self,
        of: &str,
        asked: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let refused = self.refusal_of(of);
        tokio::select! {
            result = asked => result,
            told = refused => Err(Refused(told).into()),
        }
    }

    /// Waits for a refusal of a request or a message. `of` holds the tokens of the subject by which
    /// the refusal is recognized.
    pub(crate) fn refusal_of(&self, of: &str) -> impl Future<Output = String> {
        let mut refusals = self.refusals.clone();
        // An earlier refusal does not count, since the request may be allowed now.
        refusals.borrow_and_update();
        async move {
            while refusals.changed().await.is_ok() {
                let told = refusals.borrow_and_update().clone();
                if concerns(&told, of) {
                    return told;
                }
            }
            // The connection is closed, so the request fails by itself.
            std::future::pending().await
        }
    }
}

/// Returns whether the subject of a refusal contains these tokens.
fn concerns(told: &str, of: &str) -> bool {
    let subject = told.split('"').nth(1).unwrap_or_default();
    format!(".{subject}.").contains(&format!(".{of}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_concerns_what_its_subject_names() {
        let told = "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.CONTACTS\"";
        for (of, expected) in [
            ("STREAM.INFO.CONTACTS", true),
            ("CONTACTS", true),
            ("CONTACT", false),
            ("INFO", true),
            ("CONSUMER.INFO.CONTACTS", false),
            ("Permissions", false),
        ] {
            assert_eq!(concerns(told, of), expected, "{of}");
        }
        assert!(!concerns("Permissions Violation", "CONTACTS"));
    }

    #[test]
    fn only_what_lacks_permission_is_a_refusal() {
        let other = |text: &str| Event::ServerError(ServerError::Other(text.to_owned()));
        let told = "Permissions Violation for Publish to \"a\"";
        assert_eq!(refusal(&other(told)), Some(told));
        assert_eq!(refusal(&other("Stale Connection")), None);
        assert_eq!(refusal(&Event::Connected), None);
    }
}

//! A visitor's contact, on its way from the gateway to the store.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CONTACTS, Event, Stream, V1};

/// Names one contact for ever: the answer's `id`, the message's id, and `_id` in the store. UUID version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ContactId(pub Uuid);

impl ContactId {
    /// A new one, which sorts after those made before.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for ContactId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ContactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A contact was submitted and validated. Subject `contacts.submitted`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactSubmitted {
    /// The payload's version.
    pub v: V1,
    /// Names the contact.
    pub id: ContactId,
    /// The visitor's name.
    pub name: String,
    /// Where to answer.
    pub email: String,
    /// What it is about, if the visitor said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What the visitor wrote.
    pub message: String,
    /// When the gateway took it.
    pub received_at: DateTime<Utc>,
}

impl ContactSubmitted {
    /// The subject of every contact.
    pub const SUBJECT: &'static str = "contacts.submitted";
}

/// Personal data stays out of logs: only the id is shown.
impl fmt::Debug for ContactSubmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactSubmitted").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Event for ContactSubmitted {
    const TYPE: &'static str = "portfolio.contact.submitted.v1";
    const STREAM: &'static Stream = &CONTACTS;

    fn subject(&self) -> String {
        Self::SUBJECT.to_owned()
    }

    fn message_id(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_contact_data() {
        let contact = ContactSubmitted {
            v: V1,
            id: ContactId::new(),
            name: "Ada".into(),
            email: "ada@example.org".into(),
            subject: Some("engine".into()),
            message: "hello".into(),
            received_at: Utc::now(),
        };
        let shown = format!("{contact:?}");
        for canary in ["Ada", "example.org", "engine", "hello"] {
            assert!(!shown.contains(canary), "{shown}");
        }
    }
}

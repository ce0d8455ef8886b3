//! A contact as the store keeps it. Pure.

use bson::{DateTime, Uuid};
use events::Contact;
use serde::{Deserialize, Serialize};

/// The document of a contact. Its `_id` is the contact's id, so that the store itself refuses a
/// second copy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredContact {
    #[serde(rename = "_id")]
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) subject: Option<String>,
    pub(crate) message: String,
    pub(crate) received_at: DateTime,
    pub(crate) stored_at: DateTime,
}

impl StoredContact {
    /// Returns the document of a contact. Every field is named here, so that a new one cannot be
    /// forgotten.
    pub(crate) fn new(contact: Contact, stored_at: DateTime) -> Self {
        // The trace is for logs, not for the owner.
        let Contact { id, name, email, subject, message, received_at, traceparent: _ } = contact;
        Self {
            id: Uuid::from(id.0),
            name,
            email,
            subject,
            message,
            received_at: DateTime::from_millis(received_at.timestamp_millis()),
            stored_at,
        }
    }

    /// Returns whether the other document holds the same contact, at whatever time either was
    /// stored.
    pub(crate) fn is_same_contact(&self, other: &Self) -> bool {
        let Self { id, name, email, subject, message, received_at, stored_at: _ } = self;
        *id == other.id
            && *name == other.name
            && *email == other.email
            && *subject == other.subject
            && *message == other.message
            && *received_at == other.received_at
    }

    /// Returns the contact that the document holds, for a dead letter.
    pub(crate) fn to_contact(&self) -> Contact {
        Contact {
            id: events::ContactId(self.id.to_uuid_1()),
            name: self.name.clone(),
            email: self.email.clone(),
            subject: self.subject.clone(),
            message: self.message.clone(),
            received_at: self.received_at.to_chrono(),
            traceparent: None,
        }
    }
}

/// Personal data stays out of logs: only the id is shown.
impl std::fmt::Debug for StoredContact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredContact").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use chrono::DateTime as ChronoTime;
    use events::ContactId;
    use proptest::{option, prelude::*};

    use super::*;

    fn contact() -> Contact {
        serde_json::from_str(
            r#"{"id": "01980000-0000-7000-8000-000000000001", "name": "Ada",
                "email": "ada@example.org", "message": "hello",
                "received_at": "2026-05-28T20:26:40.123Z"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_contact_becomes_the_document_of_the_contract() {
        let stored = StoredContact::new(contact(), DateTime::from_millis(7));
        assert_eq!(
            bson::serialize_to_document(&stored).unwrap(),
            doc! {
                "_id": Uuid::parse_str("01980000-0000-7000-8000-000000000001").unwrap(),
                "name": "Ada", "email": "ada@example.org", "subject": null, "message": "hello",
                "received_at": DateTime::from_millis(1_780_000_000_123),
                "stored_at": DateTime::from_millis(7),
            }
        );
    }

    #[test]
    fn another_text_is_another_contact() {
        let stored = StoredContact::new(contact(), DateTime::from_millis(7));
        let later = StoredContact { stored_at: DateTime::from_millis(9), ..stored.clone() };
        assert!(stored.is_same_contact(&later));
        let other = StoredContact { message: "bye".to_owned(), ..stored.clone() };
        assert!(!stored.is_same_contact(&other));
    }

    proptest! {
        #[test]
        fn a_document_reads_back_as_its_contact(
            id in any::<u128>(),
            name in any::<String>(),
            email in any::<String>(),
            subject in option::of(any::<String>()),
            message in any::<String>(),
            millis in 0_i64..4_102_444_800_000,
        ) {
            let contact = Contact {
                id: ContactId(uuid::Uuid::from_u128(id)),
                name, email, subject, message,
                received_at: ChronoTime::from_timestamp_millis(millis).unwrap(),
                traceparent: None,
            };
            let stored = StoredContact::new(contact.clone(), DateTime::from_millis(7));
            let document = bson::serialize_to_document(&stored).unwrap();
            let read: StoredContact = bson::deserialize_from_document(document).unwrap();
            prop_assert_eq!(read.to_contact(), contact);
        }
    }
}

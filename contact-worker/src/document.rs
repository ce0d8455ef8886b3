//! A contact as the store keeps it. Pure.

use bson::{Bson, Document, doc};
use events::ContactSubmitted;

/// The document of a contact: `_id` is the event's id, so that the store itself refuses a second one.
pub(crate) fn of_contact(contact: &ContactSubmitted, stored_at: bson::DateTime) -> Document {
    doc! {
        "_id": bson::Uuid::from(contact.id.0),
        "name": &contact.name,
        "email": &contact.email,
        "subject": contact.subject.as_ref().map_or(Bson::Null, |subject| Bson::String(subject.clone())),
        "message": &contact.message,
        "received_at": bson::DateTime::from_millis(contact.received_at.timestamp_millis()),
        "stored_at": stored_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_becomes_the_document_of_the_contract() {
        let contact: ContactSubmitted = serde_json::from_str(
            r#"{"v": 1, "id": "01980000-0000-7000-8000-000000000001", "name": "Ada", "email": "ada@example.org",
                "message": "hello", "received_at": "2026-05-28T20:26:40.123Z"}"#,
        )
        .unwrap();
        let document = of_contact(&contact, bson::DateTime::from_millis(7));
        assert_eq!(
            document,
            doc! {
                "_id": bson::Uuid::parse_str("01980000-0000-7000-8000-000000000001").unwrap(),
                "name": "Ada", "email": "ada@example.org", "subject": null, "message": "hello",
                "received_at": bson::DateTime::from_millis(1_780_000_000_123),
                "stored_at": bson::DateTime::from_millis(7),
            }
        );
    }
}

//! Contacts as visitors would send them: as messages of the bus, and as documents of the store.

use async_nats::HeaderMap;
use bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use uuid::Uuid;

/// The length of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// About 200 bytes.
    Usual,
    /// As much as the form allows, in characters of four bytes: 21 KB.
    Largest,
}

/// A message, as the gateway publishes it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) payload: String,
}

impl Size {
    fn text(self, usual: &str, characters: usize) -> String {
        match self {
            Self::Usual => usual.to_owned(),
            Self::Largest => "🦀".repeat(characters),
        }
    }

    fn contact(self, id: Uuid) -> Value {
        json!({
            "id": id,
            "name": self.text(&format!("Visitor {}", id.as_u64_pair().1), 100),
            "email": "visitor@example.org",
            "subject": self.text("Hello", 200),
            "message": self.text(&"x".repeat(100), 5_000),
            "received_at": "2026-01-01T00:00:00.000Z",
        })
    }
}

/// Returns one message of contacts that are committed together (version 2).
pub(crate) fn group(size: Size, contacts: usize) -> Message {
    let contacts: Vec<_> = (0..contacts).map(|_| size.contact(Uuid::now_v7())).collect();
    let payload = json!({"v": 2, "contacts": contacts}).to_string();
    Message { headers: headers(Uuid::now_v7()), payload }
}

/// Returns a contact that is a message of its own (version 1).
pub(crate) fn single(size: Size) -> Message {
    let id = Uuid::now_v7();
    let mut contact = size.contact(id);
    contact["v"] = 1.into();
    Message { headers: former_headers(id), payload: contact.to_string() }
}

/// Returns the headers of a group: only those that somebody reads.
fn headers(id: Uuid) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.to_string());
    let traceparent = format!("00-{}-{:016x}-00", id.simple(), id.as_u64_pair().1);
    headers.insert("traceparent", traceparent);
    headers
}

/// Returns the headers of version 1, which has more of them.
fn former_headers(id: Uuid) -> HeaderMap {
    let mut headers = headers(id);
    for (name, value) in [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", id.to_string()),
        ("ce-source", "/direct".to_owned()),
        ("ce-type", "portfolio.contact.submitted.v1".to_owned()),
        ("ce-time", "2026-01-01T00:00:00.000Z".to_owned()),
        ("content-type", "application/json".to_owned()),
    ] {
        headers.insert(name, value);
    }
    headers
}

/// Returns a document, as the worker stores it.
pub(crate) fn document() -> Document {
    let id = Uuid::now_v7();
    doc! {
        "_id": bson::Uuid::from_bytes(id.into_bytes()), "name": format!("Visitor {}", id.as_u64_pair().1),
        "email": "visitor@example.org", "subject": "Hello", "message": "x".repeat(100),
        "received_at": DateTime::now(), "stored_at": DateTime::now(),
    }
}

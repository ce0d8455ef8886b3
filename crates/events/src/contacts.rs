//! A visitor's contact, on its way from the gateway to the store.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use uuid::Uuid;

use crate::{CONTACTS, Event, Group, Stream, V1, V2};

/// The subject of every group of contacts.
pub const CONTACTS_SUBMITTED: &str = "contacts.submitted";

/// Names one contact for ever: the answer's `id`, and `_id` in the store. UUID version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ContactId(pub Uuid);

impl ContactId {
    /// Returns a new id, which sorts after those made before.
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

/// A contact that was submitted and validated: one member of a [`ContactGroup`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Names the contact.
    pub id: ContactId,
    /// The visitor's name.
    pub name: String,
    /// The address to answer to.
    pub email: String,
    /// The subject, if the visitor gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The text that the visitor wrote.
    pub message: String,
    /// The time at which the gateway received the request.
    pub received_at: DateTime<Utc>,
    /// The W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Personal data stays out of logs: only the id is shown.
impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Contacts that were committed together, in one message. Subject `contacts.submitted`.
///
/// Version 2 of the payload. Version 1, a single contact with `"v": 1` among its fields, is read as
/// a group of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContactGroup {
    /// The payload's version.
    pub v: V2,
    /// The contacts, at least one.
    pub contacts: Vec<Contact>,
}

impl From<Vec<Contact>> for ContactGroup {
    fn from(contacts: Vec<Contact>) -> Self {
        Self { v: V2, contacts }
    }
}

/// Either version of the payload, in one pass over its text.
#[derive(Deserialize)]
struct AnyVersion {
    v: u64,
    contacts: Option<Vec<Contact>>,
    id: Option<ContactId>,
    name: Option<String>,
    email: Option<String>,
    subject: Option<String>,
    message: Option<String>,
    received_at: Option<DateTime<Utc>>,
}

impl<'de> Deserialize<'de> for ContactGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyVersion { v, contacts, id, name, email, subject, message, received_at } =
            AnyVersion::deserialize(deserializer)?;
        match (v, contacts) {
            (1, None) => {
                let missing = D::Error::missing_field;
                let contact = Contact {
                    id: id.ok_or_else(|| missing("id"))?,
                    name: name.ok_or_else(|| missing("name"))?,
                    email: email.ok_or_else(|| missing("email"))?,
                    subject,
                    message: message.ok_or_else(|| missing("message"))?,
                    received_at: received_at.ok_or_else(|| missing("received_at"))?,
                    traceparent: None,
                };
                Ok(vec![contact].into())
            }
            (2, Some(contacts)) if !contacts.is_empty() => Ok(contacts.into()),
            (2, Some(_)) => Err(D::Error::custom("payload version 2 without contacts")),
            (2, None) => Err(D::Error::missing_field("contacts")),
            (1, Some(_)) => Err(D::Error::custom("payload version 1 with a list of contacts")),
            (other, _) => Err(D::Error::custom(format_args!("payload version {other} is unknown"))),
        }
    }
}

impl Event for ContactGroup {
    const TYPE: &'static str = "portfolio.contact.submitted";
    const STREAM: &'static Stream = &CONTACTS;
    const VERSIONS: &'static [u64] = &[V1::NUMBER, V2::NUMBER];

    fn subject(&self) -> String {
        CONTACTS_SUBMITTED.to_owned()
    }

    fn message_id(&self) -> String {
        self.contacts.first().map_or_else(String::new, |contact| contact.id.to_string())
    }
}

impl Group for ContactGroup {
    type Member = Contact;

    const SUBJECT: &'static str = CONTACTS_SUBMITTED;
    const MAX_MEMBERS: usize = 1_000;
    // A single contact may be larger: a request body of 64 KiB takes up to twice as many bytes as
    // JSON.
    const MAX_BYTES: usize = 512 * 1024;

    fn set_traceparent(contact: &mut Contact, traceparent: String) {
        contact.traceparent = Some(traceparent);
    }

    fn join<'a>(contacts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut payload = br#"{"v":2,"contacts":["#.to_vec();
        for (index, contact) in contacts.into_iter().enumerate() {
            if index > 0 {
                payload.push(b',');
            }
            payload.extend_from_slice(contact);
        }
        payload.extend_from_slice(b"]}");
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact() -> Contact {
        Contact {
            id: ContactId(Uuid::nil()),
            name: "Ada".into(),
            email: "ada@example.org".into(),
            subject: Some("engine".into()),
            message: "hello".into(),
            received_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            traceparent: None,
        }
    }

    #[test]
    fn debug_output_holds_no_contact_data() {
        let shown = format!("{:?}", ContactGroup::from(vec![contact()]));
        for canary in ["Ada", "example.org", "engine", "hello"] {
            assert!(!shown.contains(canary), "{shown}");
        }
    }

    #[test]
    fn joined_contacts_are_the_group_that_is_read() {
        let group =
            ContactGroup::from(vec![contact(), Contact { name: "Bob".into(), ..contact() }]);
        let encoded: Vec<_> =
            group.contacts.iter().map(|contact| serde_json::to_vec(contact).unwrap()).collect();
        let joined = ContactGroup::join(encoded.iter().map(Vec::as_slice));
        assert_eq!(joined, serde_json::to_vec(&group).unwrap());
        assert_eq!(serde_json::from_slice::<ContactGroup>(&joined).unwrap(), group);
    }

    #[test]
    fn version_1_is_a_group_of_one() {
        let mut single = serde_json::to_value(contact()).unwrap();
        single["v"] = 1.into();
        let group: ContactGroup = serde_json::from_value(single).unwrap();
        assert_eq!(group.contacts, [contact()]);
    }

    #[test]
    fn other_payloads_are_refused() {
        for (payload, expected) in [
            (r#"{"v":3,"contacts":[]}"#, "payload version 3 is unknown"),
            (r#"{"v":2,"contacts":[]}"#, "payload version 2 without contacts"),
            (r#"{"v":2}"#, "missing field `contacts`"),
            (r#"{"v":1}"#, "missing field `id`"),
            (r#"{"v":1,"contacts":[]}"#, "payload version 1 with a list of contacts"),
            (r#"{"contacts":[]}"#, "missing field `v`"),
        ] {
            let error = serde_json::from_str::<ContactGroup>(payload).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{payload}: {error}");
        }
    }
}

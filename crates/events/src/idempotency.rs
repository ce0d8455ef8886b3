//! What is remembered of an `Idempotency-Key`, so that the same request again gets the same answer.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Event, IDEMPOTENCY, Stream, V1};

/// How far the request behind a key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Somebody works on it.
    InProgress,
    /// It came to nothing, and may be tried again.
    Open,
    /// It is done.
    Done,
}

/// A key was used. Subject `idempotency.<hash of the key>`. It holds nothing of the request but a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed {
    /// The payload's version.
    pub v: V1,
    /// SHA-256 of the key and of what it belongs to, in hexadecimal digits.
    pub key: String,
    /// SHA-256 of the request's body, in hexadecimal digits.
    pub fingerprint: String,
    /// The id that the request's event has, whoever publishes it.
    pub id: Uuid,
    /// When the request was first received; part of its receipt.
    pub received_at: DateTime<Utc>,
    /// How far it has come.
    pub state: KeyState,
    /// Since when.
    pub at: DateTime<Utc>,
}

impl KeyUsed {
    /// The subject of a key.
    pub fn subject_of(key: &str) -> String {
        format!("idempotency.{key}")
    }
}

impl Event for KeyUsed {
    const TYPE: &'static str = "portfolio.key.used.v1";
    const STREAM: &'static Stream = &IDEMPOTENCY;

    fn subject(&self) -> String {
        Self::subject_of(&self.key)
    }

    fn message_id(&self) -> String {
        format!("{}.{}", self.key, self.at.timestamp_micros())
    }
}

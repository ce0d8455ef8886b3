//! The record of an `Idempotency-Key`, by which a repeated request gets the same answer.

use std::{fmt, marker::PhantomData};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Event, IDEMPOTENCY_CALLERS, IDEMPOTENCY_VISITORS, Stream, V1};

/// The progress of the request behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// A replica works on the request.
    InProgress,
    /// The request failed, and may be tried again.
    Open,
    /// The request is done.
    Done,
}

/// A group of senders whose keys share a stream. Visitors cannot use up the space of callers with a
/// token.
pub trait KeyHolder: fmt::Debug + Clone + Send + Sync + 'static {
    /// The stream of these keys.
    const STREAM: &'static Stream;

    /// The second token of their subjects.
    const TOKEN: &'static str;
}

/// Callers with a token: CI and operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers;

/// Visitors, who have no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitors;

impl KeyHolder for Callers {
    const STREAM: &'static Stream = &IDEMPOTENCY_CALLERS;
    const TOKEN: &'static str = "caller";
}

impl KeyHolder for Visitors {
    const STREAM: &'static Stream = &IDEMPOTENCY_VISITORS;
    const TOKEN: &'static str = "visitor";
}

/// The use of a key. Subject `idempotency.<caller or visitor>.<hash of the key>`. It holds nothing
/// of the request except a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed<H> {
    /// The payload's version.
    pub v: V1,
    /// SHA-256 of the key and its scope, in hexadecimal digits.
    pub key: String,
    /// SHA-256 of the request's body, in hexadecimal digits.
    pub fingerprint: String,
    /// The id of the request's event, the same for every replica that publishes it.
    pub id: Uuid,
    /// The time at which the request was first received; part of its receipt.
    pub received_at: DateTime<Utc>,
    /// The progress of the request.
    pub state: KeyState,
    /// The time at which the request entered this state.
    pub at: DateTime<Utc>,
    /// The holder of the key.
    #[serde(skip)]
    pub holder: PhantomData<H>,
}

impl<H: KeyHolder> KeyUsed<H> {
    /// Returns the subject of a key.
    pub fn subject_of(key: &str) -> String {
        format!("idempotency.{}.{key}", H::TOKEN)
    }
}

impl<H: KeyHolder> Event for KeyUsed<H> {
    const TYPE: &'static str = "portfolio.key.used";
    const STREAM: &'static Stream = H::STREAM;

    fn subject(&self) -> String {
        Self::subject_of(&self.key)
    }

    fn message_id(&self) -> String {
        format!("{}.{}", self.key, self.at.timestamp_micros())
    }
}

//! `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header): for a day, a repeated
//! request gets the same answer, from every replica.
//!
//! A key is claimed on the bus before its request is carried out, together with the id that the
//! request's event will have. A repeated request that takes over a claim whose owner is gone
//! publishes the same event under the same id, and returns the same receipt.

use std::{marker::PhantomData, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use bus::{Bus, PublishError};
use chrono::{DateTime, TimeDelta, Utc};
use events::{Callers, KeyHolder, KeyState, KeyUsed, V1, Visitors};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    problem::Problem,
    publish::{self, PATIENCE},
};

const HEADER: &str = "idempotency-key";

/// The time after which a claim expires if its owner does not settle it: longer than the claim and
/// the request itself may take, each of which waits for the bus with [`PATIENCE`].
const CLAIM: TimeDelta = TimeDelta::seconds(25);

/// The patience for recording the end of a request. If that fails, the claim expires.
const RECORD_WITHIN: Duration = Duration::from_secs(2);

/// The description of the header in the API reference.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by name; this describes it")]
pub(crate) struct IdempotencyKey {
    /// Names this request: the same request gets the same answer again, another request gets 422.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: String,
}

/// The holder of a key. Others may use the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A visitor, who has no token.
    Visitor,
    /// A caller with a token, on one route.
    Caller(String),
}

impl Scope {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Visitor => b"contact",
            Self::Caller(scope) => scope.as_bytes(),
        }
    }
}

/// A key, and the request that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    is_visitor: bool,
    hash: String,
    fingerprint: String,
}

impl Key {
    /// Returns the key of a request: that of its header, or else one made of `other`; none without
    /// both. A key belongs to a route and a caller: others may use the same key.
    ///
    /// The content of the body counts, not the way in which it is written.
    pub(crate) fn of(
        headers: &HeaderMap,
        other: Option<&str>,
        scope: &Scope,
        body: impl FnOnce() -> Vec<u8>,
    ) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else {
            return Ok(other.map(|text| Self::new(scope, text.as_bytes(), &body())));
        };
        let text = value.as_bytes();
        let visible = (1..=255).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if !visible || values.next().is_some() {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "`Idempotency-Key` is one of 1 to 255 visible characters",
            ));
        }
        Ok(Some(Self::new(scope, text, &body())))
    }

    /// Makes a key of a text, which may come from elsewhere than the header.
    pub(crate) fn new(scope: &Scope, text: &[u8], body: &[u8]) -> Self {
        let said =
            serde_json::from_slice::<Value>(body).map(|value| value.to_string().into_bytes());
        let said = said.unwrap_or_else(|_| body.to_vec());
        Self {
            is_visitor: *scope == Scope::Visitor,
            hash: hash(&[scope.as_bytes(), text]),
            fingerprint: hash(&[&said]),
        }
    }
}

fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

/// Carries out a request once, however often it is sent with the same key. Returns the id and the
/// time for its receipt.
///
/// Without a key, only calls `publish`.
pub(crate) async fn once<P>(
    bus: &Bus,
    key: Option<Key>,
    id: Uuid,
    now: DateTime<Utc>,
    publish: impl FnOnce(Uuid, DateTime<Utc>) -> P,
) -> Result<(Uuid, DateTime<Utc>), Problem>
where
    P: Future<Output = Result<(), Problem>>,
{
    let Some(key) = key else { return publish(id, now).await.map(|()| (id, now)) };
    // Boxed, so that the future of a request without a key does not have the size of these steps.
    if key.is_visitor {
        Box::pin(claim::<Visitors>(bus, key, id, now)).await?.carry_out(publish).await
    } else {
        Box::pin(claim::<Callers>(bus, key, id, now)).await?.carry_out(publish).await
    }
}

/// Carries out several requests in their order. All keys are claimed first, so that a key that
/// stands for another request stops all of them. Returns the ids, or the index of the request that
/// failed and its problem.
pub(crate) async fn all<T, P>(
    bus: &Bus,
    requests: impl IntoIterator<Item = (Key, T)>,
    now: DateTime<Utc>,
    publish: impl Fn(T, Uuid, DateTime<Utc>) -> P,
) -> Result<Vec<Uuid>, (usize, Problem)>
where
    P: Future<Output = Result<(), Problem>>,
{
    let mut claims = Vec::new();
    for (index, (key, request)) in requests.into_iter().enumerate() {
        match claim::<Callers>(bus, key, Uuid::now_v7(), now).await {
            Ok(claim) => claims.push((claim, request)),
            Err(problem) => {
                give_up(claims).await;
                return Err((index, problem));
            }
        }
    }
    let mut ids = Vec::with_capacity(claims.len());
    let mut claims = claims.into_iter();
    while let Some((claim, request)) = claims.next() {
        match claim.carry_out(|id, received_at| publish(request, id, received_at)).await {
            Ok((id, _)) => ids.push(id),
            Err(problem) => {
                give_up(claims).await;
                return Err((ids.len(), problem));
            }
        }
    }
    Ok(ids)
}

/// Gives up claims, so that a later request can take them over.
async fn give_up<T>(claims: impl IntoIterator<Item = (Claim<Callers>, T)>) {
    for (claim, _) in claims {
        if let Claim::Ours(owned) = claim {
            owned.settle(false).await;
        }
    }
}

/// The outcome of claiming a key.
#[derive(Debug)]
enum Claim<H> {
    /// The request was carried out before, under this id and at this time.
    Done { id: Uuid, received_at: DateTime<Utc> },
    /// The request has to be carried out, under the id and with the time of this claim.
    Ours(Box<Owned<H>>),
}

impl<H: KeyHolder> Claim<H> {
    /// Carries out the request unless that is done. Returns the id and the time for its receipt.
    async fn carry_out<P>(
        self,
        publish: impl FnOnce(Uuid, DateTime<Utc>) -> P,
    ) -> Result<(Uuid, DateTime<Utc>), Problem>
    where
        P: Future<Output = Result<(), Problem>>,
    {
        match self {
            Self::Done { id, received_at } => Ok((id, received_at)),
            Self::Ours(owned) => {
                let (id, received_at) = (owned.used.id, owned.used.received_at);
                let result = publish(id, received_at).await;
                Box::pin(owned.settle(result.is_ok())).await;
                result.map(|()| (id, received_at))
            }
        }
    }
}

/// A claim that is ours until it is settled or expires.
#[derive(Debug)]
struct Owned<H> {
    bus: Bus,
    used: KeyUsed<H>,
    sequence: u64,
}

/// The meaning of a key's record for a request.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Done,
    InProgress,
    OtherRequest,
    /// The owner of the claim is gone or has given it up.
    TakeOver,
}

/// Compares the record of a key with a request. Pure.
fn judge<H>(used: &KeyUsed<H>, fingerprint: &str, now: DateTime<Utc>) -> Finding {
    match used.state {
        _ if used.fingerprint != fingerprint => Finding::OtherRequest,
        KeyState::Done => Finding::Done,
        // A clock that jumped only makes a claim expire early or late.
        KeyState::InProgress if (now - used.at).abs() < CLAIM => Finding::InProgress,
        KeyState::InProgress | KeyState::Open => Finding::TakeOver,
    }
}

/// Claims a key for a request, or returns the outcome of an earlier request with this key.
async fn claim<H: KeyHolder>(
    bus: &Bus,
    key: Key,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<Claim<H>, Problem> {
    let fresh = KeyUsed {
        v: V1,
        key: key.hash,
        fingerprint: key.fingerprint,
        id,
        received_at: now,
        state: KeyState::InProgress,
        at: now,
        holder: PhantomData::<H>,
    };
    match bus.publish_after(&fresh, 0, PATIENCE).await {
        Ok(published) => return Ok(ours(bus, fresh, published.sequence)),
        Err(PublishError::MovedOn) => {}
        Err(error) => return Err(publish::problem(&error)),
    }
    let last = bus.read_last::<KeyUsed<H>>(&KeyUsed::<H>::subject_of(&fresh.key)).await.map_err(
        |error| {
            tracing::warn!("{error}");
            Problem::unavailable("the key cannot be looked up now, try again", 2)
        },
    )?;
    // The record expired at this very moment.
    let Some((sequence, known)) = last else { return Err(in_progress()) };
    match judge(&known, &fresh.fingerprint, now) {
        Finding::Done => Ok(Claim::Done { id: known.id, received_at: known.received_at }),
        Finding::InProgress => Err(in_progress()),
        Finding::OtherRequest => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this `Idempotency-Key`, or the event's source and id, was used for another request; a new request needs a new one",
        )),
        Finding::TakeOver => {
            let used = KeyUsed { state: KeyState::InProgress, at: now, ..known };
            match bus.publish_after(&used, sequence, PATIENCE).await {
                Ok(published) => Ok(ours(bus, used, published.sequence)),
                Err(PublishError::MovedOn) => Err(in_progress()),
                Err(error) => Err(publish::problem(&error)),
            }
        }
    }
}

fn ours<H>(bus: &Bus, used: KeyUsed<H>, sequence: u64) -> Claim<H> {
    Claim::Ours(Box::new(Owned { bus: bus.clone(), used, sequence }))
}

fn in_progress() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "a request with this `Idempotency-Key` is in progress; ask again",
    )
    .with_header(header::RETRY_AFTER, "1")
}

impl<H: KeyHolder> Owned<H> {
    /// Records how the request ended. If that fails, the claim expires, and the next request
    /// publishes the same event again, which changes nothing.
    async fn settle(self, done: bool) {
        let state = if done { KeyState::Done } else { KeyState::Open };
        let used = KeyUsed { state, at: Utc::now(), ..self.used };
        if let Err(error) = self.bus.publish_after(&used, self.sequence, RECORD_WITHIN).await {
            tracing::warn!(
                "the end of a request with an Idempotency-Key could not be noted: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(value: &str, scope: &Scope, body: &Value) -> Result<Option<Key>, u16> {
        let headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), value.parse().unwrap())]);
        Key::of(&headers, None, scope, || body.to_string().into_bytes())
            .map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_key_is_of_its_route_its_caller_and_its_body() {
        let body = json!({"a": 1});
        let (visitor, jenkins) = (Scope::Visitor, Scope::Caller("builds jenkins".to_owned()));
        let one = key("abc", &visitor, &body).unwrap().unwrap();
        assert_eq!(key("abc", &visitor, &body).unwrap().unwrap(), one);
        assert_ne!(key("abc", &jenkins, &body).unwrap().unwrap().hash, one.hash);
        assert_ne!(key("abd", &visitor, &body).unwrap().unwrap().hash, one.hash);
        let other_body = key("abc", &visitor, &json!({"a": 2})).unwrap().unwrap();
        assert!(other_body.hash == one.hash && other_body.fingerprint != one.fingerprint);
        assert_eq!(Key::of(&HeaderMap::new(), None, &visitor, Vec::new).unwrap(), None);
        for bad in ["", "a b", &"x".repeat(256)] {
            assert_eq!(key(bad, &visitor, &body), Err(400), "{bad}");
        }
    }

    #[test]
    fn what_is_known_of_a_key_decides() {
        let at: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let used = |state| KeyUsed {
            v: V1,
            key: "k".to_owned(),
            fingerprint: "f".to_owned(),
            id: Uuid::nil(),
            received_at: at,
            state,
            at,
            holder: PhantomData::<Callers>,
        };
        let later = |seconds| at + TimeDelta::seconds(seconds);
        for (state, fingerprint, now, expected) in [
            (KeyState::Done, "f", later(80_000), Finding::Done),
            (KeyState::Done, "g", later(0), Finding::OtherRequest),
            (KeyState::InProgress, "g", later(100), Finding::OtherRequest),
            (KeyState::InProgress, "f", later(24), Finding::InProgress),
            (KeyState::InProgress, "f", later(25), Finding::TakeOver),
            (KeyState::InProgress, "f", later(-3_600), Finding::TakeOver),
            (KeyState::Open, "f", later(0), Finding::TakeOver),
        ] {
            assert_eq!(
                judge(&used(state), fingerprint, now),
                expected,
                "{state:?} {fingerprint} {now}"
            );
        }
    }
}

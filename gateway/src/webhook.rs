//! Signatures as Standard Webhooks has them (standardwebhooks.com, specification 1.0): HMAC-SHA256 over id, time and body. Pure.

use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// How far the sender's clock may be from ours, in seconds. A signature is of no use to others after that; before, the id
/// makes the same request again give the same answer.
const TOLERANCE: i64 = 300;

/// How many bytes a secret has, as the specification recommends.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;

/// The headers of a signed request.
#[derive(Clone, Debug)]
pub(crate) struct Signed<'a> {
    /// Names the message. The same message sent again has the same one.
    pub(crate) id: &'a str,
    timestamp: &'a str,
    /// Some signatures, of which one has to be right: while secrets are changed, senders use both.
    signatures: &'a str,
}

impl<'a> Signed<'a> {
    /// The headers, if the request says that it is signed.
    ///
    /// # Errors
    /// It has some of the headers, and others not, or they are too old.
    pub(crate) fn of(
        headers: &'a HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(signatures) = text(SIGNATURE) else { return Ok(None) };
        let (Some(id), Some(timestamp)) = (text(ID), text(TIMESTAMP)) else {
            return Err(
                "a signed request has the headers webhook-id, webhook-timestamp and webhook-signature",
            );
        };
        if id.is_empty() || id.len() > 255 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("`webhook-id` is 1 to 255 visible characters");
        }
        let sent: i64 =
            timestamp.parse().map_err(|_| "`webhook-timestamp` is not in seconds since 1970")?;
        if sent.abs_diff(now.timestamp()) > TOLERANCE.unsigned_abs() {
            return Err("`webhook-timestamp` is more than 5 minutes from now");
        }
        Ok(Some(Self { id, timestamp, signatures }))
    }

    /// Whether one of the signatures is by this secret. Compares in constant time.
    pub(crate) fn is_by(&self, secret: &[u8], body: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
        for part in [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        let candidates =
            self.signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        // More than any change of secrets needs; each costs a comparison.
        let mut candidates = candidates.take(8).filter_map(|text| STANDARD.decode(text).ok());
        candidates.any(|signature| mac.clone().verify_slice(&signature).is_ok())
    }
}

/// Reads a secret as it is written: `whsec_` and base64.
pub(crate) fn secret(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
    SECRET.contains(&bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn judge(
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
        now: i64,
    ) -> Result<bool, &'static str> {
        let headers = [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)];
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let now = DateTime::from_timestamp(now, 0).unwrap();
        Ok(Signed::of(&headers, now)?.unwrap().is_by(&secret(KEY).unwrap(), body))
    }

    #[test]
    fn only_what_was_signed_of_late_passes() {
        let (id, at, now) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", 1_614_265_330);
        assert_eq!(judge(id, at, GOOD, BODY, now), Ok(true));
        assert_eq!(judge(id, at, GOOD, BODY, now + 300), Ok(true));
        assert_eq!(judge(id, at, &format!("v1,AAAA v2,x {GOOD}"), BODY, now), Ok(true));
        assert_eq!(judge(id, at, GOOD, b"{}", now), Ok(false));
        assert_eq!(judge("msg_2", at, GOOD, BODY, now), Ok(false));
        assert_eq!(judge(id, "1614265331", GOOD, BODY, now), Ok(false));
        for bad in
            ["", "v1,", "v1,!", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "g0hM9SsE"]
        {
            assert_eq!(judge(id, at, bad, BODY, now), Ok(false), "{bad}");
        }
        for (id, at, now) in [
            (id, at, now + 301),
            (id, at, now - 301),
            (id, "soon", now),
            ("a b", at, now),
            ("", at, now),
        ] {
            assert!(judge(id, at, GOOD, BODY, now).is_err(), "{id} {at} {now}");
        }
    }

    #[test]
    fn a_secret_is_long_enough() {
        assert_eq!(secret(KEY).map(|secret| secret.len()), Some(24));
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert_eq!(secret(bad), None, "{bad}");
        }
    }
}

//! The sign-in: a token in a cookie that no script sees and no other site sends.
//!
//! The cookie holds the token itself, so that it ends with the token, on every replica, and here nothing but hashes is kept.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    auth::{Auth, Caller},
    problem::Problem,
};

const COOKIE: &str = "portfolio-token";

/// How long a browser keeps it, in seconds: a working day.
const MAX_AGE: u32 = 12 * 60 * 60;

/// Who is signed in.
pub(super) fn visitor(auth: &Auth, headers: &HeaderMap) -> Option<Caller> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    let token = URL_SAFE_NO_PAD.decode(value).ok()?;
    auth.of_token(std::str::from_utf8(&token).ok()?)
}

/// The header that signs a browser in.
pub(super) fn begin(headers: &HeaderMap, token: &str) -> Option<HeaderValue> {
    cookie(headers, &URL_SAFE_NO_PAD.encode(token), MAX_AGE)
}

/// The header that signs a browser out.
pub(super) fn end(headers: &HeaderMap) -> Option<HeaderValue> {
    cookie(headers, "", 0)
}

fn cookie(headers: &HeaderMap, value: &str, max_age: u32) -> Option<HeaderValue> {
    let secure = if is_https(headers) { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE}={value}; Path=/rollouts; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}"
    );
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether the browser came by TLS, which a proxy before us has ended.
fn is_https(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Whether a browser says that another site made it come here, by a link.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|value| value.as_bytes() == b"cross-site")
}

/// Lets a form in only from our own pages: cookies prove who a browser belongs to, and not who made it send something.
///
/// # Errors
/// Another site sent it, or nobody knows who did.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = || {
        Err(Problem::new(StatusCode::FORBIDDEN, "the form was not sent from this site's own page"))
    };
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return if site.as_bytes() == b"same-origin" { Ok(()) } else { refused() };
    }
    let Some(origin) = text(header::ORIGIN) else { return refused() };
    let host = text(header::HOST).unwrap_or_default();
    let of_origin = origin.split_once("://").map_or("", |(_, host)| host);
    if !host.is_empty() && of_origin.eq_ignore_ascii_case(host) { Ok(()) } else { refused() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        pairs.collect::<HeaderMap>()
    }

    #[test]
    fn only_our_own_pages_may_send_forms() {
        for (pairs, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site")], false),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://a.example"),
                    ("host", "a.example"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://a.example"), ("host", "a.example")], true),
            (&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")], true),
            (&[("origin", "https://b.example"), ("host", "a.example")], false),
            (&[("origin", "null"), ("host", "a.example")], false),
            (&[("origin", "https://a.example")], false),
            (&[("host", "a.example")], false),
        ] {
            assert_eq!(check_origin(&headers(pairs)).is_ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_no_script_and_no_other_site() {
        let value = begin(&headers(&[("x-forwarded-proto", "https")]), "to;ken ü").unwrap();
        let text = value.to_str().unwrap();
        let expected = "portfolio-token=dG87a2VuIMO8; Path=/rollouts; HttpOnly; SameSite=Strict; Max-Age=43200; Secure";
        assert_eq!(text, expected);
        assert!(value.is_sensitive());
        assert!(!begin(&headers(&[]), "x").unwrap().to_str().unwrap().contains("Secure"));
        assert!(end(&headers(&[])).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}

//! Asks the new version who it is, over the way that its users take.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde_json::Value;
use service::{propagation, spans};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, Span};

use crate::targets::Smoke;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last answer may take at least.
const SHORTEST: Duration = Duration::from_millis(50);

/// The pauses after an answer that was right, and after one that was not.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// The largest answer that is read.
const MAX_BODY: usize = 64 * 1024;

/// A client for smoke tests. Clones share it.
#[derive(Clone)]
pub(crate) struct Prober(Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>);

/// What one request showed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Probe {
    Right,
    Wrong(String),
}

impl Prober {
    /// One that makes a new connection for each request: one that is kept would ask the same pod again and again.
    pub(crate) fn new() -> Self {
        let trusting = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(ring::default_provider());
        let builder = trusting.unwrap_or_else(|error| {
            tracing::warn!("no smoke test over https will pass, the system's certificates cannot be used: {error}");
            let trusting_none = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap_or_else(|_| ClientConfig::builder())
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(trusting_none)
        });
        let connector = builder.https_or_http().enable_http1().build();
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }

    /// Asks until the version answers as often in a row as it has to. What the last answers were, if the time is up before.
    pub(crate) async fn test(&self, smoke: &Smoke, version: &str) -> Result<(), String> {
        let deadline = Instant::now() + smoke.timeout;
        let (mut in_a_row, mut right, mut asked) = (0, 0, 0_u32);
        let mut last = "nothing was asked".to_owned();
        while asked == 0 || Instant::now() < deadline {
            asked += 1;
            let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST);
            match self.ask(smoke, version, left).await {
                Probe::Right => {
                    (in_a_row, right) = (in_a_row + 1, right + 1);
                    if in_a_row >= smoke.successes {
                        return Ok(());
                    }
                    sleep(PAUSES.0).await;
                }
                Probe::Wrong(why) => {
                    (in_a_row, last) = (0, why);
                    sleep(PAUSES.1.min(deadline.saturating_duration_since(Instant::now()))).await;
                }
            }
        }
        let wanted = smoke.successes;
        Err(format!(
            "of {asked} answers {right} were right, never {wanted} in a row; the last that was not: {last}"
        ))
    }

    async fn ask(&self, smoke: &Smoke, version: &str, left: Duration) -> Probe {
        let span = span();
        let probe = self.ask_within(&span, smoke, version, left).instrument(span.clone()).await;
        if let Probe::Wrong(why) = &probe {
            spans::failed(&span, "wrong_answer", why.as_str());
        }
        probe
    }

    async fn ask_within(&self, span: &Span, smoke: &Smoke, version: &str, left: Duration) -> Probe {
        let request = Request::get(&smoke.url)
            .header(header::USER_AGENT, concat!("deployer/", env!("CARGO_PKG_VERSION")));
        let mut request = match request.header(header::CONNECTION, "close").body(Empty::new()) {
            Ok(request) => request,
            Err(error) => return Probe::Wrong(error.to_string()),
        };
        describe(span, request.uri());
        propagation::inject(span, |name, value| {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                request.headers_mut().insert(name, value);
            }
        });
        let answer = async {
            let answer = self.0.request(request).await.map_err(|error| no_answer(&error))?;
            let status = answer.status();
            spans::note(span, "http.response.status_code", i64::from(status.as_u16()));
            let body = Limited::new(answer.into_body(), MAX_BODY)
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes()))
        };
        match timeout(ANSWER_TIMEOUT.min(left), answer).await {
            Ok(Ok((status, body))) => judge(status, &body, &smoke.version_pointer, version),
            Ok(Err(error)) => Probe::Wrong(error),
            Err(_) if left < ANSWER_TIMEOUT => {
                Probe::Wrong("no answer before the time was up".to_owned())
            }
            Err(_) => Probe::Wrong(format!("no answer within {ANSWER_TIMEOUT:?}")),
        }
    }
}

/// The span of one request (OpenTelemetry: HTTP client spans).
fn span() -> Span {
    tracing::info_span!("http", otel.name = "GET", otel.kind = "client")
}

/// Not the whole URL, which may hold what only its owner should know.
fn describe(span: &Span, uri: &Uri) {
    spans::note(span, "http.request.method", "GET");
    spans::note(span, "server.address", uri.host().unwrap_or_default().to_owned());
    spans::note(
        span,
        "server.port",
        i64::from(uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        })),
    );
    spans::note(span, "url.path", uri.path().to_owned());
}

/// The chain of errors: the outermost says no more than that it failed.
fn no_answer(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Whether an answer is the new version's. Nothing of its body is told but the version.
fn judge(status: StatusCode, body: &[u8], pointer: &str, version: &str) -> Probe {
    if status != StatusCode::OK {
        return Probe::Wrong(format!("the status was {status}"));
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return Probe::Wrong("the answer was not JSON".to_owned());
    };
    match body.pointer(pointer).and_then(Value::as_str) {
        Some(found) if found == version => Probe::Right,
        Some(found) => {
            let found: String = found.chars().take(100).collect();
            Probe::Wrong(format!("the version was {found:?}, not {version:?}"))
        }
        None => Probe::Wrong(format!("the answer had no text at {pointer:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_of_the_version_is_right() {
        let wrong = |text: &str| Probe::Wrong(text.to_owned());
        for (status, body, expected) in [
            (200, r#"{"status":"ok","version":"v2-abcd"}"#, Probe::Right),
            (200, r#"{"version":"v1-abcd"}"#, wrong(r#"the version was "v1-abcd", not "v2-abcd""#)),
            (200, r#"{"version":2}"#, wrong(r#"the answer had no text at "/version""#)),
            (200, "v2-abcd", wrong("the answer was not JSON")),
            (503, r#"{"version":"v2-abcd"}"#, wrong("the status was 503 Service Unavailable")),
            (204, "", wrong("the status was 204 No Content")),
            (302, "", wrong("the status was 302 Found")),
        ] {
            assert_eq!(
                judge(
                    StatusCode::from_u16(status).unwrap(),
                    body.as_bytes(),
                    "/version",
                    "v2-abcd"
                ),
                expected
            );
        }
    }
}

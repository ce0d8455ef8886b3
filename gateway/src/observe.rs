//! What happens around every request: its id, its span, its metrics, and the answer to a panic.

use std::{any::Any, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use prometheus::IntGauge;
use service::{propagation, spans};
use tracing::{Instrument, field};
use uuid::Uuid;

use crate::{app::Shared, problem::Problem};

const REQUEST_ID: &str = "x-request-id";

/// Wraps a request. Labels and span names hold the route, never the path, which anybody can make up.
pub(crate) async fn observe(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let metrics = &app.metrics;
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_label(request.method());
    let request_id = request_id(request.headers());
    let span = tracing::info_span!(
        "http",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        request_id = request_id.to_str().unwrap_or_default(),
        trace_id = field::Empty,
    );
    let headers = request.headers();
    propagation::adopt(
        &span,
        propagation::extract(|name| headers.get(name).and_then(|value| value.to_str().ok())),
    );

    let active = Active::begin(metrics.http_active.with_label_values(&[method, route]));
    let mut response = next.run(request).instrument(span.clone()).await;

    drop(active);
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    let took = started.elapsed();
    metrics
        .http_duration
        .with_label_values(&[method, route, status.as_str()])
        .observe(took.as_secs_f64());
    span.in_scope(|| {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if status.is_server_error() {
            spans::failed(&span, status.as_str(), "");
            tracing::warn!(
                http.response.status_code = status.as_u16(),
                duration_ms,
                "{method} {route} answered {status}"
            );
        } else {
            tracing::debug!(
                http.response.status_code = status.as_u16(),
                duration_ms,
                "{method} {route} answered {status}"
            );
        }
    });
    if let Ok(value) = HeaderValue::try_from(propagation::traceresponse(&span)) {
        response.headers_mut().insert("traceresponse", value);
    }
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

/// Counts something as long as it lives, also a request whose client goes away.
pub(crate) struct Active(IntGauge);

impl Active {
    pub(crate) fn begin(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(allowed)
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        let id = Uuid::now_v7().to_string();
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    })
}

/// The method, from a closed set (OpenTelemetry: `_OTHER` for those that are not known).
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// A panic is our mistake; the client hears so much, and no more. The panic itself has been logged where it happened.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "something broke on our side; it has been logged",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_shows_nothing_of_it() {
        async fn broken() -> &'static str {
            panic!("hunter2")
        }
        let router = Router::new().route("/", get(broken)).layer(CatchPanicLayer::custom(panicked));
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("hunter2"));
    }

    #[test]
    fn only_plain_ids_are_kept() {
        let id = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(
                REQUEST_ID.parse().unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            )]);
            request_id(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(id(b"abc-1.2_3"), "abc-1.2_3");
        for odd in [&b""[..], b"a b", b"{\"a\"}", &[b'a'; 129], b"\xff"] {
            assert!(Uuid::try_parse(&id(odd)).is_ok(), "{odd:?}");
        }
    }
}

//! Times every request to the API server, also those of the watches: as a layer of the client, which sees them all. Those of a
//! rollout are spans of its trace.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, Request, Response, Uri};
use prometheus::HistogramVec;
use service::{propagation, spans};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

/// Wraps a client's service.
#[derive(Clone, Debug)]
pub(super) struct Timed(pub(super) HistogramVec);

impl<S> Layer<S> for Timed {
    type Service = TimedService<S>;

    fn layer(&self, inner: S) -> TimedService<S> {
        TimedService { inner, duration: self.0.clone() }
    }
}

/// A client's service that is timed.
#[derive(Clone, Debug)]
pub(super) struct TimedService<S> {
    inner: S,
    duration: HistogramVec,
}

impl<S, A, B> Service<Request<A>> for TimedService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (verb, started) = (verb(request.method(), request.uri()), Instant::now());
        let span = span(&request);
        let (duration, answer) = (self.duration.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.instrument(span.clone()).await;
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            let code = status.map_or("error", code);
            duration.with_label_values(&[verb, code]).observe(started.elapsed().as_secs_f64());
            if let Some(status) = status {
                spans::note(&span, "http.response.status_code", i64::from(status));
            }
            if status.is_none_or(|status| status >= 400) {
                spans::failed(&span, code, format!("{verb} was answered by {code}"));
            }
            answer
        })
    }
}

/// The span of a request (OpenTelemetry: HTTP client spans), if it is made for something that is recorded.
fn span<B>(request: &Request<B>) -> Span {
    if !propagation::is_recorded(&Span::current()) {
        return Span::none();
    }
    let (method, uri) = (request.method(), request.uri());
    let template = template(uri.path());
    let span = tracing::info_span!(
        "kubernetes",
        otel.name = format_args!("{method} {template}"),
        otel.kind = "client"
    );
    spans::note(&span, "http.request.method", method.to_string());
    spans::note(&span, "url.template", template);
    spans::note(&span, "url.path", uri.path().to_owned());
    spans::note(&span, "server.address", uri.host().unwrap_or_default().to_owned());
    spans::note(&span, "server.port", i64::from(uri.port_u16().unwrap_or(443)));
    span
}

/// A path without the names in it.
fn template(path: &str) -> String {
    let Some((version, rest)) = path.split_once("/namespaces/") else { return path.to_owned() };
    let mut parts = rest.split('/');
    // The namespace, the resource, and the object.
    let resource = parts.nth(1).unwrap_or_default();
    let object = if parts.next().is_some() { "/{name}" } else { "" };
    let rest: String = parts.flat_map(|part| ["/", part]).collect();
    format!("{version}/namespaces/{{namespace}}/{resource}{object}{rest}")
}

/// The verb, as RBAC and the API server's own metrics have it.
fn verb(method: &Method, uri: &Uri) -> &'static str {
    match *method {
        Method::GET if uri.query().is_some_and(|query| query.contains("watch=true")) => "watch",
        Method::GET if is_collection(uri.path()) => "list",
        Method::GET => "get",
        Method::PATCH => "patch",
        Method::POST => "create",
        _ => "other",
    }
}

/// Whether a path ends with a resource's name in the plural, and not with that of one object.
fn is_collection(path: &str) -> bool {
    let rest = path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/'));
    rest.is_some_and(|(_, rest)| !rest.contains('/'))
}

/// The status, from a closed set.
fn code(status: u16) -> &'static str {
    match status {
        101 => "101",
        200 => "200",
        201 => "201",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        410 => "410",
        422 => "422",
        429 => "429",
        500 => "500",
        503 => "503",
        504 => "504",
        other if (200..300).contains(&other) => "2xx",
        other if (400..500).contains(&other) => "4xx",
        other if (500..600).contains(&other) => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_verb_that_it_needs_the_right_for() {
        for (method, uri, expected) in [
            (
                Method::GET,
                "/apis/apps/v1/namespaces/a/deployments?&watch=true&timeoutSeconds=290",
                "watch",
            ),
            (Method::GET, "/apis/apps/v1/namespaces/a/deployments?labelSelector=x", "list"),
            (Method::GET, "/apis/apps/v1/namespaces/a/deployments/b", "get"),
            (Method::GET, "/api/v1/namespaces/a/pods/b/log?previous=true", "get"),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b?", "patch"),
            (Method::POST, "/api/v1/namespaces/a/events", "create"),
            (Method::DELETE, "/api/v1/namespaces/a/events/b", "other"),
        ] {
            assert_eq!(verb(&method, &uri.parse().unwrap()), expected, "{method} {uri}");
        }
    }

    #[test]
    fn a_span_is_named_without_names() {
        for (path, expected) in [
            (
                "/apis/apps/v1/namespaces/a/deployments",
                "/apis/apps/v1/namespaces/{namespace}/deployments",
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/b",
                "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            ),
            ("/api/v1/namespaces/a/pods/b/log", "/api/v1/namespaces/{namespace}/pods/{name}/log"),
            ("/version", "/version"),
        ] {
            assert_eq!(template(path), expected);
        }
    }
}

//! `GET /api/rollouts/events`: every change of every rollout, as Server-Sent Events (WHATWG HTML, section 9.2).

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, stream};

use crate::{
    app::Shared,
    auth::Role,
    decisions,
    problem::Problem,
    rollouts::{ChangeView, Subscription},
};

/// How often something is sent where nothing happens: proxies cut what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back, at least; the rest is chance, so that not all come at once.
const RETRY: Duration = Duration::from_millis(500);

/// Every change of every rollout, as it comes.
///
/// Each is an `event: rollout` whose `id` is its place in the stream and whose data is a `Change`. Comments come every 15 s.
#[utoipa::path(
    get,
    path = "/api/rollouts/events",
    tag = "builds",
    params(("Last-Event-ID" = Option<u64>, Header, description = "Go on behind this place", minimum = 0)),
    responses((status = OK, description = "Server-Sent Events, without an end", content_type = "text/event-stream", body = ChangeView)),
    security(("ci" = []), ("operator" = []))
)]
// Tells each change as `event: rollout`, under its place in the stream, from behind `Last-Event-ID` on or from now on.
pub(crate) async fn events(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let after = last_event_id(&headers)?;
    let subscription = app.rollouts.listen(after).await.map_err(|error| decisions::unreadable(&error))?;
    let over = app.shutdown.clone();
    let changes = futures::StreamExt::take_until(changes(subscription), async move { over.begun().await });
    Ok(server_sent(changes))
}

/// An answer that goes on until the client leaves.
pub(crate) fn server_sent(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let retry = RETRY + Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 4);
    let hello = stream::once(async move { Ok(Event::default().retry(retry).comment("hello")) });
    let events = futures::StreamExt::chain(hello, events);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx would keep it back until a buffer is full.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let place = value.to_str().ok().map(str::trim).filter(|text| !text.is_empty());
    let Some(text) = place else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "`Last-Event-ID` is the number of an event that was told before")
    })
}

fn changes(subscription: Subscription) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(subscription, |mut subscription| async move {
        match subscription.next().await {
            Ok(Some((sequence, json))) => {
                let event = Event::default().event("rollout").id(sequence.to_string()).data(&*json);
                Some((Ok(event), subscription))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!("a listener is cut off: {error}");
                None
            }
        }
    })
}

//! `GET /api/rollouts/events`: every change of every rollout, as Server-Sent Events (WHATWG HTML, section 9.2).

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, stream};
use utoipa::IntoParams;

use crate::{
    app::Shared,
    auth::Role,
    builds::{self, Ask},
    decisions,
    problem::Problem,
    reference::requests::ChangeEvent,
    rollouts::Subscription,
};

/// How often something is sent where nothing happens: proxies cut what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back, at least; the rest is chance, so that not all come at once.
const RETRY: Duration = Duration::from_millis(500);

/// What the reference tells of the header.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read by name; this describes it")]
struct LastEventId {
    /// Go on behind this place in the stream, in place of from now on.
    #[param(rename = "Last-Event-ID", value_type = String, required = false, pattern = "^[0-9]{0,18}$")]
    place: String,
}

/// Every change of every rollout, as it comes.
///
/// There is no end to it before the time of `wait` is up. Each is an `event: rollout` whose `id` is its place in the stream and whose data is a `Change`. Comments come every 15 s.
#[utoipa::path(
    get,
    path = "/api/rollouts/events",
    operation_id = "listenToRollouts",
    tag = "builds",
    params(LastEventId, Ask),
    responses((status = OK, description = "Server-Sent Events", content_type = "text/event-stream", body = ChangeEvent)),
    security(("ci" = []), ("operator" = []))
)]
pub(crate) async fn events(
    State(app): State<Shared>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let until = builds::asked_wait(ask)?;
    let after = last_event_id(&headers)?;
    let subscription =
        app.rollouts.listen(after).await.map_err(|error| decisions::unreadable(&error))?;
    let over = app.shutdown.clone();
    let over = async move {
        match until {
            None => over.begun().await,
            Some(until) => tokio::select! {
                () = over.begun() => {}
                () = tokio::time::sleep(until) => {}
            },
        }
    };
    Ok(server_sent(futures::StreamExt::take_until(changes(subscription), over)))
}

/// An answer that goes on until the client leaves.
pub(crate) fn server_sent(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> Response {
    let retry = RETRY + Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 4);
    let hello = stream::once(async move { Ok(Event::default().retry(retry).comment("hello")) });
    let events = futures::StreamExt::chain(hello, events);
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx would keep it back until a buffer is full.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    // Not readable as text is not a number either.
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "`Last-Event-ID` is the number of an event that was told before",
        )
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

//! `/api/builds`: CI tells of a build, and asks what became of it.

mod dry_run;
pub(crate) mod list;
mod text;

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use events::{BuildFinished, BuildId, TargetName};
use serde::{Deserialize, Serialize};
use service::propagation;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    app::{App, Shared},
    auth::{self, Caller, Role},
    body, decisions,
    fields::Fields,
    formats::{self, Build, Message},
    idempotency::{self, IdempotencyKey, Key, Scope},
    problem::Problem,
    reference::requests,
    rollouts::{BuildView, Watched},
    webhook::Signed,
};

/// The longest wait in one request; proxies cut at 60 s.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// The answer: the build is on disk, and there is where to ask for it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BuildReceipt)]
pub(crate) struct Receipt {
    id: BuildId,
    url: String,
}

impl Receipt {
    /// The receipt for a build.
    pub(crate) fn of(id: BuildId) -> Self {
        Self { id, url: format!("/api/builds/{id}") }
    }
}

impl IntoResponse for Receipt {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, [(header::LOCATION, self.url.clone())], Json(self)).into_response()
    }
}

/// The answer to a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BuildReceipts)]
pub(crate) struct Receipts {
    builds: Vec<Receipt>,
}

/// The answer to an event that is of no interest here, such as the start of a build.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ignored {
    ignored: String,
}

/// What is answered with 202.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "this describes it")]
enum Accepted {
    One(Receipt),
    Batch(Receipts),
}

/// What is answered with 200.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "this describes it")]
enum Answered {
    DryRun(dry_run::DryRun),
    Ignored(Ignored),
}

/// What may be asked of a build that is posted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Submission {
    /// Only tells what each target would decide; nothing is stored.
    #[param(value_type = bool, required = false)]
    dry_run: Option<bool>,
}

/// Takes a build from CI, in any form that docs/ci.md lists; signed by Standard Webhooks in place of a token, too.
#[utoipa::path(
    post,
    path = "/api/builds",
    operation_id = "submitBuild",
    tag = "builds",
    params(Submission, IdempotencyKey),
    request_body(content(
        (requests::Build = "application/json"),
        (requests::CloudEvent = "application/cloudevents+json"),
        (requests::CloudEvents = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = ACCEPTED, description = "It is on disk, under this id; a batch has many", body = Accepted,
            links(("build" = (operation_id = "getBuild", parameters(("id" = "$response.body#/id")))))),
        (status = OK, description = "With `dry_run`: what each target would decide; or an event of no interest", body = Answered),
        (status = CONFLICT, description = "The same key's request is under way"),
    ),
    security(("ci" = []))
)]
pub(crate) async fn submit(
    State(app): State<Shared>,
    submission: Result<Query<Submission>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let dry_run = submission
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "`dry_run` is true or false"))?
        .dry_run
        .unwrap_or(false);
    // Who is not known makes us read nothing, unless it is the body that shows who it is.
    let signed = Signed::of(&head.headers, Utc::now()).map_err(auth::challenge)?;
    let (caller, _in_progress, body) = if let Some(signed) = &signed {
        let body = body::read(&head.headers, body).await?;
        let caller = app.auth.authorize_signed(signed, &body, &[Role::Ci])?;
        let in_progress = app.builds_in_progress.begin(&caller.name)?;
        (caller, in_progress, body)
    } else {
        let caller = app.auth.authorize(&head.headers, &[Role::Ci])?;
        let in_progress = app.builds_in_progress.begin(&caller.name)?;
        (caller, in_progress, body::read(&head.headers, body).await?)
    };
    let message = formats::read(&head.headers, &body, &app.jobs)?;
    let key = Key::of(
        &head.headers,
        signed.map(|signed| signed.id),
        &Scope::Caller(format!("builds {}", caller.name)),
        || body.to_vec(),
    )?;
    if dry_run {
        return dry_run::answer(&app, &head.headers, message).await;
    }
    accept(&app, &caller, message, key).await
}

/// Takes a build from a sender that cannot set headers: the token is in the path.
#[utoipa::path(
    post,
    path = "/api/builds/hooks/{token}",
    operation_id = "submitBuildByHook",
    tag = "builds",
    params(("token" = String, Path, description = "A token with the role `ci`", pattern = "^[A-Za-z0-9_-]+$"), IdempotencyKey),
    request_body(content((requests::Build = "application/json"))),
    responses(
        (status = ACCEPTED, description = "It is on disk, under this id", body = Receipt),
        (status = UNAUTHORIZED, description = "The token is not known"),
        (status = FORBIDDEN, description = "The token's role does not allow this"),
        (status = CONFLICT, description = "The same key's request is under way"),
    )
)]
pub(crate) async fn hook(
    State(app): State<Shared>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = token.ok().and_then(|Path(token)| app.auth.of_token(&token));
    let caller = caller
        .ok_or_else(|| auth::challenge("the path's token is not known"))?
        .with_role(&[Role::Ci])?;
    let _in_progress = app.builds_in_progress.begin(&caller.name)?;
    let body = body::read(&head.headers, body).await?;
    let message = formats::read_hook(&head.headers, &body, &app.jobs)?;
    let key =
        Key::of(&head.headers, None, &Scope::Caller(format!("builds {}", caller.name)), || {
            body.to_vec()
        })?;
    accept(&app, &caller, message, key).await
}

/// Puts builds on disk, each once.
async fn accept(
    app: &App,
    caller: &Caller,
    message: Message,
    key: Option<Key>,
) -> Result<Response, Problem> {
    match message {
        Message::Ignored(what) => {
            Ok((StatusCode::OK, Json(Ignored { ignored: what })).into_response())
        }
        Message::One(build, event) => {
            let key = key.or_else(|| event.map(|event| event.key(caller, &build)));
            let publish = |id, received_at| publish(app, caller, build, id, received_at);
            let (id, _) =
                idempotency::once(app.publisher.bus(), key, BuildId::new().0, Utc::now(), publish)
                    .await?;
            Ok(Receipt::of(BuildId(id)).into_response())
        }
        Message::Batch(batch) => {
            let keyed = batch.into_iter().map(|(build, event)| (event.key(caller, &build), build));
            let publish = |build, id, received_at| publish(app, caller, build, id, received_at);
            // If the bus goes away in between, the client sends all of it again, and gets the same ids.
            let ids = idempotency::all(app.publisher.bus(), keyed, Utc::now(), publish).await;
            let ids = ids.map_err(|(index, problem)| problem.of_part(&format!("/{index}")))?;
            let builds = ids.into_iter().map(|id| Receipt::of(BuildId(id))).collect();
            Ok((StatusCode::ACCEPTED, Json(Receipts { builds })).into_response())
        }
    }
}

async fn publish(
    app: &App,
    caller: &Caller,
    build: Build,
    id: Uuid,
    at: DateTime<Utc>,
) -> Result<(), Problem> {
    let trace_id = propagation::trace_name(&tracing::Span::current());
    let build = BuildFinished { trace_id, ..build.received(BuildId(id), at) };
    app.publisher.build(&build).await?;
    app.metrics.builds_accepted.inc();
    tracing::info!(
        build.id = %id, build.job = %build.job, build.number = build.number, build.image = %build.image,
        caller = caller.name, "build accepted"
    );
    Ok(())
}

/// What may be asked beside the id.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Ask {
    /// How long to wait for the end: a duration of at most 60s.
    #[param(value_type = String, required = false, pattern = "^(?:0|[0-9]{1,4}ms|[0-5]?[0-9]s|60s|[01]m)$", example = "30s")]
    wait: Option<String>,
}

/// How a build stands.
///
/// With `Accept: text/plain`, lines for people, the first of which is the build's state alone.
#[utoipa::path(
    get,
    path = "/api/builds/{id}",
    operation_id = "getBuild",
    tag = "builds",
    params(("id" = BuildId, Path, description = "As it was answered"), Ask),
    responses((status = OK, description = "The build", content((BuildView = "application/json"), (String = "text/plain")))),
    security(("ci" = []), ("operator" = []))
)]
// With `wait`, once nothing more will happen to it, or when that time is up.
pub(crate) async fn show(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let wait = asked_wait(ask)?.unwrap_or_default();
    let mut build = find(&app, id).await?;
    // The headers are slices of the connection's buffer, which would be kept as long as they are.
    let text = text::wanted(&headers);
    drop(headers);
    build
        .terminal(async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = app.shutdown.begun() => {}
            }
        })
        .await;
    let state = build.state();
    if text {
        return Ok(text::of_build(&state, Utc::now()).into_response());
    }
    Ok(Json(BuildView::of(&state)).into_response())
}

/// A build, by its id in the path.
pub(crate) async fn find(
    app: &App,
    id: Result<Path<String>, PathRejection>,
) -> Result<Watched, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such build");
    let id = id.ok().and_then(|Path(id)| id.parse::<BuildId>().ok()).ok_or_else(missing)?;
    // Boxed, to be gone while the build is waited for: thousands may.
    let found =
        Box::pin(app.rollouts.find(id)).await.map_err(|error| decisions::unreadable(&error))?;
    found.ok_or_else(missing)
}

/// Deploys a build in spite of its age, or of its quarantine: as a new build, which is told under its own id.
#[utoipa::path(
    post,
    path = "/api/builds/{id}/force",
    operation_id = "forceBuild",
    tag = "builds",
    params(("id" = BuildId, Path, description = "The build")),
    request_body(content((requests::Force = "application/json"))),
    responses(
        (status = ACCEPTED, description = "It is on disk, under a new id", body = Receipt),
        (status = CONFLICT, description = "It is still under way, or too little is known of it"),
    ),
    security(("operator" = []))
)]
pub(crate) async fn force(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Operator])?;
    let mut fields = Fields::new(body::json(&head.headers, body).await?)?;
    let (reason, target) = (decisions::reason(&mut fields), target(&mut fields));
    fields.finish()?;
    let state = find(&app, id).await?.state();
    let id = decisions::force(&app, &caller, &state, target, reason.unwrap_or_default()).await?;
    Ok(Receipt::of(id).into_response())
}

/// Reads the target that a decision is about.
pub(crate) fn target(fields: &mut Fields) -> Option<TargetName> {
    let target = fields.optional_text("target")?.parse::<TargetName>();
    target.map_err(|error| fields.reject("target", error.to_string())).ok()
}

/// How long a client wants to wait, if it does.
pub(crate) fn asked_wait(
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Option<Duration>, Problem> {
    let asked = ask.map_or_else(|_| Some(String::new()), |Query(ask)| ask.wait);
    asked.as_deref().map(wait).transpose()
}

pub(crate) fn wait(text: &str) -> Result<Duration, Problem> {
    let wait = service::config::duration(text).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "`wait` is a duration of at most 60s, such as 30s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait("60s").unwrap(), MAX_WAIT);
        for bad in ["61s", "", "soon", "-1s", "5"] {
            assert_eq!(wait(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}

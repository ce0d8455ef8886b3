//! `/api/targets`: how each target is, and what operators decide about it.

mod view;

pub(crate) use view::TargetView;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use events::TargetName;
use serde::Serialize;

use crate::{
    app::{App, Shared},
    auth::Role,
    body,
    builds::Receipt,
    decisions,
    fields::Fields,
    problem::Problem,
    reference::requests,
};

type Name = Result<Path<String>, PathRejection>;

/// All targets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Targets {
    targets: Vec<TargetView>,
}

/// All targets.
#[utoipa::path(
    get,
    path = "/api/targets",
    operation_id = "listTargets",
    tag = "targets",
    responses((status = OK, description = "All of them", body = Targets)),
    security(("ci" = []), ("operator" = []))
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<Targets>, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let standings =
        app.rollouts.standings().await.map_err(|error| decisions::unreadable(&error))?;
    let now = Utc::now();
    let view = |(name, standing)| {
        TargetView::of(name, standing, app.rollouts.last_verdict(name).as_ref(), now)
    };
    Ok(Json(Targets { targets: standings.iter().map(view).collect() }))
}

/// One target.
#[utoipa::path(
    get,
    path = "/api/targets/{name}",
    operation_id = "getTarget",
    tag = "targets",
    params(("name" = TargetName, Path, description = "The target")),
    responses((status = OK, description = "How it is", body = TargetView)),
    security(("ci" = []), ("operator" = []))
)]
pub(crate) async fn show(
    State(app): State<Shared>,
    name: Name,
    headers: HeaderMap,
) -> Result<Json<TargetView>, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    Ok(Json(view(&app, &path(name)?).await?))
}

async fn view(app: &App, name: &str) -> Result<TargetView, Problem> {
    let (name, standing) = decisions::known(app, name).await?;
    Ok(TargetView::of(&name, &standing, app.rollouts.last_verdict(&name).as_ref(), Utc::now()))
}

/// Nothing is deployed to the target any more, until a time or for good.
#[utoipa::path(
    post,
    path = "/api/targets/{name}/freeze",
    operation_id = "freezeTarget",
    tag = "targets",
    params(("name" = TargetName, Path, description = "The target")),
    request_body(content((requests::Freeze = "application/json"))),
    responses((status = ACCEPTED, description = "It is frozen", body = TargetView)),
    security(("operator" = []))
)]
pub(crate) async fn freeze(
    State(app): State<Shared>,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Operator])?;
    let mut fields = Fields::new(body::json(&head.headers, body).await?)?;
    let (reason, until) =
        (decisions::reason(&mut fields), decisions::until(&mut fields, Utc::now()));
    fields.finish()?;
    let (name, _) = decisions::known(&app, &path(name)?).await?;
    decisions::freeze(&app, &caller, name.clone(), reason.unwrap_or_default(), until).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, name.as_str()).await?)).into_response())
}

/// The freeze is over. Of one that is not frozen nothing changes.
#[utoipa::path(
    delete,
    path = "/api/targets/{name}/freeze",
    operation_id = "resumeTarget",
    tag = "targets",
    params(("name" = TargetName, Path, description = "The target")),
    responses((status = ACCEPTED, description = "It takes builds again", body = TargetView)),
    security(("operator" = []))
)]
pub(crate) async fn resume(
    State(app): State<Shared>,
    name: Name,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = app.auth.authorize(&headers, &[Role::Operator])?;
    let (name, _) = decisions::known(&app, &path(name)?).await?;
    decisions::resume(&app, &caller, name.clone()).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, name.as_str()).await?)).into_response())
}

/// Goes back to the last other version that succeeded.
#[utoipa::path(
    post,
    path = "/api/targets/{name}/rollback",
    operation_id = "rollBackTarget",
    tag = "targets",
    params(("name" = TargetName, Path, description = "The target")),
    request_body(content((requests::Rollback = "application/json"))),
    responses(
        (status = ACCEPTED, description = "The way back is on disk, as a build of its own", body = Receipt),
        (status = CONFLICT, description = "There is nothing to go back to"),
    ),
    security(("operator" = []))
)]
pub(crate) async fn roll_back(
    State(app): State<Shared>,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Operator])?;
    let mut fields = Fields::new(body::json(&head.headers, body).await?)?;
    let (reason, image) = (decisions::reason(&mut fields), fields.optional_text("image"));
    fields.finish()?;
    let (name, standing) = decisions::known(&app, &path(name)?).await?;
    let reason = reason.unwrap_or_default();
    let id =
        decisions::roll_back(&app, &caller, &name, &standing, reason, image.as_deref()).await?;
    Ok(Receipt::of(id).into_response())
}

fn path(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such target"))
}

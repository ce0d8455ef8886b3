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
use serde::Serialize;

use crate::{
    app::{App, Shared},
    auth::Role,
    body,
    builds::Receipt,
    decisions,
    fields::Fields,
    problem::Problem,
};

type Name = Result<Path<String>, PathRejection>;

/// All targets.
#[derive(Debug, Serialize)]
pub(crate) struct Targets {
    targets: Vec<TargetView>,
}

/// Tells of all targets.
pub(crate) async fn list(State(app): State<Shared>, headers: HeaderMap) -> Result<Json<Targets>, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let standings = app.rollouts.standings().await.map_err(|error| decisions::unreadable(&error))?;
    let now = Utc::now();
    let view = |(name, standing)| TargetView::of(name, standing, app.rollouts.last_verdict(name).as_ref(), now);
    Ok(Json(Targets { targets: standings.iter().map(view).collect() }))
}

/// Tells of one target.
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
pub(crate) async fn freeze(State(app): State<Shared>, name: Name, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Operator])?;
    let mut fields = Fields::new(body::json(&head.headers, body).await?)?;
    let (reason, until) = (decisions::reason(&mut fields), decisions::until(&mut fields, Utc::now()));
    fields.finish()?;
    let (name, _) = decisions::known(&app, &path(name)?).await?;
    decisions::freeze(&app, &caller, name.clone(), reason.unwrap_or_default(), until).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, name.as_str()).await?)).into_response())
}

/// The freeze is over. Of one that is not frozen nothing changes.
pub(crate) async fn resume(State(app): State<Shared>, name: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = app.auth.authorize(&headers, &[Role::Operator])?;
    let (name, _) = decisions::known(&app, &path(name)?).await?;
    decisions::resume(&app, &caller, name.clone()).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, name.as_str()).await?)).into_response())
}

/// Goes back to the last other version that succeeded.
pub(crate) async fn roll_back(State(app): State<Shared>, name: Name, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Operator])?;
    let mut fields = Fields::new(body::json(&head.headers, body).await?)?;
    let (reason, image) = (decisions::reason(&mut fields), fields.optional_text("image"));
    fields.finish()?;
    let (name, standing) = decisions::known(&app, &path(name)?).await?;
    let reason = reason.unwrap_or_default();
    let id = decisions::roll_back(&app, &caller, &name, &standing, reason, image.as_deref()).await?;
    Ok(Receipt::of(id).into_response())
}

fn path(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name).map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such target"))
}

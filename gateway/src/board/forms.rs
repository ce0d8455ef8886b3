//! The forms of the board: what an operator decided, sent from our own page.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::Redirect,
};
use chrono::{TimeDelta, Utc};
use serde_json::Value;

use super::{HOME, Refusal, session};
use crate::{
    app::{App, Shared},
    auth::{Caller, Role},
    body::{self, Format},
    builds, decisions,
    fields::Fields,
    problem::Problem,
};

/// What a form said, of an operator who is signed in and who sent it from our own page.
async fn decision(app: &App, request: Request) -> Result<(Caller, Fields), Refusal> {
    let (head, body) = request.into_parts();
    let Some(caller) = session::visitor(&app.auth, &head.headers) else {
        return Err(Refusal::SignIn { next: HOME.to_owned() });
    };
    let refused = |problem| Refusal::Problem(problem, Some(caller.clone()));
    session::check_origin(&head.headers).map_err(refused)?;
    caller.clone().with_role(&[Role::Operator]).map_err(refused)?;
    let fields = form(&head.headers, body).await.and_then(Fields::new).map_err(refused)?;
    Ok((caller, fields))
}

/// Reads a form.
pub(super) async fn form(headers: &HeaderMap, body: Body) -> Result<Value, Problem> {
    let format = body::format(headers, &[Format::Form])?;
    body::parse(format, &body::read(headers, body).await?)
}

pub(super) async fn freeze(
    State(app): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Redirect, Refusal> {
    let (caller, mut fields) = decision(&app, request).await?;
    let done = async {
        let reason = decisions::reason(&mut fields);
        let until = match fields.optional_text("for").as_deref() {
            None => None,
            Some("1h") => Some(TimeDelta::hours(1)),
            Some("4h") => Some(TimeDelta::hours(4)),
            Some("24h") => Some(TimeDelta::hours(24)),
            Some(_) => {
                fields.reject("for", "not one of 1h, 4h, 24h");
                None
            }
        };
        fields.finish()?;
        let (name, _) = decisions::known(&app, &path(name)?).await?;
        let until = until.map(|time| Utc::now() + time);
        decisions::freeze(&app, &caller, name.clone(), reason.unwrap_or_default(), until).await?;
        seen(&app, name.as_str()).await?;
        Ok(Redirect::to("/rollouts?done=frozen"))
    };
    done.await.map_err(|problem| Refusal::Problem(problem, Some(caller.clone())))
}

pub(super) async fn resume(
    State(app): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Redirect, Refusal> {
    let (caller, _) = decision(&app, request).await?;
    let done = async {
        let (name, _) = decisions::known(&app, &path(name)?).await?;
        decisions::resume(&app, &caller, name.clone()).await?;
        seen(&app, name.as_str()).await?;
        Ok(Redirect::to("/rollouts?done=resumed"))
    };
    done.await.map_err(|problem| Refusal::Problem(problem, Some(caller.clone())))
}

pub(super) async fn roll_back(
    State(app): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Redirect, Refusal> {
    let (caller, mut fields) = decision(&app, request).await?;
    let done = async {
        let (reason, image) = (decisions::reason(&mut fields), fields.optional_text("image"));
        fields.finish()?;
        let (name, standing) = decisions::known(&app, &path(name)?).await?;
        let reason = reason.unwrap_or_default();
        let id =
            decisions::roll_back(&app, &caller, &name, &standing, reason, image.as_deref()).await?;
        Ok(Redirect::to(&format!("/rollouts/builds/{id}?done=rolling-back")))
    };
    done.await.map_err(|problem| Refusal::Problem(problem, Some(caller.clone())))
}

pub(super) async fn force(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Redirect, Refusal> {
    let (caller, mut fields) = decision(&app, request).await?;
    let done = async {
        let (reason, target) = (decisions::reason(&mut fields), builds::target(&mut fields));
        fields.finish()?;
        let state = builds::find(&app, id).await?.state();
        let id =
            decisions::force(&app, &caller, &state, target, reason.unwrap_or_default()).await?;
        Ok(Redirect::to(&format!("/rollouts/builds/{id}?done=forced")))
    };
    done.await.map_err(|problem| Refusal::Problem(problem, Some(caller.clone())))
}

/// Waits until what was decided is known here, so that the page that follows shows it.
async fn seen(app: &App, name: &str) -> Result<(), Problem> {
    decisions::known(app, name).await.map(drop)
}

fn path(name: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such target"))
}

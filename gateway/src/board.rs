//! `/rollouts`: what runs where, what failed and why, live; and the buttons to stop, resume, force and go back.

mod figures;
mod forms;
mod live;
pub(crate) mod pages;
mod present;
mod session;

pub(crate) use live::Live;

use axum::{
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chrono::Utc;
use futures::StreamExt as _;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    pages::{
        BoardPage, BuildPage, ErrorPage, SignInPage,
        build::{Link, Trace},
        parts::{Frame, Visitor},
        target::Summary,
    },
    present::HistoryQuery,
};
use crate::{
    app::{App, Shared},
    auth::{Caller, Role},
    builds,
    pages::page,
    problem::Problem,
    rollouts::BuildState,
    stream,
};

const STYLE: &str = include_str!("../assets/board.css");
const SCRIPT: &str = include_str!("../assets/board.js");

/// Our own style and script, our own stream, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HOME: &str = "/rollouts";
const SIGN_IN: &str = "/rollouts/sign-in";

/// All routes.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(board))
        .route("/rollouts/builds/{id}", get(build))
        .route("/rollouts/builds/{id}/force", post(forms::force))
        .route("/rollouts/live", get(live))
        .route("/rollouts/sign-in", get(sign_in_page).post(sign_in))
        .route("/rollouts/sign-out", post(sign_out))
        .route("/rollouts/targets/{name}/freeze", post(forms::freeze))
        .route("/rollouts/targets/{name}/resume", post(forms::resume))
        .route("/rollouts/targets/{name}/rollback", post(forms::roll_back))
        .route("/assets/board.css", get(style))
        .route("/assets/board.js", get(script))
}

/// In place of a page: to the sign-in, or what went wrong.
enum Refusal {
    SignIn {
        next: String,
    },
    /// Another site led here, whereupon a browser keeps the cookie back: once more, from ourselves.
    Again,
    Problem(Problem, Option<Caller>),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { next } => {
                let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
                Redirect::to(&format!("{SIGN_IN}?{query}")).into_response()
            }
            Self::Again => {
                let refresh = (HeaderName::from_static("refresh"), HeaderValue::from_static("0"));
                (StatusCode::OK, [refresh], axum::response::Html("")).into_response()
            }
            Self::Problem(problem, visitor) => failure(&problem, visitor.as_ref()),
        }
    }
}

/// Who is signed in, or the way to the sign-in.
fn visitor(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Caller, Refusal> {
    if let Some(caller) = session::visitor(&app.auth, headers) {
        return Ok(caller);
    }
    if session::is_from_elsewhere(headers) {
        return Err(Refusal::Again);
    }
    let next = uri.path_and_query().map_or(HOME, |path| path.as_str()).to_owned();
    Err(Refusal::SignIn { next })
}

/// What may be asked of the board.
#[derive(Debug, Default, Deserialize)]
struct BoardQuery {
    target: Option<String>,
    state: Option<String>,
    before: Option<String>,
    done: Option<String>,
}

impl BoardQuery {
    /// What does not exist is not asked for: an old link still shows the board.
    fn history(&self) -> HistoryQuery {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        HistoryQuery {
            target: given(&self.target).and_then(|text| text.parse().ok()),
            state: given(&self.state).and_then(|word| present::rollout_state(&word)),
            before: given(&self.before).and_then(|text| text.parse().ok()),
        }
    }
}

/// The board, after the sign-in.
#[utoipa::path(
    get,
    path = "/rollouts",
    operation_id = "board",
    tag = "pages",
    responses(
        (status = OK, description = "The board, or the sign-in after the redirect", content_type = "text/html", body = String),
        (status = SEE_OTHER, description = "To the sign-in"),
    )
)]
async fn board(
    State(app): State<Shared>,
    query: Result<Query<BoardQuery>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = visitor(&app, &headers, &uri)?;
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let now = Utc::now();
    let asked = query.history();
    let (targets, (figures, chart), history) = app.rollouts.read(|model| {
        (
            present::targets(model, now),
            present::figures(model, now),
            present::history(model, &asked),
        )
    });
    let board = BoardPage {
        frame: frame(Some(&caller), Some("/rollouts/live")),
        notice: query.done.as_deref().and_then(notice),
        summary: Summary::of(&targets),
        targets,
        figures,
        chart,
        history,
    };
    Ok(page(StatusCode::OK, &board, POLICY))
}

async fn build(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<BoardQuery>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = visitor(&app, &headers, &uri)?;
    let found = builds::find(&app, id)
        .await
        .map_err(|problem| Refusal::Problem(problem, Some(caller.clone())))?;
    let state = found.state();
    let (build, rollouts) = present::build(&state, trace(app.trace_url.as_deref(), &state));
    let live = format!("/rollouts/live?build={}", build.id);
    let done = query.ok().and_then(|Query(query)| query.done);
    let notice = done.as_deref().and_then(notice);
    Ok(page(
        StatusCode::OK,
        &BuildPage { frame: frame(Some(&caller), Some(&live)), notice, build, rollouts },
        POLICY,
    ))
}

/// The trace of a build, if it is known, and where it is shown, if that is.
fn trace(template: Option<&str>, state: &BuildState) -> Option<Trace> {
    let id = state.build.as_ref()?.trace_id.clone()?;
    let link = template.and_then(|template| Link::to(&template.replace("{trace_id}", &id)));
    Some(Trace { id, link })
}

/// What may be asked of the live stream.
#[derive(Debug, Deserialize)]
struct LiveQuery {
    build: Option<String>,
}

async fn live(
    State(app): State<Shared>,
    query: Result<Query<LiveQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = session::visitor(&app.auth, &headers)
        .ok_or_else(|| crate::auth::challenge("sign in at /rollouts"))?;
    let operator = caller.role == Role::Operator;
    let over = app.shutdown.clone();
    let over = async move { over.begun().await };
    let of_build = query.ok().and_then(|Query(query)| query.build);
    Ok(match of_build {
        Some(id) => {
            let build = builds::find(&app, Ok(Path(id))).await?;
            stream::server_sent(
                live::build(build, operator, app.trace_url.clone()).take_until(over),
            )
        }
        None => stream::server_sent(app.live.board(&app.rollouts, operator).take_until(over)),
    })
}

/// Where to go after the sign-in.
#[derive(Debug, Default, Deserialize)]
struct Next {
    next: Option<String>,
}

async fn sign_in_page(query: Result<Query<Next>, QueryRejection>) -> Response {
    let next = query.ok().and_then(|Query(query)| query.next);
    sign_in_form(StatusCode::OK, own_path(next), None)
}

async fn sign_in(State(app): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let wrong = |status, next, detail: &str| sign_in_form(status, next, Some(detail.to_owned()));
    if let Err(problem) = session::check_origin(&head.headers) {
        return wrong(problem.status(), HOME.to_owned(), problem.detail());
    }
    let fields = match forms::form(&head.headers, body).await {
        Ok(fields) => fields,
        Err(problem) => return wrong(problem.status(), HOME.to_owned(), problem.detail()),
    };
    let next = own_path(fields["next"].as_str().map(str::to_owned));
    let token = fields["token"].as_str().unwrap_or_default().trim();
    let Some(caller) = app.auth.of_token(token) else {
        return wrong(StatusCode::UNAUTHORIZED, next, "This token is not known here.");
    };
    let Some(cookie) = session::begin(&head.headers, token) else {
        return wrong(StatusCode::UNAUTHORIZED, next, "This token cannot be kept by a browser.");
    };
    tracing::info!(caller = caller.name, "signed in to the board");
    ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
}

fn sign_in_form(status: StatusCode, next: String, error: Option<String>) -> Response {
    page(status, &SignInPage { frame: frame(None, None), next, error }, POLICY)
}

/// A path of the board, and never another site's address.
fn own_path(next: Option<String>) -> String {
    let ours = |next: &String| {
        let rest = next.strip_prefix(HOME);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
            && !next.contains(['\\', '\r', '\n'])
    };
    next.filter(ours).unwrap_or_else(|| HOME.to_owned())
}

async fn sign_out(headers: HeaderMap) -> Response {
    if let Err(problem) = session::check_origin(&headers) {
        return failure(&problem, None);
    }
    let cookie = session::end(&headers).map(|cookie| [(header::SET_COOKIE, cookie)]);
    (cookie.into_iter().flatten().collect::<HeaderMap>(), Redirect::to(SIGN_IN)).into_response()
}

/// What a form has done, in a sentence. Only these: an address shall not put words on the page.
fn notice(done: &str) -> Option<String> {
    let text = match done {
        "frozen" => "The target is frozen: builds that come now are rejected.",
        "resumed" => "The target takes builds again.",
        "rolling-back" => "The way back has begun; this page follows it.",
        "forced" => {
            "The build is deployed in spite of what spoke against it; this page follows it."
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn frame(caller: Option<&Caller>, live: Option<&str>) -> Frame {
    let visitor = caller.map(|caller| Visitor {
        name: caller.name.clone(),
        operator: caller.role == Role::Operator,
    });
    Frame { visitor, now: present::moment(Utc::now()).iso, live: live.map(str::to_owned) }
}

/// A page that says what went wrong.
fn failure(problem: &Problem, caller: Option<&Caller>) -> Response {
    let fields: Vec<_> = problem
        .errors()
        .iter()
        .map(|error| format!("{}: {}", error.pointer, error.detail))
        .collect();
    let detail = if fields.is_empty() { problem.detail().to_owned() } else { fields.join("; ") };
    let error = ErrorPage {
        frame: frame(caller, None),
        title: problem.status().canonical_reason().unwrap_or("Error").to_owned(),
        detail,
        back: HOME.to_owned(),
        back_label: "Back to the board".to_owned(),
    };
    page(problem.status(), &error, POLICY)
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, STYLE).into_response()
}

async fn script() -> Response {
    let kind = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
    ([kind, (header::CACHE_CONTROL, "public, max-age=300")], SCRIPT).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_sign_in_nobody_lands_elsewhere() {
        for (next, expected) in [
            ("/rollouts", "/rollouts"),
            ("/rollouts?target=a", "/rollouts?target=a"),
            ("/rollouts/builds/1", "/rollouts/builds/1"),
            ("//evil.example", "/rollouts"),
            ("https://evil.example", "/rollouts"),
            ("/rollouts.evil", "/rollouts"),
            ("/rollouts/\\evil", "/rollouts"),
            ("/rollouts\r\nx: y", "/rollouts"),
            ("", "/rollouts"),
        ] {
            assert_eq!(own_path(Some(next.to_owned())), expected, "{next:?}");
        }
    }

    #[test]
    fn an_address_puts_no_words_on_the_page() {
        assert!(notice("frozen").is_some());
        assert_eq!(notice("Call +1 555 for help"), None);
    }
}

//! The pages: plain HTML that works without JavaScript.

use askama::Template;
use axum::{
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::Value;

use crate::problem::Problem;

/// Nothing from elsewhere, no script, no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const STYLE: &str = include_str!("../assets/style.css");
const ICON: &str = include_str!("../assets/icon.svg");

/// What a visitor has typed, to be shown again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    name: String,
    email: String,
    subject: String,
    message: String,
}

impl Input {
    /// The fields of a form.
    pub(crate) fn of(body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            email: text("email"),
            subject: text("subject"),
            message: text("message"),
        }
    }
}

#[derive(Template)]
#[template(path = "contact.html")]
struct ContactPage {
    input: Input,
    problem: Option<Problem>,
}

impl ContactPage {
    /// What is wrong with a field.
    fn error(&self, pointer: &str) -> Option<&str> {
        let errors = self.problem.as_ref()?.errors();
        errors.iter().find(|error| error.pointer == pointer).map(|error| &*error.detail)
    }

    /// What is wrong with the whole, where no field is to blame.
    fn failure(&self) -> Option<&str> {
        self.problem.as_ref().filter(|problem| problem.errors().is_empty()).map(Problem::detail)
    }
}

#[derive(Template)]
#[template(path = "thanks.html")]
struct ThanksPage;

/// The contact page.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "contactPage",
    tag = "pages",
    responses((status = OK, description = "The page", content_type = "text/html", body = String))
)]
pub(crate) async fn contact() -> Response {
    page(StatusCode::OK, &ContactPage { input: Input::default(), problem: None }, POLICY)
}

/// The contact is on disk.
pub(crate) fn thanks() -> Response {
    page(StatusCode::ACCEPTED, &ThanksPage, POLICY)
}

/// The contact was not accepted: the form again, with what was typed and what is wrong.
pub(crate) fn refused(input: Input, problem: Problem) -> Response {
    let status = problem.status();
    let retry_after = problem.clone().into_response().headers_mut().remove(header::RETRY_AFTER);
    let mut response = page(status, &ContactPage { input, problem: Some(problem) }, POLICY);
    if let Some(value) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// `GET /assets/icon.svg`
pub(crate) async fn icon() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, ICON).into_response()
}

/// `GET /assets/style.css`
pub(crate) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, STYLE).into_response()
}

/// A page with what its policy allows.
pub(crate) fn page(status: StatusCode, template: &impl Template, policy: &'static str) -> Response {
    match template.render() {
        Ok(html) => {
            let headers = [
                (header::CONTENT_SECURITY_POLICY, policy),
                // With `no-referrer`, browsers would not say where a form was sent from.
                (header::REFERRER_POLICY, "same-origin"),
                (header::CACHE_CONTROL, "no-store"),
                (HeaderName::from_static("x-content-type-options"), "nosniff"),
            ];
            (status, headers, Html(html)).into_response()
        }
        // Templates are checked when they are compiled; only memory can run out.
        Err(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be shown")
            .into_response(),
    }
}

//! `/openapi.json` and `/docs`: the API's reference. It is made of what is said beside each handler, and of the rules that hold
//! for all of them.

mod examples;
mod patterns;
pub(crate) mod requests;

use std::sync::{Arc, LazyLock};

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, header},
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use serde_json::Value;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        self, Content, Ref, RefOr, ResponseBuilder,
        header::Header,
        path::{Operation, ParameterIn},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::Config;

use crate::{problem, rollouts::ChangeView, routes};

/// The document, which does not change while the process runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document =
        serde_json::to_value(finish(routes::documented().into_openapi())).unwrap_or_default();
    allow_empty(&mut document["paths"]["/api/builds"]["get"]["parameters"]);
    document.to_string().into()
});

/// Swagger UI draws with styles of its own and with pictures that it carries along.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The API's description, for programs.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "pages",
    responses((status = OK, description = "OpenAPI 3.1", body = Value, content_type = "application/json"))
)]
pub(crate) async fn document() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.clone()).into_response()
}

/// The API's description, for people.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs",
    tag = "pages",
    responses(
        (status = OK, description = "After the redirect", content_type = "text/html", body = String),
        (status = SEE_OTHER, description = "To the page itself"),
    )
)]
pub(crate) async fn docs() -> Redirect {
    Redirect::to("/docs/")
}

/// The page itself.
pub(crate) async fn page() -> Response {
    file("index.html")
}

/// What the page needs.
pub(crate) async fn asset(path: Result<Path<String>, PathRejection>) -> Response {
    file(&path.map(|Path(path)| path).unwrap_or_default())
}

fn file(name: &str) -> Response {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        Arc::new(Config::from("/openapi.json").use_base_layout().validator_url("none"))
    });
    match utoipa_swagger_ui::serve(name, CONFIG.clone()) {
        Ok(Some(file)) => {
            let headers = [
                (header::CONTENT_TYPE, file.content_type.as_str()),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::REFERRER_POLICY, "same-origin"),
                (header::CACHE_CONTROL, "public, max-age=300"),
                (HeaderName::from_static("x-content-type-options"), "nosniff"),
            ];
            // The program holds them compressed, 1 MB in place of 4, and every browser takes them so.
            let encoding = file.gzpipped.then_some([(header::CONTENT_ENCODING, "gzip")]);
            (headers, encoding, file.bytes.into_owned()).into_response()
        }
        _ => problem::not_found().into_response(),
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portfolio gateway",
        description = "Takes contacts and finished builds, and tells what became of each build.\n\n\
            What is answered with 202 is on disk. Errors are `application/problem+json` (RFC 9457), with a sentence in `detail` \
            and, for 422, each wrong field in `errors`. Where `Retry-After` is set, the same request may be sent again.\n\n\
            `Idempotency-Key` makes a request that is sent twice be done once, for a day. `traceparent` is honoured, and every \
            answer has `traceresponse` and `x-request-id`.\n\n\
            White space around texts does not count, and fields that are not known are passed over."
    ),
    tags(
        (name = "contacts", description = "What visitors send"),
        (name = "builds", description = "What CI sends and asks"),
        (name = "targets", description = "What runs where, and what operators decide"),
        (name = "pages", description = "For people and probes"),
    ),
    components(schemas(
        problem::Document,
        requests::Build,
        requests::CdEvent,
        requests::CloudEvent,
        ChangeView,
    )),
)]
struct Base;

/// The frame, in which the routes are entered.
pub(crate) fn base() -> openapi::OpenApi {
    let mut base = Base::openapi();
    env!("CARGO_PKG_NAME").clone_into(&mut base.info.title);
    service::VERSION.clone_into(&mut base.info.version);
    base.info.license = None;
    base
}

/// What is empty does not count, as in a form; the crate has no word for it.
fn allow_empty(parameters: &mut Value) {
    for parameter in parameters.as_array_mut().into_iter().flatten() {
        parameter["allowEmptyValue"] = true.into();
    }
}

/// What holds for all: who may, and how errors are told.
fn finish(mut document: openapi::OpenApi) -> openapi::OpenApi {
    let components = document.components.get_or_insert_default();
    for (role, who) in
        [("ci", "The token of a CI, which posts builds"), ("operator", "The token of an operator")]
    {
        let scheme = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(who)).build();
        components.add_security_scheme(role, SecurityScheme::Http(scheme));
    }
    if let Some(builds) = document.paths.paths.get_mut("/api/builds") {
        examples::add(builds);
    }
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            errors(operation);
        }
    }
    document
}

/// The errors that an operation may end in, by what it takes.
fn errors(operation: &mut Operation) {
    let of = |place: &ParameterIn| {
        let parameters = operation.parameters.iter().flatten();
        parameters
            .filter(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == *place))
            .count()
            > 0
    };
    let (in_path, elsewhere) =
        (of(&ParameterIn::Path), of(&ParameterIn::Query) || of(&ParameterIn::Header));
    let (secured, has_body) = (operation.security.is_some(), operation.request_body.is_some());
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('4')
            && response.content.is_empty()
        {
            response.content.extend(problem_content());
        }
    }
    let mut add = |status: &str, description: &str| {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| problem_response(status, description));
    };
    if has_body || elsewhere {
        add("400", "It cannot be read");
    }
    if secured {
        add("401", "No token, or one that is not known");
        add("403", "The token's role does not allow this");
    }
    if in_path {
        add("404", "There is none of that name");
    }
    if has_body {
        add("408", "The body took longer than 10 s");
        add("413", "The body is larger than 64 KiB");
        add("415", "The `Content-Type` is none of those above");
        add("422", "Fields are wrong; `errors` names each");
    }
    add("503", "The bus is away or full, or there is no room now");
}

fn problem_response(status: &str, description: &str) -> RefOr<openapi::Response> {
    let mut response = ResponseBuilder::new().description(description).build();
    response.content.extend(problem_content());
    if status == "503" {
        let mut header =
            Header::new(openapi::ObjectBuilder::new().schema_type(openapi::Type::Integer));
        header.description = Some("Seconds until it is worth another try".to_owned());
        response.headers.insert("Retry-After".to_owned(), header.into());
    }
    response.into()
}

fn problem_content() -> [(String, RefOr<Content>); 1] {
    let content = Content::new(Some(Ref::from_schema_name(problem::Document::name())));
    [("application/problem+json".to_owned(), content.into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_out_as_the_program_holds_it() {
        for (name, encoding) in [("swagger-ui-bundle.js", "gzip"), ("swagger-initializer.js", "")] {
            let response = file(name);
            let found = response
                .headers()
                .get(header::CONTENT_ENCODING)
                .map_or("", |value| value.to_str().unwrap());
            assert_eq!(found, encoding, "{name}");
        }
    }
}

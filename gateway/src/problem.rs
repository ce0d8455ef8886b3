//! Errors as clients see them: `application/problem+json` (RFC 9457), without internals.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use service::propagation;
use tracing::Span;

/// One field of the input that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct FieldError {
    /// The field, as a JSON Pointer (RFC 6901).
    pub(crate) pointer: String,
    /// The reason: what is wrong, and what is allowed.
    pub(crate) detail: Cow<'static, str>,
}

/// An error as the answer to a request.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A problem document (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The id of the request's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl Problem {
    /// Returns a problem with a status and a sentence for the reader.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// Returns the answer to input that can be parsed, but has fields that are wrong.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "some fields are missing or wrong; see `errors`",
            )
        }
    }

    /// Returns the answer to a request that may succeed after some seconds.
    pub(crate) fn unavailable(
        detail: impl Into<Cow<'static, str>>,
        retry_after_seconds: u32,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// Returns the answer to a request for which there is no room. The connection is closed: a
    /// client that comes back in a second needs neither the connection nor its memory until then.
    pub(crate) fn overloaded(detail: &'static str) -> Self {
        Self::unavailable(detail, 1).with_header(header::CONNECTION, "close")
    }

    /// Adds a header to the answer.
    pub(crate) fn with_header(
        mut self,
        name: HeaderName,
        value: impl TryInto<HeaderValue>,
    ) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    /// Turns pointers to fields of a part of the body into pointers to fields of the whole body.
    pub(crate) fn at(mut self, part: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, part);
        }
        self
    }

    /// Names the part of the body that a 422 is about, if the problem names no field yet.
    pub(crate) fn of_part(mut self, part: &str) -> Self {
        if self.status == StatusCode::UNPROCESSABLE_ENTITY && self.errors.is_empty() {
            self.errors.push(FieldError { pointer: part.to_owned(), detail: self.detail.clone() });
        }
        self
    }

    /// Points all errors at one field, and names the fields that were checked in words: the body
    /// has other fields than those.
    pub(crate) fn within(mut self, pointer: &str) -> Self {
        for error in &mut self.errors {
            let field = std::mem::replace(&mut error.pointer, pointer.to_owned());
            error.detail = format!("{}: {}", field.trim_start_matches('/'), error.detail).into();
        }
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the sentence for the reader.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the fields that are wrong.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

/// Returns the answer to a request for a path that does not exist.
pub(crate) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// Returns the answer to a request with a method that the path does not take.
pub(crate) fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method; the Allow header lists those it does",
    )
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            trace_id: propagation::trace_name(&Span::current()),
        };
        // Strings and numbers can always be serialized.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body)
                .into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

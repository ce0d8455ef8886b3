//! `POST /api/contact`: checks a visitor's contact, and acknowledges it once it is on disk on the
//! bus.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use events::{Contact, ContactId};
use serde::Serialize;
use serde_json::Value;

use crate::{
    app::{App, Shared},
    body::{self, Format},
    fields::Fields,
    idempotency::{self, IdempotencyKey, Key, Scope},
    pages,
    problem::Problem,
    reference::requests,
};

pub(crate) const MAX_NAME: usize = 100;
pub(crate) const MAX_EMAIL: usize = 254;
pub(crate) const MAX_SUBJECT: usize = 200;
pub(crate) const MAX_MESSAGE: usize = 5_000;

/// The receipt of a contact that is on disk under this id.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ContactReceipt)]
pub(crate) struct Receipt {
    id: ContactId,
    received_at: String,
}

/// Takes a contact as JSON or as a form. A browser that sent a form gets a page, all others JSON.
#[utoipa::path(
    post,
    path = "/api/contact",
    operation_id = "submitContact",
    tag = "contacts",
    params(IdempotencyKey),
    request_body(content(
        (requests::Contact = "application/json"),
        (requests::ContactForm = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = ACCEPTED, description = "It is on disk, under this id", body = Receipt),
        (status = CONFLICT, description = "The same key's request is under way"),
    )
)]
pub(crate) async fn submit(State(app): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let page = wants_page(&head.headers);
    let mut kept = pages::Input::default();
    let result = match body::json_or_form(&head.headers, body).await {
        Ok(body) => {
            if page {
                kept = pages::Input::of(&body);
            }
            accept(&app, &head.headers, body).await
        }
        Err(problem) => Err(problem),
    };
    match result {
        Ok(_) if page => pages::thanks(),
        Ok(receipt) => (StatusCode::ACCEPTED, Json(receipt)).into_response(),
        Err(problem) if page => pages::refused(kept, problem),
        Err(problem) => problem.into_response(),
    }
}

async fn accept(app: &App, headers: &HeaderMap, body: Value) -> Result<Receipt, Problem> {
    let key = Key::of(headers, None, &Scope::Visitor, || body.to_string().into_bytes())?;
    let contact = parse(body, ContactId::new(), Utc::now())?;
    let (id, now) = (contact.id.0, contact.received_at);
    let publish = |id, received_at| async move {
        app.publisher.contact(Contact { id: ContactId(id), received_at, ..contact }).await
    };
    let (id, received_at) = idempotency::once(app.publisher.bus(), key, id, now, publish).await?;
    app.metrics.contacts_accepted.inc();
    tracing::debug!(contact.id = %id, "contact accepted");
    Ok(Receipt {
        id: ContactId(id),
        received_at: received_at.to_rfc3339_opts(SecondsFormat::Millis, true),
    })
}

/// Returns whether the request is a browser's form: one that sends a form and accepts HTML.
fn wants_page(headers: &HeaderMap) -> bool {
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html") && matches!(body::format(headers, &body::BOTH), Ok(Format::Form))
}

/// Checks all fields. Pure.
fn parse(body: Value, id: ContactId, received_at: DateTime<Utc>) -> Result<Contact, Problem> {
    let mut fields = Fields::new(body)?;
    let name = fields.text_to("name", MAX_NAME).unwrap_or_default();
    check_line(&mut fields, "name", &name);
    let email = fields.text_to("email", MAX_EMAIL).unwrap_or_default();
    check_email(&mut fields, &email);
    let subject = fields.optional_text_to("subject", MAX_SUBJECT);
    check_line(&mut fields, "subject", subject.as_deref().unwrap_or_default());
    let message = fields.text_to("message", MAX_MESSAGE).unwrap_or_default();
    if message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        fields.reject("message", "has control characters; line breaks and tabs are allowed");
    }
    fields.finish()?;
    // Cuts the time to milliseconds, as MongoDB does, so that the receipt and the document agree.
    let received_at =
        DateTime::from_timestamp_millis(received_at.timestamp_millis()).unwrap_or(received_at);
    Ok(Contact { id, name, email, subject, message, received_at, traceparent: None })
}

fn check_line(fields: &mut Fields, name: &'static str, text: &str) {
    if text.chars().any(char::is_control) {
        fields.reject(name, "has control characters or line breaks");
    }
}

fn check_email(fields: &mut Fields, email: &str) {
    if email.len() > MAX_EMAIL {
        fields.reject("email", format!("longer than {MAX_EMAIL} characters"));
    } else if !email.is_empty() && garde::rules::email::parse_email(email).is_err() {
        fields.reject("email", "not an e-mail address, such as ada@example.org");
    }
}

/// Fails if a contact with this body would be refused.
#[cfg(test)]
pub(crate) fn check(body: Value) -> Result<(), Problem> {
    parse(body, ContactId::new(), Utc::now()).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: Value) -> Vec<(String, String)> {
        match parse(body, ContactId::new(), Utc::now()) {
            Ok(_) => Vec::new(),
            Err(problem) => problem
                .errors()
                .iter()
                .map(|e| (e.pointer.clone(), e.detail.clone().into_owned()))
                .collect(),
        }
    }

    fn with(field: &str, value: impl Into<Value>) -> Vec<(String, String)> {
        let mut body =
            json!({"name": "Ada", "email": "ada@example.org", "subject": "x", "message": "hello"});
        body[field] = value.into();
        errors(body)
    }

    #[test]
    fn what_is_allowed_is_taken() {
        for (field, value) in [
            ("name", "ü".repeat(100)),
            ("name", "O’Neil, 李小龍 🙂".to_owned()),
            ("email", format!("{}@example.org", "a".repeat(60))),
            ("email", "first.last+tag@sub.example.co".to_owned()),
            ("subject", "s".repeat(200)),
            ("subject", String::new()),
            ("message", "m".repeat(5_000)),
            ("message", "one\r\n\ttwo\nthree".to_owned()),
        ] {
            assert_eq!(with(field, value.clone()), [], "{field}: {value}");
        }
        assert_eq!(with("subject", Value::Null), []);
        assert_eq!(with("unknown", 1), []);
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (field, value) in [
            ("name", json!("")),
            ("name", json!("x".repeat(101))),
            ("name", json!("a\nb")),
            ("name", json!("a\u{0}b")),
            ("name", json!(7)),
            ("email", json!("ada")),
            ("email", json!("ada@")),
            ("email", json!("a da@example.org")),
            ("email", json!("ada@example.org\nBcc: x@example.org")),
            ("email", json!(format!("{}@example.org", "a".repeat(250)))),
            ("subject", json!("x".repeat(201))),
            ("subject", json!("a\rb")),
            ("subject", json!([])),
            ("message", json!("   ")),
            ("message", json!("x".repeat(5_001))),
            ("message", json!("a\u{7}b")),
        ] {
            let found = with(field, value.clone());
            assert_eq!(found.len(), 1, "{field}: {value} {found:?}");
            assert_eq!(found[0].0, format!("/{field}"));
        }
    }

    #[test]
    fn everything_is_told_at_once() {
        let pointers: Vec<_> =
            errors(json!({"email": "x", "subject": 1})).into_iter().map(|(at, _)| at).collect();
        assert_eq!(pointers, ["/name", "/email", "/subject", "/message"]);
    }
}

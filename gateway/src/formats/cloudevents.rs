//! CloudEvents 1.0 over HTTP: in binary, structured and batched mode.
//!
//! What is in the envelope is either our own build (type `portfolio.build.finished.v1`) or a CDEvent.

use axum::http::{HeaderMap, header};
use cloudevents::{AttributesReader as _, Data, Event, event::SpecVersion};
use events::{BuildFinished, Event as _};
use serde_json::Value;

use super::{
    Build, EventId, Jobs, Message, Said,
    cdevents::{self, Sender},
    native, one, unreadable, wrong,
};
use crate::problem::Problem;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// How many events one batch may have.
pub(crate) const MAX_BATCH: usize = 50;

/// What is known of an event whose envelope has been read.
struct Enveloped {
    id: EventId,
    r#type: String,
    data: Option<Value>,
}

/// Whether the headers announce CloudEvents.
pub(super) fn is_one(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    media_type == STRUCTURED || media_type == BATCH || headers.contains_key("ce-specversion")
}

/// Reads one event, or a batch of them.
pub(super) fn read(headers: &HeaderMap, body: &[u8], jobs: &Jobs) -> Result<Message, Problem> {
    match media_type(headers).as_str() {
        STRUCTURED => {
            let event =
                structured(serde_json::from_slice(body).map_err(|error| not_json(&error))?, "")?;
            Ok(one(said(&event.r#type, event.data, "/data", jobs)?, Some(event.id)))
        }
        BATCH => batch(body, jobs),
        _ => {
            let event = binary(headers, body)?;
            Ok(one(said(&event.r#type, event.data, "", jobs)?, Some(event.id)))
        }
    }
}

/// All of them, or none: what is wrong with one is wrong with the whole.
fn batch(body: &[u8], jobs: &Jobs) -> Result<Message, Problem> {
    let events: Vec<Value> = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    if events.is_empty() || events.len() > MAX_BATCH {
        return Err(wrong(
            "",
            format!("a batch has 1 to {MAX_BATCH} events, this one has {}", events.len()),
        ));
    }
    let mut builds: Vec<(Build, EventId)> = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let at = format!("/{index}");
        let event = structured(event, &at)?;
        let said = said(&event.r#type, event.data, &format!("{at}/data"), jobs);
        if builds.iter().any(|(_, other)| *other == event.id) {
            return Err(wrong(at, "the same source and id as another event of the batch"));
        }
        match said? {
            Said::Build(build) => builds.push((build, event.id)),
            Said::Ignored(_) => {}
        }
    }
    if builds.is_empty() {
        return Ok(Message::Ignored("none of the events is the end of a build".to_owned()));
    }
    Ok(Message::Batch(builds))
}

fn structured(value: Value, at: &str) -> Result<Enveloped, Problem> {
    let event: Event = serde_json::from_value(value)
        .map_err(|error| wrong(at, format!("not a CloudEvent 1.0: {error}")))?;
    let data = match event.data() {
        None => None,
        Some(Data::Json(value)) => Some(value.clone()),
        Some(Data::Binary(bytes)) => Some(inner(bytes, at)?),
        Some(Data::String(text)) => Some(inner(text.as_bytes(), at)?),
    };
    if event.specversion() != SpecVersion::V10 {
        return Err(wrong(at, "the specversion is not 1.0"));
    }
    let id = EventId { source: event.source().clone(), id: event.id().to_owned() };
    // Events without a name would all be taken for one.
    for (name, text) in [("source", &id.source), ("id", &id.id)] {
        if text.is_empty() {
            return Err(wrong(format!("{at}/{name}"), "empty"));
        }
    }
    Ok(Enveloped { id, r#type: event.ty().to_owned(), data })
}

/// The data of an event that are JSON by themselves.
fn inner(bytes: &[u8], at: &str) -> Result<Value, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| wrong(format!("{at}/data"), format!("not JSON: {error}")))
}

/// Attributes in headers, the data in the body (CloudEvents HTTP Protocol Binding 1.0.2, section 3.1).
fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Enveloped, Problem> {
    // Values are percent-encoded UTF-8; there are senders that do not encode them.
    let text = |name: &str| {
        let value = headers.get(name)?.as_bytes();
        let text = percent_encoding::percent_decode(value).decode_utf8_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    };
    let required = |name: &'static str| {
        text(name).ok_or_else(|| unreadable(format!("the header {name} is required")))
    };
    if required("ce-specversion")? != "1.0" {
        return Err(unreadable("the header ce-specversion is not 1.0".to_owned()));
    }
    let id = EventId { source: required("ce-source")?, id: required("ce-id")? };
    let r#type = required("ce-type")?;
    let data = if body.trim_ascii().is_empty() {
        None
    } else {
        Some(serde_json::from_slice(body).map_err(|error| not_json(&error))?)
    };
    Ok(Enveloped { id, r#type, data })
}

/// What an event says, by its type.
fn said(r#type: &str, data: Option<Value>, at: &str, jobs: &Jobs) -> Result<Said, Problem> {
    let required = |data: Option<Value>| data.ok_or_else(|| wrong(at, "the event has no data"));
    if r#type == BuildFinished::TYPE {
        return native::parse(required(data)?).map(Said::Build).map_err(|problem| problem.at(at));
    }
    if r#type.starts_with(cdevents::PREFIX) {
        return cdevents::read(&required(data)?, jobs, Sender::Any)
            .map_err(|problem| problem.at(at));
    }
    // jenkinsci/cloudevents-plugin: its events of jobs have no body, and name no build.
    if r#type.starts_with("org.jenkinsci.") {
        return Ok(Said::Ignored(format!("{} names no build", r#type.escape_debug())));
    }
    let known = format!("{} and those of CDEvents, {}*", BuildFinished::TYPE, cdevents::PREFIX);
    Err(wrong(
        format!("{}/type", at.trim_end_matches("/data")),
        format!("the event's type is not known; known are {known}"),
    ))
}

fn media_type(headers: &HeaderMap) -> String {
    let value =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn not_json(error: &serde_json::Error) -> Problem {
    unreadable(format!("not JSON: {error}"))
}

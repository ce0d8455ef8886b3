//! What CI sends, in whatever form it speaks, made into one kind of build. Pure: bytes and headers in, a build or a reason out.

mod cdevents;
mod cloudevents;
mod jenkins;
mod jobs;
mod native;

pub(crate) use cloudevents::MAX_BATCH;
pub(crate) use jobs::Jobs;
pub(crate) use native::MAX_TEXT;

use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use events::{BuildFinished, BuildId, BuildStatus, Digest, JobName, V1};
use serde::Serialize;
use serde_json::Value;

use self::cdevents::Sender;
use crate::{
    auth::Caller,
    body::{self, Format},
    idempotency::{Key, Scope},
    problem::{FieldError, Problem},
};

/// A finished build, as CI said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Build {
    pub(crate) job: JobName,
    pub(crate) number: u64,
    pub(crate) status: BuildStatus,
    pub(crate) image: String,
    pub(crate) digest: Option<Digest>,
    pub(crate) commit: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) url: Option<String>,
}

impl Build {
    /// The event of it.
    pub(crate) fn received(self, id: BuildId, received_at: DateTime<Utc>) -> BuildFinished {
        let Self { job, number, status, image, digest, commit, branch, url } = self;
        BuildFinished {
            v: V1,
            id,
            job,
            number,
            status,
            image,
            digest,
            commit,
            branch,
            url,
            forced: None,
            target: None,
            trace_id: None,
            received_at,
        }
    }
}

/// What names a CloudEvent: the same source and id are the same event (CloudEvents 1.0.2, section 3.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(crate) source: String,
    pub(crate) id: String,
}

impl EventId {
    /// The key by which a caller's event is done once, however often it is sent.
    pub(crate) fn key(&self, caller: &Caller, build: &Build) -> Key {
        let text = serde_json::to_vec(&(&self.source, &self.id)).unwrap_or_default();
        Key::new(
            &Scope::Caller(format!("events {}", caller.name)),
            &text,
            &serde_json::to_vec(build).unwrap_or_default(),
        )
    }
}

/// What a request holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A build.
    One(Build, Option<EventId>),
    /// Some builds: all of them, or none.
    Batch(Vec<(Build, EventId)>),
    /// An event that is known and of no interest, in words.
    Ignored(String),
}

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Build(Build),
    Ignored(String),
}

/// Reads a request of a sender that sets headers.
pub(crate) fn read(headers: &HeaderMap, body: &[u8], jobs: &Jobs) -> Result<Message, Problem> {
    if cloudevents::is_one(headers) {
        return cloudevents::read(headers, body, jobs);
    }
    let format = body::format(headers, &[Format::Json])?;
    json(body::parse(format, body)?, jobs)
}

/// Reads a request of a sender that does not: the body has to tell what it is.
pub(crate) fn read_hook(headers: &HeaderMap, body: &[u8], jobs: &Jobs) -> Result<Message, Problem> {
    if cloudevents::is_one(headers) {
        return cloudevents::read(headers, body, jobs);
    }
    if jenkins::is_one(body) {
        let (event, id) = jenkins::read(body)?;
        return Ok(one(cdevents::read(&event, jobs, Sender::JenkinsPlugin)?, Some(id)));
    }
    json(body::parse(Format::Json, body)?, jobs)
}

/// Our own JSON, or a CDEvent as it is.
fn json(value: Value, jobs: &Jobs) -> Result<Message, Problem> {
    if !cdevents::is_one(&value) {
        return native::parse(value).map(|build| Message::One(build, None));
    }
    let id = cdevents::id(&value);
    Ok(one(cdevents::read(&value, jobs, Sender::Any)?, id))
}

fn one(said: Said, id: Option<EventId>) -> Message {
    match said {
        Said::Build(build) => Message::One(build, id),
        Said::Ignored(what) => Message::Ignored(what),
    }
}

/// A single field is wrong.
fn wrong(pointer: impl Into<String>, detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
}

/// The body cannot be read as what it claims to be.
fn unreadable(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests;

//! `POST /api/builds` and `GET /api/builds/{id}`: CI tells of a build, and asks what became of it.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use events::{BuildFinished, BuildId, BuildStatus, BuildTag, Digest, ImageReference, InvalidTag, JobName, V1};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::Shared,
    auth::Role,
    body,
    fields::Fields,
    idempotency::{self, Key},
    problem::Problem,
    rollouts::BuildView,
};

/// The longest wait in one request; proxies cut at 60 s.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// The longest commit, branch and URL, in characters.
const MAX_TEXT: usize = 1_000;

/// The answer: the build is on disk, and there is where to ask for it.
#[derive(Debug, Serialize)]
struct Receipt {
    id: BuildId,
    url: String,
}

/// Takes a build from CI.
pub(crate) async fn submit(State(app): State<Shared>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let caller = app.auth.authorize(&head.headers, &[Role::Ci])?;
    let _in_progress = app.builds_in_progress.begin(&caller.name)?;
    let body = body::json(&head.headers, body).await?;
    let key = Key::of(&head.headers, &format!("builds {}", caller.name), &body)?;
    let build = parse(body, BuildId::new(), Utc::now())?;
    let publish = |id, received_at| {
        let build = BuildFinished { id: BuildId(id), received_at, ..build.clone() };
        let app = &app;
        async move { app.publisher.build(&build).await }
    };
    let (id, _) = idempotency::once(app.publisher.bus(), key, build.id.0, build.received_at, publish).await?;
    let id = BuildId(id);
    app.metrics.builds_accepted.inc();
    tracing::info!(
        build.id = %id, build.job = %build.job, build.number = build.number, build.image = %build.image,
        caller = caller.name, "build accepted"
    );
    let url = format!("/api/builds/{id}");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, url.clone())], Json(Receipt { id, url })).into_response())
}

/// What may be asked beside the id.
#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    wait: Option<String>,
}

/// Tells how a build stands; with `wait`, once nothing more will happen to it, or when that time is up.
pub(crate) async fn show(
    State(app): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<BuildView>, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let wait = wait(ask.map(|Query(ask)| ask.wait).map_err(|_| bad_wait())?)?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such build");
    let id = id.ok().and_then(|Path(id)| id.parse::<BuildId>().ok()).ok_or_else(missing)?;
    let found = app.rollouts.find(id).await.map_err(|error| {
        tracing::warn!("{error}");
        Problem::unavailable("the state of builds cannot be read now, try again", 2)
    })?;
    let mut build = found.ok_or_else(missing)?;
    build
        .terminal(async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = app.shutdown.begun() => {}
            }
        })
        .await;
    Ok(Json(build.view()))
}

fn wait(asked: Option<String>) -> Result<Duration, Problem> {
    let Some(text) = asked else { return Ok(Duration::ZERO) };
    runtime::config::duration(&text).ok().filter(|wait| *wait <= MAX_WAIT).ok_or_else(bad_wait)
}

fn bad_wait() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "`wait` is a duration of at most 60s, such as 30s")
}

/// Checks all fields. Pure.
fn parse(body: Value, id: BuildId, received_at: DateTime<Utc>) -> Result<BuildFinished, Problem> {
    let mut fields = Fields::new(body)?;
    let job = fields.text("job").and_then(|text| checked(&mut fields, "job", text.parse::<JobName>()));
    let number = fields.number("number");
    let status = fields.text("status").and_then(|text| {
        let status = BuildStatus::parse(&text);
        if status.is_none() {
            let allowed = BuildStatus::ALL.map(BuildStatus::as_str).join(", ");
            fields.reject("status", format!("not one of {allowed}"));
        }
        status
    });
    let image = fields.text("image").and_then(|text| image(&mut fields, text));
    let digest = fields.optional_text("digest").and_then(|text| checked(&mut fields, "digest", text.parse::<Digest>()));
    if let (Some((_, reference)), Some(digest)) = (&image, &digest)
        && reference.digest().is_some_and(|pinned| pinned != digest)
    {
        fields.reject("digest", "not the digest that the image names");
    }
    let [commit, branch, url] = ["commit", "branch", "url"].map(|name| line(&mut fields, name));
    fields.finish()?;
    // All are there, or `finish` has told why not.
    let (Some(job), Some(number), Some(status), Some((image, _))) = (job, number, status, image) else {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "some fields are missing"));
    };
    Ok(BuildFinished { v: V1, id, job, number, status, image, digest, commit, branch, url, forced: None, received_at })
}

fn checked<T, E: std::fmt::Display>(fields: &mut Fields, name: &str, result: Result<T, E>) -> Option<T> {
    result.map_err(|error| fields.reject(name, error.to_string())).ok()
}

/// An image that can be deployed: one that a tag like v42-abc1234 tells from all others.
fn image(fields: &mut Fields, text: String) -> Option<(String, ImageReference)> {
    let reference = checked(fields, "image", text.parse::<ImageReference>())?;
    let tag = reference.tag().map_or(Err(InvalidTag::Form), str::parse::<BuildTag>);
    match (tag, reference.tag()) {
        (Ok(_), _) => return Some((text, reference)),
        (Err(_), None) => fields.reject("image", "has no tag: one like v42-abc1234 is required"),
        (Err(error), Some(_)) => fields.reject("image", error.to_string()),
    }
    None
}

fn line(fields: &mut Fields, name: &'static str) -> Option<String> {
    let text = fields.optional_text(name)?;
    if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        fields.reject(name, format!("longer than {MAX_TEXT} characters, or not one line"));
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: Value) -> Vec<String> {
        match parse(body, BuildId::new(), Utc::now()) {
            Ok(_) => Vec::new(),
            Err(problem) => problem.errors().iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect(),
        }
    }

    fn with(field: &str, value: Value) -> Vec<String> {
        let mut body = json!({"job": "portfolio", "number": 42, "status": "success", "image": "a/b:v42-abc1234"});
        body[field] = value;
        errors(body)
    }

    #[test]
    fn what_is_allowed_is_taken() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (field, value) in [
            ("number", json!("42")),
            ("status", json!("FAILURE")),
            ("image", json!("registry.example:5000/team/portfolio:v42-abc1234")),
            ("image", json!(format!("a/b:v42-abc1234@{digest}"))),
            ("digest", json!(digest)),
            ("commit", json!("abc1234")),
            ("branch", Value::Null),
            ("anything", json!({"else": 1})),
        ] {
            assert_eq!(with(field, value.clone()), Vec::<String>::new(), "{field}: {value}");
        }
    }

    #[test]
    fn what_cannot_be_deployed_is_refused_with_the_reason() {
        for (field, value, expected) in [
            ("image", json!("a/b"), "/image has no tag"),
            ("image", json!("a/b:latest"), "/image the tag 'latest' names no build"),
            ("image", json!("a/b:v42"), "/image the tag is not v{number}-{commit}"),
            ("image", json!("a/B:v42-abc1234"), "/image a repository's parts"),
            ("image", json!(7), "/image not a string"),
            ("job", json!("a\nb"), "/job a job's name"),
            ("number", json!(-1), "/number not a whole number"),
            ("status", json!("ok"), "/status not one of success, unstable, failure"),
            ("digest", json!("sha256:12"), "/digest a digest is"),
            ("commit", json!("a\nb"), "/commit longer than"),
            ("url", json!("x".repeat(1_001)), "/url longer than"),
        ] {
            let found = with(field, value.clone());
            assert!(found.len() == 1 && found[0].starts_with(expected), "{field}: {value} {found:?}");
        }
        assert_eq!(errors(json!({})), ["/job required", "/number required", "/status required", "/image required"]);
    }

    #[test]
    fn two_digests_have_to_agree() {
        let (a, b) = (format!("sha256:{}", "0a".repeat(32)), format!("sha256:{}", "0b".repeat(32)));
        let body =
            json!({"job": "p", "number": 1, "status": "success", "image": format!("a/b:v1-abcd@{a}"), "digest": b});
        assert_eq!(errors(body), ["/digest not the digest that the image names"]);
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait(None).unwrap(), Duration::ZERO);
        assert_eq!(wait(Some("60s".into())).unwrap(), MAX_WAIT);
        for bad in ["61s", "", "soon", "-1s", "5"] {
            assert_eq!(wait(Some(bad.into())).unwrap_err().status(), 400, "{bad}");
        }
    }
}

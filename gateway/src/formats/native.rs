//! A build as our own API has it: one JSON object.

use axum::http::StatusCode;
use events::{BuildStatus, BuildTag, Digest, ImageReference, InvalidTag, JobName};
use serde_json::Value;

use super::Build;
use crate::{fields::Fields, problem::Problem};

/// The longest commit, branch and URL, in characters.
pub(crate) const MAX_TEXT: usize = 1_000;

/// Checks all fields. Pure.
pub(crate) fn parse(body: Value) -> Result<Build, Problem> {
    let mut fields = Fields::new(body)?;
    let job = fields
        .text_to("job", JobName::MAX_CHARACTERS)
        .and_then(|text| checked(&mut fields, "job", text.parse::<JobName>()));
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
    let digest = fields
        .optional_text("digest")
        .and_then(|text| checked(&mut fields, "digest", text.parse::<Digest>()));
    if let (Some((_, reference)), Some(digest)) = (&image, &digest)
        && reference.digest().is_some_and(|pinned| pinned != digest)
    {
        fields.reject("digest", "not the digest that the image names");
    }
    let [commit, branch, url] = ["commit", "branch", "url"].map(|name| line(&mut fields, name));
    fields.finish()?;
    // All are there, or `finish` has told why not.
    let (Some(job), Some(number), Some(status), Some((image, _))) = (job, number, status, image)
    else {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "some fields are missing"));
    };
    Ok(Build { job, number, status, image, digest, commit, branch, url })
}

fn checked<T, E: std::fmt::Display>(
    fields: &mut Fields,
    name: &str,
    result: Result<T, E>,
) -> Option<T> {
    result.map_err(|error| fields.reject(name, error.to_string())).ok()
}

/// An image that can be deployed: one that a tag like v42-abc1234 tells from all others.
pub(super) fn image(fields: &mut Fields, text: String) -> Option<(String, ImageReference)> {
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
    let text = fields.optional_text_to(name, MAX_TEXT)?;
    if text.chars().any(char::is_control) {
        fields.reject(name, "not one line");
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: Value) -> Vec<String> {
        match parse(body) {
            Ok(_) => Vec::new(),
            Err(problem) => {
                problem.errors().iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect()
            }
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
            ("commit", json!("a\nb"), "/commit not one line"),
            ("url", json!("x".repeat(1_001)), "/url longer than"),
        ] {
            let found = with(field, value.clone());
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{field}: {value} {found:?}"
            );
        }
        assert_eq!(
            errors(json!({})),
            ["/job required", "/number required", "/status required", "/image required"]
        );
    }

    #[test]
    fn two_digests_have_to_agree() {
        let (a, b) = (format!("sha256:{}", "0a".repeat(32)), format!("sha256:{}", "0b".repeat(32)));
        let body = json!({"job": "p", "number": 1, "status": "success", "image": format!("a/b:v1-abcd@{a}"), "digest": b});
        assert_eq!(errors(body), ["/digest not the digest that the image names"]);
    }
}

//! CDEvents (cdevents.dev): an artifact that was published, and a pipeline run that finished. Versions 0.3 to 0.5 are checked by the
//! project's own SDK; of 0.1 and 0.2, which it does not know, the required fields are.

use std::str::FromStr as _;

use events::BuildStatus;
use packageurl::PackageUrl;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{EventId, Jobs, Said, jobs::Values, native, wrong};
use crate::problem::Problem;

/// How all types of CDEvents begin.
pub(super) const PREFIX: &str = "dev.cdevents.";

/// The versions of the specification that are read.
const KNOWN: &str = "0.1, 0.2, 0.3, 0.4 and 0.5";

/// Whether a JSON body is a CDEvent, with nothing around it.
pub(super) fn is_one(value: &Value) -> bool {
    value["context"].is_object() && value.get("subject").is_some()
}

/// What names it.
pub(super) fn id(value: &Value) -> Option<EventId> {
    let text = |name: &str| value["context"][name].as_str().map(str::to_owned);
    Some(EventId { source: text("source")?, id: text("id")? })
}

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// One that means what it says.
    Any,
    /// jenkinsci/cdevents-plugin: what Jenkins calls unstable, it calls a success.
    JenkinsPlugin,
}

/// What it says.
pub(super) fn read(event: &Value, jobs: &Jobs, sender: Sender) -> Result<Said, Problem> {
    let context = &event["context"];
    let version =
        context["specversion"].as_str().or_else(|| context["version"].as_str()).unwrap_or_default();
    let parts: Vec<_> = version.split('.').collect();
    let known = matches!(parts[..], ["0", "1" | "2" | "3" | "4" | "5", patch] if patch.parse::<u8>().is_ok());
    if !known {
        return Err(unknown(version));
    }
    required(event)?;
    let r#type = context["type"].as_str().unwrap_or_default();
    let Some(rest) = r#type.strip_prefix(PREFIX) else {
        return Err(wrong(
            "/context/type",
            format!("not a type of CDEvents, which begin with {PREFIX}"),
        ));
    };
    let what: Vec<_> = rest.split('.').take(2).collect();
    if !matches!(what[..], ["artifact", "published"] | ["pipelinerun", "finished"]) {
        return Ok(Said::Ignored(format!("{} is not the end of a build", r#type.escape_debug())));
    }
    // Those before, and 0.4.0 with its `chain_id`, the SDK does not know.
    if !version.starts_with("0.1.") && !version.starts_with("0.2.") && version != "0.4.0" {
        cdevents_sdk::CDEvent::deserialize(event)
            .map_err(|error| wrong("", format!("not a CDEvent of its version: {error}")))?;
    }
    let build =
        if what[0] == "artifact" { published(event)? } else { finished(event, jobs, sender)? };
    // The pointers of our own form would lead nowhere in this one.
    native::parse(build).map(Said::Build).map_err(|problem| problem.within("/subject"))
}

fn unknown(version: &str) -> Problem {
    let version = version.escape_debug();
    wrong("/context", format!("the version of CDEvents is '{version}'; known are {KNOWN}"))
}

/// What all versions require.
fn required(event: &Value) -> Result<(), Problem> {
    for pointer in
        ["/context/id", "/context/source", "/context/type", "/context/timestamp", "/subject/id"]
    {
        if event.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(wrong(pointer, "required"));
        }
    }
    if !event["subject"]["content"].is_object() {
        return Err(wrong("/subject/content", "required"));
    }
    Ok(())
}

/// An artifact: a package URL names its repository, its digest and its tag, and the tag names the build.
fn published(event: &Value) -> Result<Value, Problem> {
    let at = "/subject/id";
    let text = event.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let purl = PackageUrl::from_str(text).map_err(|_| {
        wrong(
            at,
            "not a package URL such as pkg:oci/app@sha256%3A…?repository_url=…&tag=v42-abc1234",
        )
    })?;
    let qualifier = |name: &str| {
        purl.qualifiers().get(name).map(AsRef::as_ref).map(|text: &str| text.trim_end_matches('/'))
    };
    let version = purl.version().unwrap_or_default();
    let (digest, tag) = match version.strip_prefix("sha256:") {
        Some(_) => (Some(version), qualifier("tag")),
        None => (None, qualifier("tag").or(Some(version).filter(|version| !version.is_empty()))),
    };
    let repository = match (purl.ty(), qualifier("repository_url")) {
        ("oci", Some(url)) if url.rsplit('/').next() == Some(purl.name()) => url.to_owned(),
        ("oci", Some(url)) => format!("{url}/{}", purl.name()),
        ("oci", None) => return Err(wrong(at, "the package URL names no repository_url")),
        ("docker", registry) => {
            let parts = [registry, purl.namespace(), Some(purl.name())];
            parts.into_iter().flatten().collect::<Vec<_>>().join("/")
        }
        _ => {
            return Err(wrong(
                at,
                "the package URL is neither pkg:oci nor pkg:docker: it is no image",
            ));
        }
    };
    let repository = repository.trim_start_matches("https://").trim_start_matches("http://");
    let tag =
        tag.ok_or_else(|| wrong(at, "the package URL names no tag, which tells the build"))?;
    let (number, commit) = match tag.parse::<events::BuildTag>() {
        Ok(tag) => (tag.number, tag.commit),
        Err(error) => return Err(wrong(at, error.to_string())),
    };
    let custom = Custom::of(event);
    Ok(json!({
        "job": job(custom.path),
        "number": number,
        "status": BuildStatus::Success.as_str(),
        "image": format!("{repository}:{tag}"),
        "digest": digest,
        "commit": custom.commit.unwrap_or(&commit),
        "branch": custom.branch,
        "url": custom.url,
    }))
}

/// A pipeline run: `JOBS_FILE` knows the image of its job.
fn finished(event: &Value, jobs: &Jobs, sender: Sender) -> Result<Value, Problem> {
    let content = &event["subject"]["content"];
    let custom = Custom::of(event);
    let id = event["subject"]["id"].as_str().unwrap_or_default();
    let number = custom.build["number"].as_u64().or_else(|| trailing_number(id));
    let number =
        number.ok_or_else(|| wrong("/subject/id", "does not end in the build's number"))?;
    // Of jobs in folders, Jenkins' path is exact, and the pipeline's name is one for people.
    let name = match content["pipelineName"].as_str() {
        Some(name) if !custom.path.contains("job/") && !name.is_empty() => name.to_owned(),
        _ => job(custom.path),
    };
    let known_job = name
        .parse()
        .map_err(|error: events::InvalidName| wrong("/context/source", error.to_string()))?;
    let told = custom.build["status"].as_str().and_then(BuildStatus::parse);
    let status = told.map_or_else(|| outcome(content["outcome"].as_str()), Ok)?;
    let sure = told.is_some() || sender != Sender::JenkinsPlugin || status != BuildStatus::Success;
    if !sure && !jobs.accepts_unstable(&known_job) {
        return Err(wrong(
            "/customData/build/status",
            format!(
                "missing: without it, nobody knows whether the build was unstable; if that does not matter, say \
                 `accept_unstable: true` for the job {known_job} in JOBS_FILE"
            ),
        ));
    }
    let values = Values {
        number,
        commit: custom.commit,
        branch: custom.branch,
        parameters: &custom.build["parameters"],
    };
    let image = jobs.image(&known_job, values).map_err(|why| wrong("/subject", why))?;
    let url = custom.url.or_else(|| content["uri"].as_str()).or_else(|| content["url"].as_str());
    Ok(json!({
        "job": name,
        "number": number,
        "status": status.as_str(),
        "image": image,
        "commit": custom.commit,
        "branch": custom.branch,
        "url": url,
    }))
}

/// What senders add in `customData`, as Jenkins has it.
struct Custom<'a> {
    build: &'a Value,
    /// Jenkins' path of the job, or the event's source.
    path: &'a str,
    commit: Option<&'a str>,
    branch: Option<&'a str>,
    url: Option<&'a str>,
}

impl<'a> Custom<'a> {
    fn of(event: &'a Value) -> Self {
        let custom = &event["customData"];
        let build = &custom["build"];
        let text = |name: &str| build["scmState"][name].as_str().or_else(|| build[name].as_str());
        let path = custom["url"]
            .as_str()
            .or_else(|| event["context"]["source"].as_str())
            .unwrap_or_default();
        Self {
            build,
            path,
            commit: text("commit"),
            branch: text("branch"),
            url: build["fullUrl"].as_str(),
        }
    }
}

/// How it ended, in CDEvents' words. Until 0.5 they were anybody's choice of case.
fn outcome(outcome: Option<&str>) -> Result<BuildStatus, Problem> {
    match outcome.unwrap_or_default().to_ascii_lowercase().as_str() {
        "success" => Ok(BuildStatus::Success),
        "failure" | "error" => Ok(BuildStatus::Failure),
        "cancel" => Ok(BuildStatus::Aborted),
        _ => Err(wrong("/subject/content/outcome", "not one of success, failure, error, cancel")),
    }
}

/// The job's name in a source: `job/folder/job/name/42/` is Jenkins' way to write `folder/name`; others are taken as they are.
fn job(source: &str) -> String {
    let path = source.trim_matches('/');
    let segments: Vec<_> = path.split('/').collect();
    let begin = segments.iter().position(|segment| *segment == "job");
    let Some(begin) = begin else { return path.to_owned() };
    let names = segments[begin..].chunks(2).map_while(|pair| match pair {
        ["job", name] => Some(decoded(name)),
        _ => None,
    });
    names.collect::<Vec<_>>().join("/")
}

/// Without its percent-encoding.
fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn trailing_number(text: &str) -> Option<u64> {
    let digits = text.len() - text.bytes().rev().take_while(u8::is_ascii_digit).count();
    text[digits..].parse().ok()
}

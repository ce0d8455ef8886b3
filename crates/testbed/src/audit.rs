//! What an API server wrote down of the requests that it got (Kubernetes' `audit.k8s.io/v1`).

use std::{fs, path::Path};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it came.
    pub asked: DateTime<Utc>,
    /// When it was answered.
    pub answered: DateTime<Utc>,
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// Such as `deployments` or `pods`.
    pub resource: String,
    /// Such as `status`; mostly empty.
    pub subresource: String,
    /// Of what it was about.
    pub name: String,
    /// The status code of the answer.
    pub code: i64,
    /// What it was about, as it is then. Only of writes to Deployments.
    pub object: Value,
}

/// Reads an audit log, in the order of its lines. A line that is being written is left out.
///
/// # Errors
/// There is no such file.
pub fn read(path: &Path) -> anyhow::Result<Vec<Request>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| request(serde_json::from_str(line).ok()?)).collect())
}

/// Whether a Deployment is rolled out, by the rules of `kubectl rollout status`.
pub fn is_complete(deployment: &Value) -> bool {
    let count = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    let desired = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let generation = deployment["metadata"]["generation"].as_i64();
    let (updated, available) = (count("updatedReplicas"), count("availableReplicas"));
    generation.is_some_and(|generation| count("observedGeneration") >= generation)
        && updated >= desired
        && count("replicas") <= updated
        && available >= updated
}

fn request(mut event: Value) -> Option<Request> {
    let time = |event: &Value, field: &str| event[field].as_str()?.parse().ok();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if event["stage"] != "ResponseComplete" {
        return None;
    }
    let object = event["responseObject"].take();
    let reference = &event["objectRef"];
    Some(Request {
        asked: time(&event, "requestReceivedTimestamp")?,
        answered: time(&event, "stageTimestamp")?,
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
        resource: text(&reference["resource"]),
        subresource: text(&reference["subresource"]),
        name: text(reference.get("name").unwrap_or(&object["metadata"]["name"])),
        code: event["responseStatus"]["code"].as_i64().unwrap_or(0),
        object,
    })
}

//! What the cluster says of a rollout: done, not yet, broken, or no longer ours. Pure.
//!
//! The rules are those of `kubectl rollout status` (kubectl's `rollout_status.go`), in its order, and more:
//! the generation is the one that our write made, the image has to be still ours, and an old condition does not count.

use chrono::{DateTime, Utc};
use events::{ImageReference, Progress};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};

/// What we set, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    /// The container whose image we set.
    pub(crate) container: String,
    /// The image that we set.
    pub(crate) image: String,
    /// The generation of the Deployment that our write made.
    pub(crate) generation: i64,
    /// When we wrote it, by the API server's clock.
    pub(crate) since: DateTime<Utc>,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not done yet; in words, what is waited for.
    Waiting(String),
    /// The new version, and nothing else, serves.
    Complete,
    /// Kubernetes has given up, for this reason.
    Broken { cause: String, message: String },
    /// Somebody set another image.
    Replaced { image: String },
    /// The container is no longer in the Deployment.
    NoContainer,
}

/// How a rollout stands, and its counts of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) phase: Phase,
    pub(crate) progress: Progress,
}

/// The image of a container of a Deployment.
pub(crate) fn image_of<'a>(deployment: &'a Deployment, container: &str) -> Option<&'a str> {
    let spec = deployment.spec.as_ref()?.template.spec.as_ref()?;
    spec.containers.iter().find(|c| c.name == container)?.image.as_deref()
}

/// Whether two references mean the same image, however they are written.
pub(crate) fn same_image(a: &str, b: &str) -> bool {
    match (a.parse::<ImageReference>(), b.parse::<ImageReference>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Judges a Deployment as it was observed.
pub(crate) fn observe(deployment: &Deployment, expected: &Expectation) -> Observation {
    let spec = deployment.spec.clone().unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    let progress = Progress {
        desired: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
    };
    let generation = deployment.metadata.generation.unwrap_or(0).max(expected.generation);
    let phase = match image_of(deployment, &expected.container) {
        None => Phase::NoContainer,
        Some(image) if !same_image(image, &expected.image) => Phase::Replaced { image: image.to_owned() },
        Some(_) => phase(&spec, &status, progress, generation, expected.since),
    };
    Observation { phase, progress }
}

fn phase(
    spec: &DeploymentSpec,
    status: &DeploymentStatus,
    progress: Progress,
    generation: i64,
    since: DateTime<Utc>,
) -> Phase {
    let Progress { desired, updated, available, .. } = progress;
    let total = status.replicas.unwrap_or(0);
    if status.observed_generation.unwrap_or(0) < generation {
        return Phase::Waiting("the Deployment's controller has yet to see the change".to_owned());
    }
    if let Some(condition) = given_up(status, since) {
        let message = condition.message.clone().unwrap_or_default();
        return Phase::Broken { cause: "ProgressDeadlineExceeded".to_owned(), message };
    }
    if updated < desired {
        let paused = if spec.paused == Some(true) { "; the Deployment is paused" } else { "" };
        return Phase::Waiting(format!("{updated} of {desired} pods have the new version{paused}"));
    }
    if total > updated {
        return Phase::Waiting(format!("{} pods of the old version have yet to end", total - updated));
    }
    if available < updated {
        return Phase::Waiting(format!("{available} of {updated} pods of the new version are available"));
    }
    Phase::Complete
}

/// The condition with which Kubernetes gives up, if it speaks of our rollout: one from before our write does not.
fn given_up(status: &DeploymentStatus, since: DateTime<Utc>) -> Option<&DeploymentCondition> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| {
        let updated = condition.last_update_time.as_ref().map(|time| time.0.as_second());
        condition.type_ == "Progressing"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
            && updated.is_some_and(|updated| updated >= since.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OURS: &str = "a/b:v2-abcd";

    /// A Deployment of three, rolled out, and what is changed in it.
    fn phase_of(changes: &Value) -> Phase {
        let mut object = json!({
            "metadata": {"generation": 7},
            "spec": {"replicas": 3, "selector": {}, "template": {"spec": {"containers": [
                {"name": "app", "image": OURS}, {"name": "sidecar", "image": "x/y:v1"}
            ]}}},
            "status": {"observedGeneration": 7, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3},
        });
        json_patch::merge(&mut object, changes);
        let deployment: Deployment = serde_json::from_value(object).unwrap();
        let expected = Expectation {
            container: "app".to_owned(),
            image: OURS.to_owned(),
            generation: 7,
            since: "2026-01-01T00:00:10Z".parse().unwrap(),
        };
        observe(&deployment, &expected).phase
    }

    fn given_up_at(time: &str) -> Value {
        let condition = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "timed out", "lastUpdateTime": time});
        json!({"status": {"updatedReplicas": 1, "conditions": [condition]}})
    }

    #[test]
    fn the_rules_of_kubectl_hold_in_their_order() {
        let waiting = |text: &str| Phase::Waiting(text.to_owned());
        let containers = |app: Value| json!({"spec": {"template": {"spec": {"containers": [app]}}}});
        for (changes, expected) in [
            (json!({}), Phase::Complete),
            (
                json!({"status": {"observedGeneration": 6}}),
                waiting("the Deployment's controller has yet to see the change"),
            ),
            (json!({"status": null}), waiting("the Deployment's controller has yet to see the change")),
            // Scaled meanwhile: the counts are those of a generation before.
            (json!({"metadata": {"generation": 8}}), waiting("the Deployment's controller has yet to see the change")),
            (json!({"status": {"updatedReplicas": 2}}), waiting("2 of 3 pods have the new version")),
            (
                json!({"spec": {"paused": true}, "status": {"updatedReplicas": 0}}),
                waiting("0 of 3 pods have the new version; the Deployment is paused"),
            ),
            (json!({"status": {"replicas": 4}}), waiting("1 pods of the old version have yet to end")),
            (json!({"status": {"availableReplicas": 2}}), waiting("2 of 3 pods of the new version are available")),
            (
                json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}}),
                Phase::Complete,
            ),
            (
                json!({"spec": {"replicas": null}, "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
                Phase::Complete,
            ),
            (containers(json!({"name": "app", "image": "docker.io/a/b:v2-abcd"})), Phase::Complete),
            (
                containers(json!({"name": "app", "image": "a/b:v1-abcd"})),
                Phase::Replaced { image: "a/b:v1-abcd".to_owned() },
            ),
            (containers(json!({"name": "web", "image": OURS})), Phase::NoContainer),
        ] {
            assert_eq!(phase_of(&changes), expected, "{changes}");
        }
    }

    #[test]
    fn kubernetes_gives_up_on_our_rollout_only_after_our_write() {
        let broken = Phase::Broken { cause: "ProgressDeadlineExceeded".to_owned(), message: "timed out".to_owned() };
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:00:10Z")), broken);
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:10:00Z")), broken);
        let waiting = Phase::Waiting("1 of 3 pods have the new version".to_owned());
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:00:09Z")), waiting);
    }
}

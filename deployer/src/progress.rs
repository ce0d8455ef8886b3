//! What the cluster says of a rollout: done, not yet, broken, or no longer ours. Pure.
//!
//! The rules are those of `kubectl rollout status` (kubectl's `rollout_status.go`), in its order, and more: the generation is
//! the one that our write made, the image has to be still ours, an old condition does not count, and the pods have to say the
//! same as the Deployment.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{ImageReference, Progress};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus,
};

use crate::observed::{Observed, Snapshot};

/// What we set, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    /// The container whose image we set.
    pub(crate) container: String,
    /// The image that we set.
    pub(crate) image: String,
    /// The generation of the Deployment that our write made.
    pub(crate) generation: i64,
    /// When we wrote it, by the API server's clock; none if it stood there already.
    pub(crate) since: Option<DateTime<Utc>>,
}

impl Expectation {
    /// Whether an image is the one that we set.
    pub(crate) fn is_ours(&self, image: &str) -> bool {
        same_image(image, &self.image)
    }
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is known of the time since our write.
    Unknown,
    /// Not done yet; in words, what is waited for.
    Waiting(String),
    /// The new version, and nothing else, serves.
    Complete,
    /// Kubernetes has given up, with this message.
    GivenUp(String),
    /// Somebody set another image.
    Replaced { image: String },
    /// The container is no longer in the Deployment.
    NoContainer,
    /// The Deployment is gone.
    Gone,
}

/// How a rollout stands, and its counts of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) phase: Phase,
    pub(crate) progress: Option<Progress>,
    /// New pods that have been ready for `minReadySeconds`, and all new pods: what is compared to tell whether it goes on.
    pub(crate) advance: (i32, i32),
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

/// Counts of a Deployment's pods.
pub(crate) fn counts(deployment: &Deployment) -> Progress {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
    let of_status =
        |count: fn(&DeploymentStatus) -> Option<i32>| status.and_then(count).unwrap_or(0);
    Progress {
        desired: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        updated: of_status(|status| status.updated_replicas),
        ready: of_status(|status| status.ready_replicas),
        available: of_status(|status| status.available_replicas),
    }
}

/// Judges what was observed.
pub(crate) fn observe(snapshot: &Snapshot, expected: &Expectation) -> Observation {
    let without_counts = |phase| Observation { phase, progress: None, advance: (0, 0) };
    let deployment = match &snapshot.deployment {
        Observed::Unknown => return without_counts(Phase::Unknown),
        Observed::Missing => return without_counts(Phase::Gone),
        // From before our write.
        Observed::Found(deployment)
            if deployment.metadata.generation < Some(expected.generation) =>
        {
            return without_counts(Phase::Unknown);
        }
        Observed::Found(deployment) => deployment,
    };
    let spec = deployment.spec.clone().unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    let progress = counts(deployment);
    let generation = deployment.metadata.generation.unwrap_or(0);
    let phase = match image_of(deployment, &expected.container) {
        None => Phase::NoContainer,
        Some(image) if !expected.is_ours(image) => Phase::Replaced { image: image.to_owned() },
        Some(_) => match phase(&spec, &status, progress, generation, expected.since) {
            Phase::Complete => pods_agree(snapshot, expected, progress.desired),
            other => other,
        },
    };
    // Before the controller has come to our template, its counts are those of the one before.
    let seen = status.observed_generation.unwrap_or(0) >= generation;
    let set = snapshot.current(&expected.container, |image| expected.is_ours(image));
    let advance = (set.map_or(0, |set| set.available), if seen { progress.updated } else { 0 });
    Observation { phase, progress: Some(progress), advance }
}

fn phase(
    spec: &DeploymentSpec,
    status: &DeploymentStatus,
    progress: Progress,
    generation: i64,
    since: Option<DateTime<Utc>>,
) -> Phase {
    let Progress { desired, updated, available, .. } = progress;
    let total = status.replicas.unwrap_or(0);
    if status.observed_generation.unwrap_or(0) < generation {
        return Phase::Waiting("the Deployment's controller has yet to see the change".to_owned());
    }
    if let Some(condition) = given_up(spec, status, since) {
        return Phase::GivenUp(condition.message.clone().unwrap_or_default());
    }
    if updated < desired {
        let paused = if spec.paused == Some(true) { "; the Deployment is paused" } else { "" };
        return Phase::Waiting(format!("{updated} of {desired} pods have the new version{paused}"));
    }
    if total > updated {
        return Phase::Waiting(format!(
            "{} pods of the old version have yet to end",
            total - updated
        ));
    }
    if available < updated {
        return Phase::Waiting(format!(
            "{available} of {updated} pods of the new version are available"
        ));
    }
    Phase::Complete
}

/// The Deployment's counts are sums of what pods say. They may be older than the pods, and so may the pods be: only where both
/// say the same is it so.
fn pods_agree(snapshot: &Snapshot, expected: &Expectation, desired: i32) -> Phase {
    if !snapshot.pods_known {
        return Phase::Complete;
    }
    let set = snapshot.current(&expected.container, |image| expected.is_ours(image));
    let is_new = |owner: &str| set.is_some_and(|set| set.uid == owner);
    let old = snapshot.pods.iter().filter(|pod| pod.is_active() && !is_new(&pod.owner)).count();
    if old > 0 {
        return Phase::Waiting(format!("{old} pods of the old version have yet to end"));
    }
    let ready = snapshot
        .pods
        .iter()
        .filter(|pod| pod.is_active() && is_new(&pod.owner) && pod.ready)
        .count();
    if i32::try_from(ready).unwrap_or(i32::MAX) < desired {
        return Phase::Waiting(format!("{ready} of {desired} pods of the new version are ready"));
    }
    Phase::Complete
}

/// The condition with which Kubernetes gives up, if it speaks of our rollout. One that was set before our write does not, nor
/// one that was set sooner after it than Kubernetes gives a rollout: it counts on from the rollout before.
fn given_up<'a>(
    spec: &DeploymentSpec,
    status: &'a DeploymentStatus,
    since: Option<DateTime<Utc>>,
) -> Option<&'a DeploymentCondition> {
    // Both times are whole seconds, rounded down, of clocks that may differ a little.
    let given = Duration::from_secs(
        u64::try_from(spec.progress_deadline_seconds.unwrap_or(600)).unwrap_or(0),
    );
    let earliest =
        since?.checked_add_signed(chrono::TimeDelta::from_std(given.mul_f32(0.9)).ok()?)?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| {
        let updated = condition.last_update_time.as_ref().map(|time| time.0.as_second());
        condition.type_ == "Progressing"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
            && updated.is_some_and(|updated| updated >= earliest.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::observed::{Pod, ReplicaSet};

    const OURS: &str = "a/b:v2-abcd";

    fn deployment(changes: &Value) -> Deployment {
        let mut object = json!({
            "metadata": {"uid": "d", "generation": 7},
            "spec": {"replicas": 3, "progressDeadlineSeconds": 60, "selector": {}, "template": {"spec": {"containers": [
                {"name": "app", "image": OURS}, {"name": "sidecar", "image": "x/y:v1"}
            ]}}},
            "status": {"observedGeneration": 7, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3},
        });
        json_patch::merge(&mut object, changes);
        serde_json::from_value(object).unwrap()
    }

    fn expected() -> Expectation {
        Expectation {
            container: "app".to_owned(),
            image: OURS.to_owned(),
            generation: 7,
            since: Some("2026-01-01T00:00:10Z".parse().unwrap()),
        }
    }

    /// A Deployment of three, rolled out, and what is changed in it; nothing is known of pods.
    fn phase_of(changes: &Value) -> Phase {
        observe(&Snapshot::default().with(Some(Arc::new(deployment(changes)))), &expected()).phase
    }

    fn given_up_at(time: &str) -> Value {
        let condition = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "timed out", "lastUpdateTime": time});
        json!({"status": {"updatedReplicas": 1, "conditions": [condition]}})
    }

    #[test]
    fn the_rules_of_kubectl_hold_in_their_order() {
        let waiting = |text: &str| Phase::Waiting(text.to_owned());
        let containers =
            |app: Value| json!({"spec": {"template": {"spec": {"containers": [app]}}}});
        for (changes, expected) in [
            (json!({}), Phase::Complete),
            (
                json!({"status": {"observedGeneration": 6}}),
                waiting("the Deployment's controller has yet to see the change"),
            ),
            (
                json!({"status": null}),
                waiting("the Deployment's controller has yet to see the change"),
            ),
            (json!({"metadata": {"generation": 6}}), Phase::Unknown),
            // Scaled meanwhile: the counts are those of a generation before.
            (
                json!({"metadata": {"generation": 8}}),
                waiting("the Deployment's controller has yet to see the change"),
            ),
            (
                json!({"status": {"updatedReplicas": 2}}),
                waiting("2 of 3 pods have the new version"),
            ),
            (
                json!({"spec": {"paused": true}, "status": {"updatedReplicas": 0}}),
                waiting("0 of 3 pods have the new version; the Deployment is paused"),
            ),
            (
                json!({"status": {"replicas": 4}}),
                waiting("1 pods of the old version have yet to end"),
            ),
            (
                json!({"status": {"availableReplicas": 2}}),
                waiting("2 of 3 pods of the new version are available"),
            ),
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
        assert_eq!(observe(&Snapshot::default(), &expected()).phase, Phase::Unknown);
        assert_eq!(observe(&Snapshot::default().with(None), &expected()).phase, Phase::Gone);
    }

    #[test]
    fn kubernetes_gives_up_on_our_rollout_only_when_its_time_since_our_write_is_over() {
        let broken = Phase::GivenUp("timed out".to_owned());
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:01:10Z")), broken);
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:10:00Z")), broken);
        let waiting = Phase::Waiting("1 of 3 pods have the new version".to_owned());
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:00:09Z")), waiting);
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:00:10Z")), waiting);
        assert_eq!(phase_of(&given_up_at("2026-01-01T00:00:40Z")), waiting);
        // Nothing was written: whatever stands there is older.
        let snapshot = Snapshot::default()
            .with(Some(Arc::new(deployment(&given_up_at("2026-01-01T00:10:00Z")))));
        assert_eq!(observe(&snapshot, &Expectation { since: None, ..expected() }).phase, waiting);
    }

    #[test]
    fn the_pods_have_to_say_the_same() {
        let set = |uid: &str, image: &str, revision| ReplicaSet {
            uid: uid.to_owned(),
            owner: "d".to_owned(),
            images: vec![("app".to_owned(), image.to_owned())],
            revision,
            ..ReplicaSet::default()
        };
        let pod = |owner: &str, ready, ending| Pod {
            owner: owner.to_owned(),
            ready,
            ending,
            ..Pod::default()
        };
        let waiting = |text: &str| Phase::Waiting(text.to_owned());
        let three =
            || vec![pod("new", true, false), pod("new", true, false), pod("new", true, false)];
        for (pods, expected_phase) in [
            (three(), Phase::Complete),
            ([three(), vec![pod("old", true, true)]].concat(), Phase::Complete),
            (
                [three(), vec![pod("old", true, false)]].concat(),
                waiting("1 pods of the old version have yet to end"),
            ),
            // Our image, and a template that somebody has changed since.
            (
                [three(), vec![pod("ours", true, false)]].concat(),
                waiting("1 pods of the old version have yet to end"),
            ),
            (three()[1..].to_vec(), waiting("2 of 3 pods of the new version are ready")),
            (
                [&three()[1..], &[pod("new", false, false)]].concat(),
                waiting("2 of 3 pods of the new version are ready"),
            ),
            (
                [&three()[1..], &[pod("new", true, true)]].concat(),
                waiting("2 of 3 pods of the new version are ready"),
            ),
        ] {
            let sets = [set("old", "a/b:v1-abcd", 3), set("ours", OURS, 1), set("new", OURS, 2)];
            let snapshot = Snapshot {
                replica_sets: sets.into_iter().map(Arc::new).collect(),
                pods: pods.clone().into_iter().map(Arc::new).collect(),
                pods_known: true,
                ..Snapshot::default().with(Some(Arc::new(deployment(&json!({})))))
            };
            assert_eq!(observe(&snapshot, &expected()).phase, expected_phase, "{pods:?}");
        }
    }
}

//! What is known of a target's Deployment, its `ReplicaSets`, their pods and the warnings about them: only what judging needs,
//! since there may be very many of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet as ApiReplicaSet},
        core::v1::{
            ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod as ApiPod,
            PodStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use crate::progress::image_of;

/// The annotation by which the Deployment's controller counts its `ReplicaSets`.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A target, as the watches have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Its Deployment.
    pub(crate) deployment: Observed,
    /// The Deployment's `ReplicaSets`.
    pub(crate) replica_sets: Vec<Arc<ReplicaSet>>,
    /// The pods of all of these.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Warnings about any of these, oldest first.
    pub(crate) warnings: Vec<Arc<Warning>>,
    /// Whether `ReplicaSets` and pods are known. Where they may not be read, the Deployment alone has to tell.
    pub(crate) pods_known: bool,
    /// Whether the watch of Deployments is broken: what it has may be old.
    pub(crate) stale: bool,
}

/// A Deployment, as a watch has it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Observed {
    /// Nothing has been heard yet.
    #[default]
    Unknown,
    /// There is none of that name.
    Missing,
    /// This one.
    Found(Arc<Deployment>),
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicaSet {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The uid of its Deployment.
    pub(crate) owner: String,
    /// How often the Deployment had come to another template when it came to this one.
    pub(crate) revision: i64,
    /// Containers and their images.
    pub(crate) images: Vec<(String, String)>,
    /// Its pods that have been ready for `minReadySeconds`.
    pub(crate) available: i32,
    /// Why it cannot create pods.
    pub(crate) refusal: Option<Reason>,
}

/// Kubernetes' word for something, and its sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The uid of its ReplicaSet.
    pub(crate) owner: String,
    /// It is being deleted.
    pub(crate) ending: bool,
    /// It will not run again: evicted, or refused by its node.
    pub(crate) failed: Option<Reason>,
    pub(crate) ready: bool,
    /// Why no node takes it.
    pub(crate) unschedulable: Option<Reason>,
    /// Its containers, those that run before the others first.
    pub(crate) containers: Vec<Container>,
}

impl Pod {
    /// Whether it serves or may come to serve.
    pub(crate) fn is_active(&self) -> bool {
        !self.ending && self.failed.is_none()
    }
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// It has to end before the others begin.
    pub(crate) init: bool,
    pub(crate) ready: bool,
    pub(crate) restarts: i32,
    /// Why it does not run yet, or not again.
    pub(crate) waiting: Option<Reason>,
    /// How it ended, if it does not run.
    pub(crate) ended: Option<Ended>,
    /// How it ended before it was started again.
    pub(crate) ended_before: Option<Ended>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) exit_code: i32,
}

/// A warning of Kubernetes, from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// Its event's uid.
    pub(crate) key: String,
    /// The uid of what it is about.
    pub(crate) about: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) at: Option<DateTime<Utc>>,
}

impl Snapshot {
    /// The same, with the Deployment as it was read since.
    pub(crate) fn with(&self, deployment: Option<Arc<Deployment>>) -> Self {
        let deployment = deployment.map_or(Observed::Missing, Observed::Found);
        Self { deployment, ..self.clone() }
    }

    /// The ReplicaSet of the Deployment's present template, if the controller has come to it and it has the image.
    pub(crate) fn current(
        &self,
        container: &str,
        same: impl Fn(&str) -> bool,
    ) -> Option<&ReplicaSet> {
        let Observed::Found(deployment) = &self.deployment else { return None };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let ours = |set: &&Arc<ReplicaSet>| {
            set.owner == uid
                && set.images.iter().any(|(name, image)| name == container && same(image))
        };
        self.replica_sets.iter().filter(ours).max_by_key(|set| set.revision).map(AsRef::as_ref)
    }

    /// The image that the Deployment has now.
    pub(crate) fn image(&self, container: &str) -> Option<&str> {
        match &self.deployment {
            Observed::Found(deployment) => image_of(deployment, container),
            Observed::Missing | Observed::Unknown => None,
        }
    }
}

/// The uid of the controller that made an object.
fn controller(metadata: &ObjectMeta) -> String {
    let mut owners = metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
        .unwrap_or_default()
}

impl ReplicaSet {
    pub(crate) fn of(set: &ApiReplicaSet) -> Self {
        let metadata = &set.metadata;
        let revision =
            metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
        let template =
            set.spec.as_ref().and_then(|spec| spec.template.as_ref()).and_then(|t| t.spec.as_ref());
        let containers = template.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let refusal = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: controller(metadata),
            revision: revision.and_then(|text| text.parse().ok()).unwrap_or(0),
            images: containers
                .iter()
                .map(|c| (c.name.clone(), c.image.clone().unwrap_or_default()))
                .collect(),
            available: status.available_replicas.unwrap_or(0),
            refusal: refusal.map(|condition| {
                Reason::new(condition.reason.as_deref(), condition.message.as_deref())
            }),
        }
    }
}

impl Reason {
    fn new(reason: Option<&str>, message: Option<&str>) -> Self {
        Self {
            reason: reason.unwrap_or_default().to_owned(),
            message: message.unwrap_or_default().to_owned(),
        }
    }
}

impl Pod {
    pub(crate) fn of(pod: &ApiPod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let condition = |of: &str, is: &str| {
            status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == of && condition.status == is)
        };
        let unschedulable = condition("PodScheduled", "False")
            .filter(|c| c.reason.as_deref() == Some("Unschedulable"));
        let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            owner: controller(&pod.metadata),
            ending: pod.metadata.deletion_timestamp.is_some(),
            failed: over.then(|| {
                Reason::new(status.reason.as_deref().or(Some("Failed")), status.message.as_deref())
            }),
            ready: condition("Ready", "True").is_some(),
            unschedulable: unschedulable
                .map(|c| Reason::new(c.reason.as_deref(), c.message.as_deref())),
            containers: containers(&status),
        }
    }
}

fn containers(status: &PodStatus) -> Vec<Container> {
    let of = |statuses: &Option<Vec<ContainerStatus>>, init: bool| {
        statuses.iter().flatten().map(|status| Container::of(status, init)).collect::<Vec<_>>()
    };
    let mut all = of(&status.init_container_statuses, true);
    all.extend(of(&status.container_statuses, false));
    all
}

impl Container {
    fn of(status: &ContainerStatus, init: bool) -> Self {
        let state = status.state.clone().unwrap_or_default();
        let ended = |state: &ContainerState| state.terminated.as_ref().map(Ended::of);
        Self {
            name: status.name.clone(),
            init,
            ready: status.ready,
            restarts: status.restart_count,
            waiting: state
                .waiting
                .as_ref()
                .map(|w| Reason::new(w.reason.as_deref(), w.message.as_deref())),
            ended: ended(&state),
            ended_before: status.last_state.as_ref().and_then(ended),
        }
    }

    /// How it ended last, if it ever did.
    pub(crate) fn last_end(&self) -> Option<&Ended> {
        self.ended.as_ref().or(self.ended_before.as_ref())
    }
}

impl Ended {
    fn of(terminated: &ContainerStateTerminated) -> Self {
        Self {
            reason: terminated.reason.clone().unwrap_or_default(),
            message: terminated.message.clone().unwrap_or_default(),
            exit_code: terminated.exit_code,
        }
    }
}

impl Warning {
    pub(crate) fn of(event: &Event) -> Self {
        let at = event.last_timestamp.as_ref().map(|Time(time)| time.as_second());
        let at = at.or_else(|| event.event_time.as_ref().map(|time| time.0.as_second()));
        Self {
            key: event.metadata.uid.clone().unwrap_or_default(),
            about: event.involved_object.uid.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            at: at.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        }
    }
}

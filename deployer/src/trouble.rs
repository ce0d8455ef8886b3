//! What keeps new pods from serving, and whether it may pass by itself. Pure.

use std::sync::Arc;

use events::PodDiagnosis;

use crate::observed::{Container, Ended, Pod, Reason, ReplicaSet, Snapshot, Warning};

/// Whether a trouble may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// It may: the network, a crash, a full cluster.
    Passing,
    /// It stays until somebody changes something.
    Permanent,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) class: Class,
    /// One word, Kubernetes' own.
    pub(crate) cause: &'static str,
    /// One clause for people.
    pub(crate) summary: String,
    /// The pod that shows it, without its log.
    pub(crate) pod: Option<PodDiagnosis>,
    /// The uid of what shows it.
    pub(crate) about: String,
    /// Whose log tells more.
    pub(crate) log: Option<Log>,
}

/// Which log of a container tells why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// The one of the container as it is.
    Current,
    /// The one of the container as it was before it was started again.
    Previous,
}

/// Everything that is wrong with a ReplicaSet's new pods, the worst first.
pub(crate) fn troubles(snapshot: &Snapshot, set: &ReplicaSet) -> Vec<Trouble> {
    let pods = || snapshot.pods.iter().filter(|pod| pod.owner == set.uid);
    let old_pods_end = snapshot.pods.iter().any(|pod| pod.owner != set.uid && pod.ending);
    let mut found: Vec<_> =
        set.refusal.iter().map(|refusal| refused(set, refusal, old_pods_end)).collect();
    for pod in pods().filter(|pod| pod.is_active()) {
        let warnings: Vec<_> =
            snapshot.warnings.iter().filter(|w| w.about == pod.uid).map(AsRef::as_ref).collect();
        found.extend(of_pod(pod, &warnings));
    }
    // One that fails is replaced, and no sign of anything; many are.
    let failed: Vec<_> = pods().filter(|pod| pod.failed.is_some() && !pod.ending).collect();
    if failed.len() >= MANY_FAILED
        && let Some(pod) = failed.last()
        && let Some(why) = &pod.failed
    {
        let summary = format!(
            "{} pods of the new version failed, {} with {}",
            failed.len(),
            pod.name,
            why.reason
        );
        found.push(Trouble::of_pod(pod, "PodFailed", summary, why));
    }
    found.sort_by_key(|trouble| std::cmp::Reverse(trouble.class));
    found
}

/// A new pod that runs and does not get ready. That alone is no trouble; it is what there is to show when the time is up.
pub(crate) fn unready(snapshot: &Snapshot, set: &ReplicaSet) -> Option<Trouble> {
    let unready = |pod: &&Arc<Pod>| pod.owner == set.uid && pod.is_active() && !pod.ready;
    let pod = snapshot.pods.iter().find(unready)?;
    let none = Container::default();
    let container = pod.containers.iter().find(|container| !container.ready).unwrap_or(&none);
    let message = "it runs and is not ready".to_owned();
    let why = container
        .waiting
        .clone()
        .unwrap_or_else(|| Reason { reason: "NotReady".to_owned(), message });
    let summary = if container.name.is_empty() {
        format!("the pod {} is not ready", pod.name)
    } else {
        format!("the container {} of the pod {} is not ready", container.name, pod.name)
    };
    let log = container.waiting.is_none().then_some(Log::Current);
    Some(Trouble { cause: "NotReady", summary, log, ..Trouble::of_container(pod, container, &why) })
}

const MANY_FAILED: usize = 3;

fn refused(set: &ReplicaSet, refusal: &Reason, old_pods_end: bool) -> Trouble {
    let passing = contains(&refusal.message, &MAY_PASS)
        // The room that they take in the quota will be free.
        || (old_pods_end && refusal.message.contains("exceeded quota"));
    Trouble {
        class: if passing { Class::Passing } else { Class::Permanent },
        cause: "FailedCreate",
        summary: format!("the ReplicaSet {} cannot create pods: {}", set.name, refusal.message),
        pod: None,
        about: set.uid.clone(),
        log: None,
    }
}

/// In what the API server and registries say of something that may be otherwise the next time.
const MAY_PASS: [&str; 14] = [
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection refused",
    "connection reset",
    "no such host",
    "failed calling webhook",
    "try again",
    "internal error",
    "too many requests",
    "toomanyrequests",
    "unexpected eof",
    "etcdserver",
    "service unavailable",
];

/// In what registries and runtimes say of an image that is not there.
const NO_SUCH_IMAGE: [&str; 5] =
    ["not found", "manifest unknown", "no such image", "does not exist", "name unknown"];

/// In what they say to those who may not have it.
const NO_ACCESS: [&str; 6] = [
    "unauthorized",
    "authentication required",
    "access denied",
    "pull access denied",
    "denied:",
    "forbidden",
];

fn contains(text: &str, any: &[&str]) -> bool {
    let text = text.to_lowercase();
    any.iter().any(|part| text.contains(part))
}

fn of_pod(pod: &Pod, warnings: &[&Warning]) -> Vec<Trouble> {
    if let Some(why) = &pod.unschedulable {
        let summary = format!("no node takes the pod {}: {}", pod.name, why.message);
        return vec![Trouble::of_pod(pod, "Unschedulable", summary, why)];
    }
    let mut found: Vec<_> = pod
        .containers
        .iter()
        .filter_map(|container| of_container(pod, container, warnings))
        .collect();
    // A pod whose volumes or network are missing says no more than ContainerCreating. Its warnings say the rest.
    let begins =
        |c: &Container| c.waiting.as_ref().is_none_or(|w| BEGINNING.contains(&w.reason.as_str()));
    let idle = pod
        .containers
        .iter()
        .all(|c| !c.ready && c.restarts == 0 && c.ended.is_none() && begins(c));
    if found.is_empty()
        && idle
        && pod.containers.iter().any(|c| c.waiting.is_some())
        && let Some(warning) =
            warnings.iter().rev().find(|warning| NO_START.contains(&warning.reason.as_str()))
    {
        let cause = if warning.reason == "FailedCreatePodSandBox" {
            "FailedCreatePodSandBox"
        } else {
            "FailedMount"
        };
        let why = Reason { reason: warning.reason.clone(), message: warning.message.clone() };
        let summary = format!("the pod {} cannot be started: {}", pod.name, why.message);
        let mut trouble = Trouble::of_pod(pod, cause, summary, &why);
        // "MountVolume.SetUp failed for volume "x" : secret "y" not found"
        if cause == "FailedMount" && contains(&why.message, &["not found", "non-existent"]) {
            trouble.class = Class::Permanent;
        }
        found.push(trouble);
    }
    found
}

const BEGINNING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
const NO_START: [&str; 3] = ["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"];

fn of_container(pod: &Pod, container: &Container, warnings: &[&Warning]) -> Option<Trouble> {
    let what = format!("the container {} of the pod {}", container.name, pod.name);
    if let Some(why) = &container.waiting {
        let (class, cause, summary) = match why.reason.as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "RegistryUnavailable"
            | "ErrImageNeverPull"
            | "ImageInspectError" => {
                let message = told_of_pull(why, container, warnings);
                let class = if why.reason == "ErrImageNeverPull" || never_pulled(&message) {
                    Class::Permanent
                } else {
                    Class::Passing
                };
                (
                    class,
                    "ImagePullBackOff",
                    format!("the image of {what} cannot be pulled: {message}"),
                )
            }
            "InvalidImageName" => (
                Class::Permanent,
                "InvalidImageName",
                format!("the image of {what} has no valid name: {}", why.message),
            ),
            "CreateContainerConfigError" => {
                let passing = contains(&why.message, &MAY_PASS)
                    || contains(&why.message, &["failed to sync"]);
                let class = if passing { Class::Passing } else { Class::Permanent };
                (
                    class,
                    "CreateContainerConfigError",
                    format!("{what} cannot be configured: {}", why.message),
                )
            }
            "CreateContainerError"
            | "RunContainerError"
            | "PostStartHookError"
            | "PreCreateHookError" => (
                Class::Passing,
                "RunContainerError",
                format!("{what} cannot be started: {}", why.message),
            ),
            "CrashLoopBackOff" => return Some(crashing(pod, container, &what)),
            // It was ended by its liveness probe or by its own end, and is about to be started again.
            _ if container.restarts > 0 => return Some(crashing(pod, container, &what)),
            _ => return None,
        };
        return Some(Trouble {
            class,
            cause,
            summary,
            ..Trouble::of_container(pod, container, why)
        });
    }
    match &container.ended {
        Some(ended) if container.init && ended.exit_code == 0 => None,
        Some(_) => Some(crashing(pod, container, &what)),
        None if container.restarts > 0 && !container.ready => Some(crashing(pod, container, &what)),
        None => None,
    }
}

/// What is known of why an image was not pulled. While Kubernetes backs off, it may say no more than that; its warnings do.
fn told_of_pull(why: &Reason, container: &Container, warnings: &[&Warning]) -> String {
    if never_pulled(&why.message) {
        return why.message.clone();
    }
    let of_pull =
        |w: &&&Warning| w.reason == "Failed" && w.message.starts_with("Failed to pull image");
    // With several containers, nothing says whose image it was.
    let alone = container.waiting.is_some() && warnings.iter().filter(of_pull).count() > 0;
    let told = warnings.iter().rev().find(of_pull).filter(|_| alone);
    told.map_or_else(|| why.message.clone(), |warning| warning.message.clone())
}

fn never_pulled(message: &str) -> bool {
    !contains(message, &MAY_PASS)
        && (contains(message, &NO_SUCH_IMAGE) || contains(message, &NO_ACCESS))
}

fn crashing(pod: &Pod, container: &Container, what: &str) -> Trouble {
    let none = Ended::default();
    let ended = container.last_end().unwrap_or(&none);
    let times = match container.restarts {
        0 => String::new(),
        1 => "; it was started again once".to_owned(),
        n => format!("; it was started again {n} times"),
    };
    let killed = ended.reason == "OOMKilled";
    let (cause, how) = if killed {
        ("OOMKilled", "was killed because it took more memory than its limit".to_owned())
    } else {
        ("CrashLoopBackOff", format!("ended with exit code {}", ended.exit_code))
    };
    let why = container
        .waiting
        .clone()
        .unwrap_or_else(|| Reason { reason: ended.reason.clone(), message: ended.message.clone() });
    // The log of a container that was started again tells of its new life.
    let log = if container.ended.is_none() && container.ended_before.is_some() {
        Log::Previous
    } else {
        Log::Current
    };
    Trouble {
        cause,
        summary: format!("{what} {how}{times}"),
        log: Some(log),
        ..Trouble::of_container(pod, container, &why)
    }
}

impl Trouble {
    fn of_pod(pod: &Pod, cause: &'static str, summary: String, why: &Reason) -> Self {
        let shown = PodDiagnosis {
            pod: pod.name.clone(),
            container: String::new(),
            reason: why.reason.clone(),
            message: why.message.clone(),
            exit_code: None,
            restarts: 0,
            log_tail: Vec::new(),
        };
        Self {
            class: Class::Passing,
            cause,
            summary,
            pod: Some(shown),
            about: pod.uid.clone(),
            log: None,
        }
    }

    fn of_container(pod: &Pod, container: &Container, why: &Reason) -> Self {
        let mut trouble = Self::of_pod(pod, "", String::new(), why);
        if let Some(shown) = &mut trouble.pod {
            shown.container.clone_from(&container.name);
            shown.restarts = container.restarts;
            shown.exit_code = container.last_end().map(|ended| ended.exit_code);
        }
        trouble
    }
}

#[cfg(test)]
mod tests;

//! Why a rollout failed: one cause, one sentence, and what shows it. Pure.

use std::time::Duration;

use events::Diagnosis;

use crate::{
    judge::Failed,
    managers::is_argocd,
    observed::{Snapshot, Warning},
    redact,
    targets::{Gitops, Target},
    trouble::Trouble,
};

/// How many warnings are told.
const MAX_EVENTS: usize = 10;

/// A diagnosis of one sentence.
pub(crate) fn simple(cause: &str, summary: impl Into<String>) -> Diagnosis {
    Diagnosis {
        cause: cause.to_owned(),
        summary: redact::message(&summary.into()),
        ..Diagnosis::default()
    }
}

/// Why the rollout will not be done.
pub(crate) fn of_failure(failed: &Failed, snapshot: &Snapshot, target: &Target) -> Diagnosis {
    match failed {
        Failed::Trouble(trouble) => of_trouble(trouble, snapshot),
        Failed::DeadlineExceeded { what, trouble } => {
            let deadline = humantime::format_duration(target.deadline);
            let summary = format!("the rollout was not done within {deadline}: {what}");
            with_trouble("DeadlineExceeded", summary, trouble.as_ref(), snapshot)
        }
        Failed::GivenUp { message, trouble } => {
            let summary = format!("Kubernetes gave the rollout up: {message}");
            with_trouble("ProgressDeadlineExceeded", summary, trouble.as_ref(), snapshot)
        }
        Failed::NoContainer => no_container(target),
        Failed::Gone => no_deployment(target),
    }
}

/// What is wrong, though it may pass.
pub(crate) fn of_trouble(trouble: &Trouble, snapshot: &Snapshot) -> Diagnosis {
    let mut pod = trouble.pod.clone();
    if let Some(pod) = &mut pod {
        pod.message = redact::message(&pod.message);
    }
    let about = snapshot.warnings.iter().filter(|warning| warning.about == trouble.about);
    let events: Vec<_> = about.map(|warning| sentence(warning)).collect();
    Diagnosis {
        cause: trouble.cause.to_owned(),
        summary: redact::message(&trouble.summary),
        pods: pod.into_iter().collect(),
        events: events[events.len().saturating_sub(MAX_EVENTS)..].to_vec(),
    }
}

fn with_trouble(
    cause: &str,
    summary: String,
    trouble: Option<&Trouble>,
    snapshot: &Snapshot,
) -> Diagnosis {
    let Some(trouble) = trouble else { return simple(cause, summary) };
    let told = of_trouble(trouble, snapshot);
    Diagnosis {
        cause: cause.to_owned(),
        summary: redact::message(&format!("{summary}; {}", trouble.summary)),
        ..told
    }
}

fn sentence(warning: &Warning) -> String {
    format!("{}: {}", warning.reason, redact::message(&warning.message))
}

/// There is no such Deployment.
pub(crate) fn no_deployment(target: &Target) -> Diagnosis {
    let Target { namespace, deployment, .. } = target;
    simple(
        "DeploymentNotFound",
        format!("there is no Deployment {deployment} in namespace {namespace}"),
    )
}

/// There is no such container.
pub(crate) fn no_container(target: &Target) -> Diagnosis {
    let Target { namespace, deployment, container, .. } = target;
    simple(
        "ContainerNotFound",
        format!(
            "the Deployment {deployment} in namespace {namespace} has no container {container}"
        ),
    )
}

/// The API server refuses what we ask of it.
pub(crate) fn refused(reason: &str, message: &str) -> Diagnosis {
    let cause = if reason.is_empty() { "Refused" } else { reason };
    simple(cause, format!("the API server refuses the change: {message}"))
}

/// Somebody set another image.
pub(crate) fn replaced(image: &str, by: Option<&str>, target: &Target) -> Diagnosis {
    let who = by.unwrap_or("somebody else");
    let container = &target.container;
    let hint = if let Some(gitops) = &target.gitops {
        format!("; {} of the branch {} may say who wants that", gitops.file, gitops.branch)
    } else if by.is_some_and(is_argocd) {
        format!(
            "; for ArgoCD to leave it, the Application needs `ignoreDifferences` with the jq path \
             `.spec.template.spec.containers[] | select(.name==\"{container}\").image`, and the sync option \
             `RespectIgnoreDifferences=true`"
        )
    } else {
        String::new()
    };
    let mut diagnosis = simple("ImageReplaced", String::new());
    diagnosis.summary = format!("{who} set the image to {image}{hint}");
    diagnosis
}

/// Somebody committed another tag after ours.
pub(crate) fn recommitted(gitops: &Gitops, tag: &str) -> Diagnosis {
    let Gitops { file, branch, .. } = gitops;
    simple(
        "ImageReplaced",
        format!("somebody else set the tag to {tag} in {file} of the branch {branch}"),
    )
}

/// The tag is not in the branch.
pub(crate) fn not_committed(cause: &str, gitops: &Gitops, told: &str) -> Diagnosis {
    let Gitops { file, branch, .. } = gitops;
    simple(cause, format!("the tag could not be set in {file} of the branch {branch}: {told}"))
}

/// `ArgoCD` has seen the commit, and leaves the image as it is.
pub(crate) fn commit_ignored(application: &str, revision: &str, image: &str) -> Diagnosis {
    let summary = format!(
        "the ArgoCD Application {application} is Synced at {revision}, and the image is still {image}; with gitops, the \
         Application must neither ignore differences of the image (`ignoreDifferences` with `RespectIgnoreDifferences=true`) \
         nor set another one itself (`source.kustomize.images`)"
    );
    Diagnosis { summary, ..simple("ApplicationNotSynced", "") }
}

/// The smoke test did not pass in time.
pub(crate) fn smoke_test_failed(timeout: Duration, told: &str) -> Diagnosis {
    let timeout = humantime::format_duration(timeout);
    simple("SmokeTestFailed", format!("the smoke test did not pass within {timeout}: {told}"))
}

/// `ArgoCD` does not agree.
pub(crate) fn argocd_disagrees(cause: &str, application: &str, told: &str) -> Diagnosis {
    simple(cause, format!("the ArgoCD Application {application} does not agree: {told}"))
}

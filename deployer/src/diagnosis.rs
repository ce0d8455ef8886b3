//! Why a rollout failed: one cause, one sentence. Pure.

use std::time::Duration;

use events::Diagnosis;

use crate::config::Target;

fn diagnosis(cause: &str, summary: String) -> Diagnosis {
    Diagnosis { cause: cause.to_owned(), summary, ..Diagnosis::default() }
}

/// Our own deadline is over.
pub(crate) fn deadline_exceeded(deadline: Duration, waited_for: &str) -> Diagnosis {
    let deadline = humantime::format_duration(deadline);
    diagnosis("DeadlineExceeded", format!("the rollout was not done within {deadline}: {waited_for}"))
}

/// Kubernetes gave up.
pub(crate) fn given_up(cause: &str, message: &str) -> Diagnosis {
    diagnosis(cause, format!("Kubernetes gave the rollout up: {message}"))
}

/// There is no such Deployment.
pub(crate) fn no_deployment(target: &Target) -> Diagnosis {
    let Target { namespace, deployment, .. } = target;
    diagnosis("DeploymentNotFound", format!("there is no Deployment {deployment} in namespace {namespace}"))
}

/// There is no such container.
pub(crate) fn no_container(target: &Target) -> Diagnosis {
    let Target { namespace, deployment, container, .. } = target;
    diagnosis(
        "ContainerNotFound",
        format!("the Deployment {deployment} in namespace {namespace} has no container {container}"),
    )
}

/// The API server refuses our write.
pub(crate) fn refused(reason: &str, message: &str) -> Diagnosis {
    let cause = if reason.is_empty() { "Refused" } else { reason };
    diagnosis(cause, format!("the API server refuses the change: {message}"))
}

/// Somebody set another image.
pub(crate) fn replaced(image: &str) -> Diagnosis {
    diagnosis("ImageReplaced", format!("somebody else set the image to {image} before the rollout was done"))
}

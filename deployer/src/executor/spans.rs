//! The spans of a rollout: one for each attempt at it, one for each step, and one for the verdict. None of them is made where
//! nobody would see it: hundreds at once would take memory for nothing.

use bus::Failure;
use events::{DeployRequested, Diagnosis, ImageReference, RolloutChanged, RolloutState};
use service::{propagation, spans};
use tracing::Span;

use crate::targets::Target;

/// One attempt: whoever goes on after a crash makes another.
pub(super) fn rollout(target: &Target, request: &DeployRequested, deliveries: u64) -> Span {
    let around = Span::current();
    if !propagation::is_recorded(&around) {
        return around;
    }
    let span = tracing::info_span!("rollout", otel.name = format_args!("roll out {}", target.name));
    let image: Option<ImageReference> = request.image.parse().ok();
    spans::note(&span, "build.id", request.build_id.to_string());
    spans::note(&span, "delivery", i64::try_from(deliveries).unwrap_or(i64::MAX));
    spans::note(&span, "k8s.namespace.name", target.namespace.clone());
    spans::note(&span, "k8s.deployment.name", target.deployment.clone());
    spans::note(&span, "k8s.container.name", target.container.clone());
    spans::note(&span, "container.image.name", target.image.to_string());
    if let Some(tag) = image.as_ref().and_then(ImageReference::tag) {
        spans::note_list(&span, "container.image.tags", vec![tag.to_owned()]);
    }
    span
}

/// What is done while a rollout is in a state.
pub(super) fn step(state: RolloutState) -> Option<Span> {
    if !propagation::is_recorded(&Span::current()) {
        return None;
    }
    let name = match state {
        // What speaks against it by now ends it there.
        RolloutState::Accepted | RolloutState::Patching => "set image",
        RolloutState::Progressing => "watch rollout",
        RolloutState::SmokeTesting => "smoke test",
        RolloutState::AwaitingArgocd => "await ArgoCD",
        RolloutState::RollingBack => "roll back",
        other => other.as_str(),
    };
    Some(tracing::info_span!("step", otel.name = name))
}

/// Notes what a step has led to.
pub(super) fn tell(
    span: Option<&Span>,
    done: &Result<(), Failure>,
    before: RolloutState,
    last: &RolloutChanged,
) {
    let Some(span) = span else { return };
    spans::note(span, "rollout.state", last.state.as_str());
    match done {
        Err(failure) if failure.is_error() => {
            spans::failed(span, failure.kind(), failure.to_string());
        }
        // A way back that fails has a diagnosis of its own.
        Ok(()) if before == RolloutState::RollingBack => {
            blame(span, last.rollback.as_ref().and_then(|back| back.diagnosis.as_ref()));
        }
        Ok(()) if last.state != before => blame(span, last.diagnosis.as_ref()),
        _ => {}
    }
}

/// The verdict, and what is told of it in the cluster.
pub(super) fn verdict(last: &RolloutChanged) -> Span {
    let around = Span::current();
    if !propagation::is_recorded(&around) {
        return around;
    }
    let span = tracing::info_span!("verdict", otel.name = "verdict");
    spans::note(&span, "rollout.state", last.state.as_str());
    blame(&span, last.diagnosis.as_ref());
    span
}

fn blame(span: &Span, diagnosis: Option<&Diagnosis>) {
    if let Some(diagnosis) = diagnosis {
        spans::failed(span, diagnosis.cause.as_str(), diagnosis.summary.clone());
    }
}

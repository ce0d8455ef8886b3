//! The spans of a rollout: one for each attempt at it, one for each step, and one for the verdict. None of them is made where
//! nobody would see it: hundreds at once would take memory for nothing.

use events::{DeployRequested, ImageReference, RolloutChanged, RolloutState};
use runtime::{bus::Failure, propagation, spans};
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
    let tag = image.as_ref().and_then(ImageReference::tag).unwrap_or_default();
    spans::note(&span, "build.id", request.build_id.to_string());
    spans::note(&span, "delivery", deliveries.to_string());
    spans::note(&span, "k8s.namespace.name", target.namespace.clone());
    spans::note(&span, "k8s.deployment.name", target.deployment.clone());
    spans::note(&span, "k8s.container.name", target.container.clone());
    spans::note(&span, "container.image.name", target.image.to_string());
    spans::note(&span, "container.image.tags", tag.to_owned());
    span
}

/// What is done while a rollout is in a state.
pub(super) fn step(state: RolloutState) -> Option<Span> {
    if !propagation::is_recorded(&Span::current()) {
        return None;
    }
    let name = match state {
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
pub(super) fn tell(span: Option<&Span>, done: &Result<(), Failure>, before: RolloutState, last: &RolloutChanged) {
    let Some(span) = span else { return };
    spans::note(span, "rollout.state", last.state.as_str());
    match done {
        Err(failure) => spans::failed(span, failure.kind(), failure.to_string()),
        Ok(()) if last.state != before && last.state != RolloutState::RolledBack => blame(span, last),
        Ok(()) => {}
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
    blame(&span, last);
    span
}

fn blame(span: &Span, last: &RolloutChanged) {
    if let Some(diagnosis) = &last.diagnosis {
        spans::failed(span, diagnosis.cause.as_str(), diagnosis.summary.clone());
    }
}

//! A build in lines for people, as scripts print them: `Accept: text/plain`. The first line is the build's state alone.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use events::{Diagnosis, RolloutState};

use super::dry_run::DryRun;
use crate::rollouts::{BuildState, Rollout};

/// Whether a client asks for lines rather than JSON.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accept.split([',', ';']).next().unwrap_or_default().trim();
    first.eq_ignore_ascii_case("text/plain")
}

/// A build and its rollouts.
pub(super) fn of_build(state: &BuildState, now: DateTime<Utc>) -> String {
    let mut text = format!("{}\n", state.overall().as_str());
    if state.rollouts.is_empty() {
        text.push_str("waits for the deployer\n");
    }
    for rollout in state.rollouts.values() {
        of_rollout(&mut text, rollout, now);
    }
    text
}

/// What each target would decide.
pub(super) fn of_dry_run(dry_run: &DryRun) -> String {
    let mut text = String::new();
    for decision in &dry_run.decisions {
        let target = decision.target.as_ref().map_or("no target", |target| target.as_str());
        let why = decision.image.as_deref().or(decision.reason.as_deref()).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{target}: would {}: {why}", decision.decision);
    }
    text
}

fn of_rollout(text: &mut String, rollout: &Rollout, now: DateTime<Utc>) {
    let last = &rollout.last;
    let target = last.target.as_ref().map_or("no target", |target| target.as_str());
    let took = |until: DateTime<Utc>| (until - last.started_at).num_seconds().max(0);
    let _ = if last.state.is_terminal() {
        let why = last.reason.as_deref().or(last.detail.as_deref()).unwrap_or(&last.image);
        writeln!(text, "{target}: {}, {} s: {why}", last.state, took(last.at))
    } else {
        let ready = last.progress.filter(|_| last.state != RolloutState::Accepted);
        let ready = ready.map_or_else(String::new, |counts| format!(", {}/{} ready", counts.ready, counts.desired));
        let detail = last.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
        writeln!(text, "{target}: {}{ready}, {} s{detail}", last.state, took(now))
    };
    if last.state.is_terminal() {
        last.diagnosis.iter().for_each(|diagnosis| of_diagnosis(text, diagnosis));
        let back = last.rollback.as_ref();
        if let Some(diagnosis) = back.and_then(|back| back.diagnosis.as_ref()) {
            let _ = writeln!(text, "  the way back failed too:");
            of_diagnosis(text, diagnosis);
        }
    }
}

fn of_diagnosis(text: &mut String, diagnosis: &Diagnosis) {
    let _ = writeln!(text, "  {}: {}", diagnosis.cause, diagnosis.summary);
    for pod in &diagnosis.pods {
        let exit = pod.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
        let _ = writeln!(
            text,
            "  pod {}, container {}: {}{exit}, {} restarts: {}",
            pod.pod, pod.container, pod.reason, pod.restarts, pod.message
        );
        for line in &pod.log_tail {
            let _ = writeln!(text, "  | {line}");
        }
    }
    for event in &diagnosis.events {
        let _ = writeln!(text, "  event: {event}");
    }
}

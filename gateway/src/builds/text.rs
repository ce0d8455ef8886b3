//! A build in lines for people, as scripts print them: `Accept: text/plain`. The first line is the build's state alone.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use events::{Diagnosis, RolloutState};

use super::dry_run::DryRun;
use crate::rollouts::{BuildState, Rollout};

/// Whether a client asks for lines rather than JSON.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
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
        let ready = ready.map_or_else(String::new, |counts| {
            format!(
                ", {}/{} updated, {}/{} ready",
                counts.updated, counts.desired, counts.ready, counts.desired
            )
        });
        let detail =
            last.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
        writeln!(text, "{target}: {}{ready}, {} s{detail}", last.state, took(now))
    };
    if last.state.is_terminal() {
        last.diagnosis
            .iter()
            .for_each(|diagnosis| of_diagnosis(text, diagnosis, last.reason.as_deref()));
        let back = last.rollback.as_ref();
        if let Some(diagnosis) = back.and_then(|back| back.diagnosis.as_ref()) {
            let _ = writeln!(text, "  the way back failed too:");
            of_diagnosis(text, diagnosis, None);
        }
    }
}

/// What has been said already is not said again.
fn of_diagnosis(text: &mut String, diagnosis: &Diagnosis, said: Option<&str>) {
    let _ = if said.is_some_and(|said| said.contains(&diagnosis.summary)) {
        writeln!(text, "  cause: {}", diagnosis.cause)
    } else {
        writeln!(text, "  cause: {}: {}", diagnosis.cause, diagnosis.summary)
    };
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

#[cfg(test)]
mod tests {
    use events::{BuildId, PodDiagnosis, Progress, RolloutChanged};

    use super::*;
    use crate::rollouts::Model;

    fn text(changes: &[RolloutChanged]) -> String {
        let mut model = Model::default();
        for change in changes {
            model.change(change.clone());
        }
        of_build(&model.find(changes[0].build_id).unwrap(), at(12))
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn change(step: u32, state: RolloutState) -> RolloutChanged {
        let id = BuildId("01980000-0000-7000-8000-000000000001".parse().unwrap());
        let first = RolloutChanged::first(
            id,
            Some("portfolio".parse().unwrap()),
            state,
            "a/b:v1-abcd".into(),
            at(0),
        );
        RolloutChanged { step, planned: Some(1), at: at(i64::from(step)), ..first }
    }

    /// Scripts rely on the first line, and read the others as they are.
    #[test]
    fn the_first_line_is_the_state_and_the_others_say_why() {
        let waits = RolloutChanged {
            detail: Some("waits for its turn".into()),
            ..change(0, RolloutState::Accepted)
        };
        assert_eq!(text(&[waits]), "pending\nportfolio: accepted, 12 s: waits for its turn\n");
        let counts = Progress { desired: 5, updated: 3, ready: 4, available: 4 };
        let runs =
            RolloutChanged { progress: Some(counts), ..change(1, RolloutState::Progressing) };
        assert_eq!(
            text(&[runs]),
            "running\nportfolio: progressing, 3/5 updated, 4/5 ready, 12 s\n"
        );
        let pod = PodDiagnosis {
            pod: "p".into(),
            container: "app".into(),
            reason: "Error".into(),
            message: "it ended".into(),
            exit_code: Some(1),
            restarts: 2,
            log_tail: vec!["panic".into()],
        };
        let diagnosis = Diagnosis {
            cause: "Crash".into(),
            summary: "it crashes".into(),
            pods: vec![pod],
            events: vec![],
        };
        let failed = RolloutChanged {
            reason: Some("it crashes; there is no image to go back to".into()),
            diagnosis: Some(diagnosis),
            ..change(4, RolloutState::Failed)
        };
        let expected = "failed\nportfolio: failed, 4 s: it crashes; there is no image to go back to\n  cause: Crash\n  \
                        pod p, container app: Error, exit code 1, 2 restarts: it ended\n  | panic\n";
        assert_eq!(text(&[failed]), expected);
    }
}

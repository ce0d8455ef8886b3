//! What was seen, as a document.

use std::{collections::BTreeMap, fmt::Write, fs, io};

use crate::{scene::Case, world::World};

/// One rollout, and what `kubectl rollout status` said of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) verdict: String,
    pub(crate) cause: String,
    /// Seconds from the write to the verdict, or to the begin of the way back.
    pub(crate) after: f64,
    pub(crate) kubectl: Option<Kubectl>,
}

/// What `kubectl rollout status` said, and so many seconds after it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    pub(crate) said: String,
    pub(crate) after: f64,
}

const HEAD: &str = "\
# Rollouts, and what is said of them

Each line is a test on a real control plane: etcd, API server, controllers and scheduler are Kubernetes' own, and KWOK plays what
pods report. `cargo xtask scenarios` runs them all and writes this table. `failure_grace` is 3 s in them, and the deadline 30 s
where nothing else is said; Kubernetes' own `progressDeadlineSeconds` is its default, 600 s. Times count from the write of
the image to the verdict, or to the begin of the way back. `kubectl rollout status` was asked at the same moment; where the
verdict is `rolled_back`, what it calls a success is the way back, without which it would still be waiting. \"Still waiting\" is where it
was left two seconds after the verdict.

| situation | verdict | cause | after | `kubectl rollout status` | after |
|---|---|---|--:|---|--:|
";

pub(crate) fn write(file: &str, cases: &[Case], world: &World) -> io::Result<()> {
    let rows = world.rows();
    fs::write(file, text(cases, &rows))
}

fn text(cases: &[Case], rows: &BTreeMap<&'static str, Row>) -> String {
    let mut text = HEAD.to_owned();
    for case in cases {
        let Some(row) = rows.get(case.name) else { continue };
        let (said, after) = match &row.kubectl {
            Some(kubectl) => (kubectl.said.as_str(), format!("{:.1} s", kubectl.after)),
            None => ("–", "–".to_owned()),
        };
        let Row { verdict, cause, .. } = row;
        let cause = if cause.is_empty() { "–" } else { cause };
        let _ = writeln!(
            text,
            "| {} | {verdict} | {cause} | {:.1} s | {said} | {after} |",
            case.title, row.after
        );
    }
    text
}

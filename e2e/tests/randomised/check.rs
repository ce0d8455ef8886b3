//! Every verdict against what truly happened.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::Value;

use crate::audit::{History, State, Time};

/// Between the deployer's last look and its word lies a write to the bus; and the machine is busy.
const LOOK_TO_WORD: TimeDelta = TimeDelta::milliseconds(1_500);

/// How the clocks of two processes on one machine may round.
const ROUNDING: TimeDelta = TimeDelta::milliseconds(5);

struct Rollout<'a> {
    build: &'a str,
    target: &'a str,
    state: &'a str,
    image: &'a str,
    back_to: Option<&'a str>,
    transitions: Vec<(&'a str, Time)>,
}

impl<'a> Rollout<'a> {
    fn of(build: &'a Value) -> Self {
        let rollout = &build["rollouts"][0];
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        let transitions = rollout["transitions"].as_array().unwrap();
        Self {
            build: text(&build["id"]),
            target: text(&rollout["target"]),
            state: text(&rollout["state"]),
            image: text(&rollout["image"]),
            back_to: rollout["rollback"]["image"].as_str(),
            transitions: transitions
                .iter()
                .map(|t| (text(&t["state"]), t["at"].as_str().unwrap().parse().unwrap()))
                .collect(),
        }
    }

    fn at(&self, state: &str) -> Option<Time> {
        self.transitions.iter().find(|(of, _)| *of == state).map(|(_, at)| *at)
    }

    fn end(&self) -> Time {
        self.transitions.last().unwrap().1
    }
}

/// How many of each verdict there were, and what they are held against.
pub(crate) fn print_summary(builds: &[Value], history: &History) {
    let mut verdicts = BTreeMap::new();
    for build in builds {
        *verdicts.entry(Rollout::of(build).state.to_owned()).or_insert(0) += 1;
    }
    println!("{} verdicts: {verdicts:?}", builds.len());
    let (states, by_deployers, by_others) = history.counts();
    println!(
        "{states} states of Deployments; images set {by_deployers} times by deployers, {by_others} times by others"
    );
}

/// What is wrong.
pub(crate) fn all(builds: &[Value], history: &History) -> Vec<String> {
    let rollouts: Vec<_> = builds.iter().map(Rollout::of).collect();
    let mut wrong: Vec<_> =
        rollouts.iter().filter_map(|rollout| verdict(rollout, history).err()).collect();
    let mut targets: Vec<_> = rollouts.iter().map(|rollout| rollout.target).collect();
    targets.sort_unstable();
    targets.dedup();
    for target in targets {
        let of_target: Vec<_> =
            rollouts.iter().filter(|rollout| rollout.target == target).collect();
        wrong.extend(writes(target, &of_target, history));
    }
    wrong
}

/// Whether a verdict agrees with what was in force when the deployer looked last.
fn verdict(rollout: &Rollout<'_>, history: &History) -> Result<(), String> {
    let looked = |word: Time| history.during(rollout.target, word - LOOK_TO_WORD, word + ROUNDING);
    let ours = |state: &&State| state.image == rollout.image;
    let seen = looked(rollout.end());
    let complain = |what: &str| {
        Err(format!(
            "{} of {} is {}: {what}; {:?}",
            rollout.build, rollout.target, rollout.state, seen
        ))
    };
    match rollout.state {
        "succeeded" if !seen.iter().any(|state| ours(state) && state.complete) => {
            complain("it was not complete")
        }
        "reverted" if seen.iter().all(&ours) => complain("its image stood"),
        "rolled_back" => {
            let decided = rollout.at("rolling_back").ok_or("no way back")?;
            let then = looked(decided);
            if then.iter().all(|state| ours(state) && state.complete) {
                return complain(&format!(
                    "it was complete when it was given up at {decided}, {then:?}"
                ));
            }
            let back =
                |state: &&State| Some(state.image.as_str()) == rollout.back_to && state.complete;
            if seen.iter().any(back) {
                Ok(())
            } else {
                complain("what it went back to was not complete")
            }
        }
        "failed" if seen.iter().all(|state| ours(state) && state.complete) => {
            complain("it was complete")
        }
        "rejected" | "superseded"
            if history
                .of(rollout.target)
                .iter()
                .any(|state| state.user == "deployer" && state.sets_image && ours(&state)) =>
        {
            complain("its image was set")
        }
        "succeeded" | "reverted" | "failed" | "rejected" | "superseded" => Ok(()),
        _ => complain("that is no verdict"),
    }
}

/// Whether each write of a deployer belongs to a rollout that was under way then, and there is no second one.
fn writes(target: &str, rollouts: &[&Rollout<'_>], history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeMap::new();
    for state in
        history.of(target).iter().filter(|state| state.user == "deployer" && state.sets_image)
    {
        let within = |from: Option<Time>, to: Time| {
            from.is_some_and(|from| from - ROUNDING <= state.answered)
                && state.asked <= to + ROUNDING
        };
        let forward =
            rollouts.iter().find(|r| r.image == state.image && within(r.at("patching"), r.end()));
        let back = || {
            rollouts
                .iter()
                .find(|r| r.back_to == Some(&*state.image) && within(r.at("rolling_back"), r.end()))
        };
        match forward
            .map(|rollout| (rollout, "forward"))
            .or_else(|| back().map(|rollout| (rollout, "back")))
        {
            Some((rollout, way)) => {
                if let Some(before) = used.insert((rollout.build, way), state.answered) {
                    wrong.push(format!(
                        "{} of {target} was written {way} twice: {before} and {}",
                        rollout.build, state.answered
                    ));
                }
            }
            None => wrong.push(format!(
                "nobody's write of {} to {target} at {}",
                state.image, state.answered
            )),
        }
    }
    wrong
}

//! What truly happened, as the API server wrote it down.

use std::{collections::BTreeMap, path::Path};

use chrono::{DateTime, Utc};
use testbed::audit;

pub(crate) type Time = DateTime<Utc>;

/// Every state of every Deployment, in order.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<String, Vec<State>>);

/// A state of a Deployment, from a write on.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// When the request came, and when it was answered: it was in force from somewhere between.
    pub(crate) asked: Time,
    pub(crate) answered: Time,
    version: u64,
    /// Who wrote.
    pub(crate) user: String,
    pub(crate) image: String,
    /// Whether the image is another one than before.
    pub(crate) sets_image: bool,
    /// By the rules of `kubectl rollout status`.
    pub(crate) complete: bool,
}

impl History {
    /// Reads an audit log.
    pub(crate) fn read(path: &Path) -> Self {
        let mut all = Self::default();
        for request in audit::read(path).unwrap() {
            if request.object["kind"] == "Deployment" {
                all.0.entry(request.name.clone()).or_default().push(State::of(&request));
            }
        }
        for states in all.0.values_mut() {
            states.sort_by_key(|state| state.version);
            // A write that changes nothing gives the same version again.
            states.dedup_by_key(|state| state.version);
            let mut before = String::new();
            for state in states {
                state.sets_image = state.image != before;
                before.clone_from(&state.image);
            }
        }
        all
    }

    pub(crate) fn of(&self, deployment: &str) -> &[State] {
        self.0.get(deployment).map_or(&[], Vec::as_slice)
    }

    /// How many states there were, and how many of them came from setting an image: by deployers, and by others.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let all = || self.0.values().flatten();
        let sets = |by_deployer: bool| {
            all().filter(|s| s.sets_image && (s.user == "deployer") == by_deployer).count()
        };
        (all().count(), sets(true), sets(false))
    }

    /// The states that may have been in force at some moment of an interval.
    pub(crate) fn during(&self, deployment: &str, from: Time, to: Time) -> Vec<&State> {
        let states = self.of(deployment);
        let ends = states.iter().skip(1).map(|next| Some(next.answered)).chain([None]);
        let in_force = states
            .iter()
            .zip(ends)
            .filter(|(state, end)| state.asked <= to && end.is_none_or(|end| end >= from));
        in_force.map(|(state, _)| state).collect()
    }
}

impl State {
    fn of(request: &audit::Request) -> Self {
        let object = &request.object;
        let containers = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        Self {
            asked: request.asked,
            answered: request.answered,
            version: object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap(),
            user: request.user.clone(),
            image: containers[0]["image"].as_str().unwrap().to_owned(),
            sets_image: false,
            complete: audit::is_complete(object),
        }
    }
}

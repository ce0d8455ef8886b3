//! What is known of a target from the rollouts before: the version to go back to, the versions that failed, and what waits.
//! Pure; it is told every change of every rollout, in order.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, SecondsFormat, Utc};
use events::{
    BuildId, BuildTag, Freeze, FreezeWindow, ImageReference, RolloutChanged, RolloutState,
    TargetChange, TargetChanged, TargetName, TargetState,
};

use crate::freeze::open_window;

/// How many versions are remembered that failed. Older ones are refused by their age.
const MAX_QUARANTINED: usize = 100;

/// How many versions are remembered that succeeded, for the way back.
const MAX_GOOD: usize = 20;

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct Standings(BTreeMap<TargetName, Standing>);

/// One target.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What became of its rollouts.
    pub rollouts: Rollouts,
    /// How the deployer sees it; none if no deployer has told.
    pub state: Option<TargetState>,
    /// What a person decided. It may be over; see [`Standing::frozen`].
    pub freeze: Option<Freeze>,
    /// When it was decided.
    pub frozen_at: Option<DateTime<Utc>>,
}

/// What became of a target's rollouts.
#[derive(Clone, Debug, Default)]
pub struct Rollouts {
    /// The images that succeeded, each version once; the last one is the last.
    good: VecDeque<String>,
    /// Versions that failed and have not succeeded since, and the builds that they failed with; the oldest first.
    quarantined: VecDeque<(String, BuildId)>,
    /// The rollouts that have no verdict yet.
    open: BTreeMap<BuildId, Open>,
}

/// A rollout that has no verdict yet.
#[derive(Clone, Debug)]
pub struct Open {
    /// Where it stands.
    pub state: RolloutState,
    /// The image to deploy.
    pub image: String,
    /// Since when it is under way; while it waits, since when it does.
    pub since: DateTime<Utc>,
}

/// An image that somebody wants on a target.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The build that it is of: it is not in its own way.
    pub build: BuildId,
    /// The image.
    pub image: &'a str,
    /// What runs there now.
    pub running: Option<&'a str>,
    /// The target's hours in which nothing is deployed.
    pub freeze_windows: &'a [FreezeWindow],
    /// A person wants it although it failed before, or is older.
    pub forced: bool,
    /// It is the way back.
    pub rollback: bool,
    /// When it is asked.
    pub now: DateTime<Utc>,
}

impl Standings {
    /// A rollout changed.
    pub fn apply(&mut self, change: &RolloutChanged) {
        if let Some(target) = &change.target {
            self.0.entry(target.clone()).or_default().rollouts.apply(change);
        }
    }

    /// Something changed about a target.
    pub fn apply_target(&mut self, changed: TargetChanged) {
        let standing = self.0.entry(changed.target).or_default();
        match changed.change {
            TargetChange::Frozen(freeze) => {
                (standing.freeze, standing.frozen_at) = (Some(freeze), Some(changed.at));
            }
            TargetChange::Resumed { .. } => (standing.freeze, standing.frozen_at) = (None, None),
            TargetChange::Observed(state) => standing.state = Some(state),
        }
    }

    /// The log of rollouts is told anew.
    pub fn forget_rollouts(&mut self) {
        for standing in self.0.values_mut() {
            standing.rollouts = Rollouts::default();
        }
    }

    /// The log of targets is told anew.
    pub fn forget_targets(&mut self) {
        for standing in self.0.values_mut() {
            (standing.state, standing.freeze, standing.frozen_at) = (None, None, None);
        }
    }

    /// What is known of one target.
    pub fn of(&self, target: &TargetName) -> Option<&Standing> {
        self.0.get(target)
    }

    /// All targets of which anything is known.
    pub fn iter(&self) -> impl Iterator<Item = (&TargetName, &Standing)> {
        self.0.iter()
    }
}

impl Standing {
    /// The freeze that a person decided, if it still holds.
    pub fn frozen(&self, now: DateTime<Utc>) -> Option<&Freeze> {
        self.freeze.as_ref().filter(|freeze| freeze.until.is_none_or(|until| now < until))
    }

    /// What speaks against an image.
    pub fn objection(&self, question: &Question<'_>) -> Option<String> {
        let frozen = || self.freeze_objection(question.freeze_windows, question.now);
        let of_rollouts = || self.rollouts.objection(question);
        match question {
            Question { rollback: true, .. } => None,
            Question { forced: true, .. } => frozen(),
            _ => frozen().or_else(of_rollouts),
        }
    }

    fn freeze_objection(&self, windows: &[FreezeWindow], now: DateTime<Utc>) -> Option<String> {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        if let Some(freeze) = self.frozen(now) {
            let until = freeze.until.map_or_else(
                || "until somebody resumes it".to_owned(),
                |at| format!("until {}", time(at)),
            );
            return Some(format!(
                "the target is frozen by {} {until}: {}",
                freeze.by, freeze.reason
            ));
        }
        let open = open_window(windows, now)?;
        Some(format!("the target is frozen until {}, as each week at this time", time(open.until)))
    }
}

impl Rollouts {
    fn apply(&mut self, change: &RolloutChanged) {
        if change.state.is_terminal() {
            self.open.remove(&change.build_id);
        } else {
            let begun =
                self.open.get(&change.build_id).filter(|open| open.state != RolloutState::Accepted);
            let since = begun.map_or(change.at, |open| open.since);
            let open = Open { state: change.state, image: change.image.clone(), since };
            self.open.insert(change.build_id, open);
        }
        let version = version_of(&change.image);
        if change.state == RolloutState::Succeeded {
            self.quarantined.retain(|(failed, _)| *failed != version);
            self.good.retain(|good| version_of(good) != version);
            self.good.push_back(change.image.clone());
            if self.good.len() > MAX_GOOD {
                self.good.pop_front();
            }
        }
        if change.quarantines() {
            self.quarantined.retain(|(failed, _)| *failed != version);
            self.quarantined.push_back((version, change.build_id));
            if self.quarantined.len() > MAX_QUARANTINED {
                self.quarantined.pop_front();
            }
        }
    }

    fn objection(&self, question: &Question<'_>) -> Option<String> {
        let image = question.image;
        let version = version_of(image);
        if let Some((_, build)) = self.quarantined.iter().find(|(failed, _)| *failed == version) {
            return Some(format!(
                "the version failed before, with build {build}: it is in quarantine until a person forces it"
            ));
        }
        let number = number_of(image)?;
        if let Some(running) = question.running
            && number_of(running).is_some_and(|newer| newer > number)
            && same_repository(running, image)
        {
            return Some(format!("the build is older than what runs: {running}"));
        }
        let waiting = self.open.iter().filter(|(build, _)| **build != question.build);
        let newer = waiting
            .map(|(_, open)| &open.image)
            .find(|other| number_of(other).is_some_and(|newer| newer > number));
        newer.map(|newer| format!("the build is older than one that is about to run: {newer}"))
    }

    /// The image to go back to from `failed`: the one that last succeeded, or else the one that stood there before.
    pub fn way_back(&self, failed: &str, previous: Option<&str>) -> Option<String> {
        let candidates = self.good.back().map(String::as_str).into_iter().chain(previous);
        self.first_other(candidates, failed)
    }

    /// The image that a person goes back to from `running`: the last other one that succeeded.
    pub fn last_good_before(&self, running: &str) -> Option<String> {
        self.first_other(self.good.iter().rev().map(String::as_str), running)
    }

    fn first_other<'a>(
        &self,
        mut candidates: impl Iterator<Item = &'a str>,
        left: &str,
    ) -> Option<String> {
        let bad =
            |image: &str| self.quarantined.iter().any(|(failed, _)| *failed == version_of(image));
        let left = version_of(left);
        candidates.find(|image| version_of(image) != left && !bad(image)).map(str::to_owned)
    }

    /// Versions that are not deployed again unless a person forces them, and the builds that they failed with; the newest
    /// first.
    pub fn quarantined(&self) -> impl Iterator<Item = (&str, BuildId)> {
        self.quarantined.iter().rev().map(|(version, build)| (version.as_str(), *build))
    }

    /// The builds that have no verdict yet, the oldest first.
    pub fn open(&self) -> impl Iterator<Item = (BuildId, &Open)> {
        self.open.iter().map(|(build, open)| (*build, open))
    }
}

/// An image in the one form in which it is compared.
fn version_of(image: &str) -> String {
    image.parse::<ImageReference>().map_or_else(|_| image.to_owned(), |image| image.to_string())
}

fn number_of(image: &str) -> Option<u64> {
    let image: ImageReference = image.parse().ok()?;
    Some(image.tag()?.parse::<BuildTag>().ok()?.number)
}

fn same_repository(a: &str, b: &str) -> bool {
    match (a.parse::<ImageReference>(), b.parse::<ImageReference>()) {
        (Ok(a), Ok(b)) => a.same_repository(&b),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

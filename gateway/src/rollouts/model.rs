//! The model behind the answers. Pure: events in, states out.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use chrono::{DateTime, Utc};
use events::{BuildFinished, BuildId, RolloutChanged, RolloutState, TargetName};
use planning::{Standing, Standings};
use tokio::sync::watch;

/// How many builds are kept, the newest ones. Older ones are read from the bus when somebody asks.
const MAX_BUILDS: usize = 5_000;

/// All builds that are kept, whose ids sort by age, and all targets.
#[derive(Debug, Default)]
pub(crate) struct Model {
    builds: BTreeMap<BuildId, watch::Sender<Arc<BuildState>>>,
    /// What is known of the targets.
    pub(crate) standings: Standings,
    /// The last verdict of each target.
    pub(crate) last_verdicts: BTreeMap<TargetName, RolloutChanged>,
}

/// One build and its rollouts.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildState {
    /// As CI said it.
    pub(crate) build: Option<BuildFinished>,
    /// By target; without one where no target takes the build.
    pub(crate) rollouts: BTreeMap<Option<TargetName>, Rollout>,
    /// How many rollouts there will be, once the planner has said it.
    planned: Option<u32>,
}

/// One rollout: how it stands, and how it came to that.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) last: RolloutChanged,
    pub(crate) transitions: Vec<Transition>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) state: RolloutState,
    pub(crate) at: DateTime<Utc>,
    pub(crate) detail: Option<String>,
}

/// How a build as a whole stands; of the terminal ones, a worse one is greater.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = BuildState)]
pub(crate) enum Overall {
    Pending,
    Running,
    Succeeded,
    Superseded,
    Rejected,
    Failed,
}

impl Overall {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Superseded,
        Self::Rejected,
        Self::Failed,
    ];

    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Superseded => "superseded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl Model {
    /// CI said that a build is done.
    pub(crate) fn build(&mut self, build: BuildFinished) {
        self.update(build.id, |state| state.build = Some(build));
    }

    /// A rollout changed.
    pub(crate) fn change(&mut self, change: RolloutChanged) {
        self.standings.apply(&change);
        if let Some(target) = change.target.as_ref().filter(|_| change.state.is_verdict()) {
            self.last_verdicts.insert(target.clone(), change.clone());
        }
        self.update(change.build_id, |state| state.change(change));
    }

    /// A build to read and to wait for.
    pub(crate) fn watch(&self, id: BuildId) -> Option<watch::Receiver<Arc<BuildState>>> {
        self.builds.get(&id).map(watch::Sender::subscribe)
    }

    /// The builds that are kept, the newest first.
    pub(crate) fn newest_first(
        &self,
        before: Option<BuildId>,
    ) -> impl Iterator<Item = (BuildId, Arc<BuildState>)> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let builds = self.builds.range((Bound::Unbounded, end)).rev();
        builds.map(|(id, state)| (*id, state.borrow().clone()))
    }

    /// A build, if it is kept.
    pub(crate) fn find(&self, id: BuildId) -> Option<Arc<BuildState>> {
        self.builds.get(&id).map(|state| state.borrow().clone())
    }

    /// A build and its rollout on a target, if they are kept.
    pub(crate) fn rollout(
        &self,
        id: BuildId,
        target: &TargetName,
    ) -> Option<(Arc<BuildState>, Rollout)> {
        let build = self.find(id)?;
        let rollout = build.rollouts.get(&Some(target.clone()))?.clone();
        Some((build, rollout))
    }

    /// What is known of a target, and its last verdict.
    pub(crate) fn target(&self, name: &TargetName) -> Option<(Standing, Option<RolloutChanged>)> {
        let standing = self.standings.of(name)?.clone();
        Some((standing, self.last_verdicts.get(name).cloned()))
    }

    /// The newest build whose rollout of an image succeeded.
    pub(crate) fn build_of(&self, image: &str) -> Option<BuildFinished> {
        let succeeded = |state: &BuildState| {
            let last = |rollout: &Rollout| {
                rollout.last.image == image && rollout.last.state == RolloutState::Succeeded
            };
            state.rollouts.values().any(last)
        };
        self.newest_first(None)
            .find(|(_, state)| succeeded(state))
            .and_then(|(_, state)| state.build.clone())
    }

    fn update(&mut self, id: BuildId, change: impl FnOnce(&mut BuildState)) {
        let sender = self.builds.entry(id).or_default();
        sender.send_modify(|state| change(Arc::make_mut(state)));
        while self.builds.len() > MAX_BUILDS {
            self.builds.pop_first();
        }
    }
}

impl BuildState {
    fn change(&mut self, mut change: RolloutChanged) {
        // The planner's change carries the build, so that the log of rollouts alone tells all.
        if let Some(build) = change.build.take() {
            self.build.get_or_insert(build);
        }
        self.planned = change.planned.take().or(self.planned);
        let transition =
            Transition { state: change.state, at: change.at, detail: change.detail.clone() };
        match self.rollouts.get_mut(&change.target) {
            None => {
                let target = change.target.clone();
                self.rollouts
                    .insert(target, Rollout { last: change, transitions: vec![transition] });
            }
            // Delivered twice, or nothing comes after a verdict.
            Some(known) if change.step <= known.last.step || known.last.state.is_terminal() => {}
            Some(known) => {
                if known.last.state != change.state {
                    known.transitions.push(transition);
                }
                known.last = change;
            }
        }
    }

    /// Names the build, once anything is known of it.
    pub(crate) fn id(&self) -> Option<BuildId> {
        let of_rollout = || self.rollouts.values().next().map(|rollout| rollout.last.build_id);
        self.build.as_ref().map(|build| build.id).or_else(of_rollout)
    }

    /// Whether nothing more will happen: the planner has judged all targets, and each rollout has ended.
    pub(crate) fn is_terminal(&self) -> bool {
        let complete = self.planned.is_some_and(|planned| self.rollouts.len() >= planned as usize);
        complete && self.rollouts.values().all(|rollout| rollout.last.state.is_terminal())
    }

    /// The build as a whole: it has succeeded when all its rollouts have, and the worst of them names the rest.
    pub(crate) fn overall(&self) -> Overall {
        let states: Vec<_> = self.rollouts.values().map(|rollout| rollout.last.state).collect();
        if !self.is_terminal() {
            let begun = states.iter().any(|state| *state != RolloutState::Accepted);
            return if begun { Overall::Running } else { Overall::Pending };
        }
        states.into_iter().map(outcome).max().unwrap_or(Overall::Succeeded)
    }
}

fn outcome(state: RolloutState) -> Overall {
    match state {
        RolloutState::Succeeded => Overall::Succeeded,
        RolloutState::Rejected => Overall::Rejected,
        RolloutState::Superseded => Overall::Superseded,
        _ => Overall::Failed,
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn id() -> BuildId {
        "01980000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn change(target: Option<&str>, step: u32, state: RolloutState) -> RolloutChanged {
        let target = target.map(|name| name.parse().unwrap());
        let first = RolloutChanged::first(
            id(),
            target,
            state,
            "a/b:v1-abcd".to_owned(),
            DateTime::UNIX_EPOCH,
        );
        RolloutChanged { step, at: DateTime::from_timestamp(i64::from(step), 0).unwrap(), ..first }
    }

    fn planned(count: u32, change: RolloutChanged) -> RolloutChanged {
        RolloutChanged { planned: Some(count), ..change }
    }

    fn state(changes: &[RolloutChanged]) -> BuildState {
        let mut model = Model::default();
        for change in changes {
            model.change(change.clone());
        }
        let state = model.watch(id()).unwrap().borrow().clone();
        (*state).clone()
    }

    #[test]
    fn the_whole_is_as_its_worst_part() {
        use RolloutState as S;
        let (a, b) = (Some("a"), Some("b"));
        for (changes, overall, terminal) in [
            (vec![], Overall::Pending, false),
            (vec![planned(1, change(a, 0, S::Accepted))], Overall::Pending, false),
            (
                vec![planned(1, change(a, 0, S::Accepted)), change(a, 1, S::Patching)],
                Overall::Running,
                false,
            ),
            (vec![planned(1, change(None, 0, S::Rejected))], Overall::Rejected, true),
            // The planner has told of one target of two: nothing is over yet.
            (vec![planned(2, change(a, 0, S::Rejected))], Overall::Running, false),
            (
                vec![planned(2, change(a, 0, S::Rejected)), planned(2, change(b, 0, S::Succeeded))],
                Overall::Rejected,
                true,
            ),
            (
                vec![planned(2, change(a, 0, S::Failed)), planned(2, change(b, 0, S::Succeeded))],
                Overall::Failed,
                true,
            ),
            (
                vec![planned(2, change(a, 0, S::Failed)), planned(2, change(b, 0, S::Accepted))],
                Overall::Running,
                false,
            ),
            (vec![planned(1, change(a, 0, S::RolledBack))], Overall::Failed, true),
            (vec![planned(1, change(a, 0, S::Reverted))], Overall::Failed, true),
            (vec![planned(1, change(a, 0, S::Superseded))], Overall::Superseded, true),
            (vec![planned(1, change(a, 0, S::Succeeded))], Overall::Succeeded, true),
        ] {
            let state = if changes.is_empty() { BuildState::default() } else { state(&changes) };
            assert_eq!((state.overall(), state.is_terminal()), (overall, terminal), "{changes:?}");
        }
    }

    #[test]
    fn what_is_delivered_twice_counts_once_and_a_verdict_stands() {
        use RolloutState as S;
        let a = Some("a");
        let state = state(&[
            planned(1, change(a, 0, S::Accepted)),
            change(a, 1, S::Progressing),
            change(a, 2, S::Progressing),
            change(a, 1, S::Patching),
            change(a, 3, S::Succeeded),
            change(a, 4, S::Failed),
        ]);
        let rollout = state.rollouts.values().next().unwrap();
        assert_eq!(rollout.last.state, S::Succeeded);
        let states: Vec<_> =
            rollout.transitions.iter().map(|transition| transition.state).collect();
        assert_eq!(states, [S::Accepted, S::Progressing, S::Succeeded]);
    }

    #[test]
    fn only_the_newest_builds_are_kept() {
        let mut model = Model::default();
        for number in 0..=MAX_BUILDS as u128 {
            let mut of_build = change(Some("a"), 0, RolloutState::Accepted);
            of_build.build_id = BuildId(uuid::Uuid::from_u128(number));
            model.change(of_build);
        }
        assert_eq!(model.builds.len(), MAX_BUILDS);
        assert!(model.watch(BuildId(uuid::Uuid::from_u128(0))).is_none());
    }
}

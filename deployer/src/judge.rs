//! Judges a rollout over time: how it stands, and whether what is wrong has lasted too long. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    observed::{ReplicaSet, Snapshot},
    progress::{Expectation, Observation, Phase, observe},
    trouble::{Class, Trouble, troubles, unready},
};

/// How long something that does not pass by itself has to show. Secrets and the Deployments that need them are often applied
/// together, and quotas free up while old pods end.
pub(crate) const PERMANENT_PATIENCE: Duration = Duration::from_secs(2);

/// Judges one rollout, from one observation to the next.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) expected: Expectation,
    /// When the rollout fails if it is not done by then.
    pub(crate) deadline: DateTime<Utc>,
    /// How long a cause that may pass is borne while nothing goes on.
    pub(crate) grace: Duration,
    /// Since when something has been wrong while nothing went on.
    wrong_since: Option<DateTime<Utc>>,
    /// Since when nothing has been wrong again.
    well_since: Option<DateTime<Utc>>,
    /// Something that does not pass, and since when.
    permanent: Option<(Trouble, DateTime<Utc>)>,
    /// The furthest that it has come since it is judged here.
    furthest: Option<(i32, i32)>,
}

/// How a rollout stands at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Not done yet.
    Waiting {
        /// What is waited for, in words.
        what: String,
        /// What is wrong meanwhile, and since when.
        trouble: Option<(Trouble, DateTime<Utc>)>,
        /// When it has to be judged anew, though nothing may have changed.
        until: DateTime<Utc>,
    },
    /// The new version, and nothing else, serves.
    Complete,
    /// It will not be.
    Failed(Failed),
    /// Somebody set another image.
    Replaced { image: String },
}

/// Why a rollout will not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Something is wrong that does not pass, or has not passed in time.
    Trouble(Trouble),
    /// The time is up; what was waited for, and what is wrong.
    DeadlineExceeded { what: String, trouble: Option<Trouble> },
    /// Kubernetes gave up, with this message; what is wrong.
    GivenUp { message: String, trouble: Option<Trouble> },
    /// The container is gone.
    NoContainer,
    /// The Deployment is gone.
    Gone,
}

impl Failed {
    /// What shows it, if anything does.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Trouble(trouble) => Some(trouble),
            Self::DeadlineExceeded { trouble, .. } | Self::GivenUp { trouble, .. } => trouble.as_ref(),
            Self::NoContainer | Self::Gone => None,
        }
    }
}

impl Judge {
    pub(crate) fn new(
        expected: Expectation,
        deadline: DateTime<Utc>,
        grace: Duration,
        trouble_since: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            expected,
            deadline,
            grace,
            wrong_since: trouble_since,
            well_since: None,
            permanent: None,
            furthest: None,
        }
    }

    /// Judges what is seen now.
    pub(crate) fn judge(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) -> Judgement {
        let Observation { phase, advance, .. } = observe(snapshot, &self.expected);
        // From before our write, pods tell nothing of it.
        let unknown = phase == Phase::Unknown;
        let what = match phase {
            Phase::Complete => return Judgement::Complete,
            Phase::Replaced { image } => return Judgement::Replaced { image },
            Phase::NoContainer => return Judgement::Failed(Failed::NoContainer),
            Phase::Gone => return Judgement::Failed(Failed::Gone),
            Phase::GivenUp(message) => {
                let trouble = self.worst(snapshot).or_else(|| self.unready(snapshot));
                return Judgement::Failed(Failed::GivenUp { message, trouble });
            }
            Phase::Unknown => "nothing has been heard of the Deployment since the change".to_owned(),
            Phase::Waiting(what) => what,
        };
        let worst = if unknown { None } else { self.worst(snapshot) };
        let before = self.furthest.unwrap_or(advance);
        let goes_on = advance.0 > before.0 || advance.1 > before.1;
        self.furthest = Some((before.0.max(advance.0), before.1.max(advance.1)));
        let worst = worst.map(|worst| self.recall(worst));
        self.remember(worst.as_ref(), goes_on, now);
        let patience = |trouble: &Trouble| match trouble.class {
            Class::Permanent => (self.permanent.as_ref().map(|(_, since)| *since), PERMANENT_PATIENCE),
            Class::Passing => (self.wrong_since, self.grace),
        };
        let mut until = self.deadline;
        if let Some(trouble) = &worst {
            let (since, patience) = patience(trouble);
            let borne_until = since.unwrap_or(now) + patience;
            if borne_until <= now {
                return Judgement::Failed(Failed::Trouble(trouble.clone()));
            }
            until = until.min(borne_until);
        }
        if now >= self.deadline {
            let trouble = worst.or_else(|| if unknown { None } else { self.unready(snapshot) });
            return Judgement::Failed(Failed::DeadlineExceeded { what, trouble });
        }
        let since = self.wrong_since.unwrap_or(now);
        Judgement::Waiting { what, trouble: worst.map(|trouble| (trouble, since)), until }
    }

    /// Since when something has been wrong while nothing went on.
    pub(crate) fn trouble_since(&self) -> Option<DateTime<Utc>> {
        self.wrong_since
    }

    fn worst(&self, snapshot: &Snapshot) -> Option<Trouble> {
        troubles(snapshot, self.current(snapshot)?).into_iter().next()
    }

    fn unready(&self, snapshot: &Snapshot) -> Option<Trouble> {
        unready(snapshot, self.current(snapshot)?)
    }

    fn current<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a ReplicaSet> {
        snapshot.current(&self.expected.container, |image| self.expected.is_ours(image))
    }

    /// What was known to be there for good is so although less is said of it later: `ImagePullBackOff` follows the
    /// `ErrImagePull` that said why.
    fn recall(&self, worst: Trouble) -> Trouble {
        match &self.permanent {
            Some((known, _))
                if worst.class == Class::Passing && known.about == worst.about && known.cause == worst.cause =>
            {
                known.clone()
            }
            _ => worst,
        }
    }

    /// A trouble begins anew when the rollout went on, or when nothing was wrong for as long as it is borne: a container that
    /// crashes runs in between.
    fn remember(&mut self, worst: Option<&Trouble>, goes_on: bool, now: DateTime<Utc>) {
        if goes_on || self.well_since.is_some_and(|since| since + self.grace <= now) {
            self.wrong_since = None;
            self.permanent = None;
        }
        let Some(trouble) = worst else {
            self.well_since = self.well_since.or(Some(now));
            self.permanent = None;
            return;
        };
        self.well_since = None;
        self.wrong_since = self.wrong_since.or(Some(now));
        self.permanent = match (trouble.class, self.permanent.take()) {
            (Class::Permanent, Some((_, since))) => Some((trouble.clone(), since)),
            (Class::Permanent, None) => Some((trouble.clone(), now)),
            (Class::Passing, _) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::apps::v1::Deployment;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::observed::{Container, Pod, Reason};

    const OURS: &str = "a/b:v2-abcd";
    const THEIRS: &str = "a/b:v1-abcd";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)
    }

    fn judge() -> Judge {
        let expected =
            Expectation { container: "app".to_owned(), image: OURS.to_owned(), generation: 2, since: Some(at(0)) };
        Judge::new(expected, at(600), Duration::from_secs(30), None)
    }

    #[derive(Clone, Debug)]
    struct World {
        generation: i64,
        observed: i64,
        image: &'static str,
        desired: i32,
        counts: (i32, i32, i32),
        new: Vec<Pod>,
        old: Vec<Pod>,
        available: i32,
    }

    impl World {
        /// Our write is seen, one of two new pods is made and not ready, two old ones serve.
        fn begun() -> Self {
            let (new, old) = (vec![pod(false, None)], vec![pod(true, None), pod(true, None)]);
            Self { generation: 2, observed: 2, image: OURS, desired: 2, counts: (3, 1, 2), new, old, available: 0 }
        }

        fn with(trouble: &str) -> Self {
            Self { new: vec![pod(false, Some(trouble))], ..Self::begun() }
        }

        fn snapshot(&self) -> Snapshot {
            let (total, updated, available) = self.counts;
            let deployment: Deployment = serde_json::from_value(json!({
                "metadata": {"uid": "d", "generation": self.generation},
                "spec": {"replicas": self.desired, "selector": {}, "template": {"spec": {"containers": [
                    {"name": "app", "image": self.image}]}}},
                "status": {"observedGeneration": self.observed, "replicas": total, "updatedReplicas": updated,
                    "readyReplicas": available, "availableReplicas": available},
            }))
            .unwrap();
            let set = |uid: &str, image: &str, revision| {
                Arc::new(ReplicaSet {
                    uid: uid.to_owned(),
                    owner: "d".to_owned(),
                    images: vec![("app".to_owned(), image.to_owned())],
                    revision,
                    available: self.available,
                    ..ReplicaSet::default()
                })
            };
            let of = |pods: &[Pod], owner: &str| {
                pods.iter().map(|pod| Arc::new(Pod { owner: owner.to_owned(), ..pod.clone() })).collect::<Vec<_>>()
            };
            Snapshot {
                replica_sets: vec![set("old", THEIRS, 1), set("new", OURS, 2)],
                pods: [of(&self.old, "old"), of(&self.new, "new")].concat(),
                pods_known: true,
                ..Snapshot::default().with(Some(Arc::new(deployment)))
            }
        }
    }

    fn pod(ready: bool, waiting: Option<&str>) -> Pod {
        let waiting = waiting.map(|reason| {
            let message = if reason == "ErrImagePull" { "not found" } else { "" };
            Reason { reason: reason.to_owned(), message: message.to_owned() }
        });
        let container = Container { name: "app".to_owned(), ready, waiting, ..Container::default() };
        Pod { ready, containers: vec![container], ..Pod::default() }
    }

    /// What is seen at which second, and in short what is judged then.
    fn timeline(judge: &mut Judge, seen: &[(i64, &World)]) -> Vec<String> {
        let short = |judgement| match judgement {
            Judgement::Waiting { trouble: None, .. } => "waiting".to_owned(),
            Judgement::Waiting { trouble: Some((trouble, since)), .. } => {
                format!("{} since {}", trouble.cause, since.timestamp())
            }
            Judgement::Complete => "complete".to_owned(),
            Judgement::Failed(Failed::Trouble(trouble)) => format!("failed: {}", trouble.cause),
            Judgement::Failed(Failed::DeadlineExceeded { .. }) => "failed: deadline".to_owned(),
            Judgement::Failed(other) => format!("failed: {other:?}"),
            Judgement::Replaced { image } => format!("replaced: {image}"),
        };
        seen.iter().map(|(second, world)| short(judge.judge(&world.snapshot(), at(*second)))).collect()
    }

    #[test]
    fn what_does_not_pass_fails_within_seconds() {
        let wrong = World::with("ErrImagePull");
        assert_eq!(
            timeline(&mut judge(), &[(1, &World::begun()), (2, &wrong), (3, &wrong), (4, &wrong)]),
            ["waiting", "ImagePullBackOff since 2", "ImagePullBackOff since 2", "failed: ImagePullBackOff"]
        );
    }

    #[test]
    fn what_does_not_pass_is_remembered_when_less_is_said() {
        let (wrong, less) = (World::with("ErrImagePull"), World::with("ImagePullBackOff"));
        assert_eq!(
            timeline(&mut judge(), &[(2, &wrong), (3, &less), (4, &less)]),
            ["ImagePullBackOff since 2", "ImagePullBackOff since 2", "failed: ImagePullBackOff"]
        );
        assert_eq!(timeline(&mut judge(), &[(3, &less), (30, &less)])[1], "ImagePullBackOff since 3");
    }

    #[test]
    fn what_may_pass_fails_when_it_has_lasted_for_the_grace() {
        let wrong = World::with("CrashLoopBackOff");
        assert_eq!(
            timeline(&mut judge(), &[(2, &wrong), (31, &wrong), (32, &wrong)]),
            ["CrashLoopBackOff since 2", "CrashLoopBackOff since 2", "failed: CrashLoopBackOff"]
        );
        // Nothing changes, so it is looked at again only when its time is over, and a little later.
        assert_eq!(timeline(&mut judge(), &[(2, &wrong), (33, &wrong)])[1], "failed: CrashLoopBackOff");
        // It runs in between, and crashes again.
        let seen = [(2, &wrong), (10, &World::begun()), (20, &wrong), (32, &wrong)];
        assert_eq!(timeline(&mut judge(), &seen)[2..], ["CrashLoopBackOff since 2", "failed: CrashLoopBackOff"]);
    }

    #[test]
    fn what_has_passed_is_forgotten() {
        let wrong = World::with("CrashLoopBackOff");
        // Well for as long as the grace.
        let seen = [(2, &wrong), (3, &World::begun()), (40, &World::begun()), (41, &wrong), (50, &wrong)];
        assert_eq!(timeline(&mut judge(), &seen)[3..], ["CrashLoopBackOff since 41", "CrashLoopBackOff since 41"]);
        // Another pod is available meanwhile.
        let further = World { available: 1, ..wrong.clone() };
        let seen = [(2, &wrong), (20, &further), (33, &further), (50, &further)];
        assert_eq!(
            timeline(&mut judge(), &seen)[1..],
            ["CrashLoopBackOff since 20", "CrashLoopBackOff since 20", "failed: CrashLoopBackOff"]
        );
    }

    #[test]
    fn whoever_takes_over_counts_on() {
        let wrong = World::with("CrashLoopBackOff");
        let mut judge = Judge { wrong_since: Some(at(2)), ..judge() };
        assert_eq!(timeline(&mut judge, &[(31, &wrong)]), ["CrashLoopBackOff since 2"]);
        assert_eq!(timeline(&mut judge, &[(32, &wrong)]), ["failed: CrashLoopBackOff"]);
    }

    #[test]
    fn the_deadline_holds_and_whoever_is_done_by_then_has_succeeded() {
        let world = World::begun();
        assert_eq!(timeline(&mut judge(), &[(599, &world), (600, &world)]), ["waiting", "failed: deadline"]);
        let (new, old) = (vec![pod(true, None), pod(true, None)], Vec::new());
        let done = World { counts: (2, 2, 2), available: 2, new, old, ..world };
        assert_eq!(timeline(&mut judge(), &[(900, &done)]), ["complete"]);
    }

    fn a_pod() -> impl Strategy<Value = Pod> {
        const REASONS: [&str; 3] = ["ErrImagePull", "CrashLoopBackOff", "ContainerCreating"];
        let waiting = prop::option::of(prop::sample::select(&REASONS[..]));
        (any::<bool>(), waiting, prop::bool::weighted(0.2))
            .prop_map(|(ready, waiting, ending)| Pod { ending, ..pod(ready && waiting.is_none(), waiting) })
    }

    prop_compose! {
        fn a_world()(
            generation in 1..4_i64, observed in 1..4_i64, ours in prop::bool::weighted(0.8), desired in 0..4_i32,
            counts in (0..4_i32, 0..4_i32, 0..4_i32), new in prop::collection::vec(a_pod(), 0..4),
            old in prop::collection::vec(a_pod(), 0..3), available in 0..4_i32,
        ) -> World {
            let image = if ours { OURS } else { THEIRS };
            World { generation, observed, image, desired, counts, new, old, available }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever is seen in whatever order, it is never called done while an old pod serves, an image is not ours, or too
        /// few pods of ours are ready; and what is not done fails by the deadline.
        #[test]
        fn nothing_is_called_done_that_is_not(worlds in prop::collection::vec((a_world(), 0..50_i64), 1..8)) {
            let mut judge = judge();
            let mut now = 0;
            for (world, step) in worlds {
                now += step;
                match judge.judge(&world.snapshot(), at(now)) {
                    Judgement::Complete => {
                        prop_assert_eq!(world.image, OURS);
                        prop_assert!(world.observed >= world.generation && world.generation >= 2);
                        prop_assert!(world.old.iter().all(|pod| pod.ending), "an old pod serves");
                        let ready = world.new.iter().filter(|pod| pod.ready && !pod.ending).count();
                        prop_assert!(i32::try_from(ready).unwrap() >= world.desired);
                        prop_assert!(world.counts.1 >= world.desired && world.counts.2 >= world.counts.1);
                    }
                    Judgement::Waiting { until, .. } => {
                        prop_assert!(until > at(now), "it would be judged again without end");
                        prop_assert!(now < 600);
                    }
                    Judgement::Replaced { image } => prop_assert_eq!(image, THEIRS),
                    Judgement::Failed(Failed::DeadlineExceeded { .. }) => prop_assert!(now >= 600),
                    Judgement::Failed(_) => prop_assert_eq!(world.image, OURS),
                }
            }
        }
    }
}

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
    let expected = Expectation {
        container: "app".to_owned(),
        image: OURS.to_owned(),
        generation: 2,
        since: Some(at(0)),
    };
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
        Self {
            generation: 2,
            observed: 2,
            image: OURS,
            desired: 2,
            counts: (3, 1, 2),
            new,
            old,
            available: 0,
        }
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
            pods.iter()
                .map(|pod| Arc::new(Pod { owner: owner.to_owned(), ..pod.clone() }))
                .collect::<Vec<_>>()
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
        [
            "waiting",
            "ImagePullBackOff since 2",
            "ImagePullBackOff since 2",
            "failed: ImagePullBackOff"
        ]
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
    assert_eq!(
        timeline(&mut judge(), &seen)[2..],
        ["CrashLoopBackOff since 2", "failed: CrashLoopBackOff"]
    );
}

#[test]
fn what_has_passed_is_forgotten() {
    let wrong = World::with("CrashLoopBackOff");
    // Well for as long as the grace.
    let seen =
        [(2, &wrong), (3, &World::begun()), (40, &World::begun()), (41, &wrong), (50, &wrong)];
    assert_eq!(
        timeline(&mut judge(), &seen)[3..],
        ["CrashLoopBackOff since 41", "CrashLoopBackOff since 41"]
    );
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
    assert_eq!(
        timeline(&mut judge(), &[(599, &world), (600, &world)]),
        ["waiting", "failed: deadline"]
    );
    let (new, old) = (vec![pod(true, None), pod(true, None)], Vec::new());
    let done = World { counts: (2, 2, 2), available: 2, new, old, ..world };
    assert_eq!(timeline(&mut judge(), &[(900, &done)]), ["complete"]);
}

fn a_pod() -> impl Strategy<Value = Pod> {
    const REASONS: [&str; 3] = ["ErrImagePull", "CrashLoopBackOff", "ContainerCreating"];
    let waiting = prop::option::of(prop::sample::select(&REASONS[..]));
    (any::<bool>(), waiting, prop::bool::weighted(0.2)).prop_map(|(ready, waiting, ending)| Pod {
        ending,
        ..pod(ready && waiting.is_none(), waiting)
    })
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

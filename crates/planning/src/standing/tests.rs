use chrono::DateTime;

use super::*;

struct Told(Standings, Vec<BuildId>);

impl Told {
    fn new() -> Self {
        Self(Standings::default(), (0..10).map(|_| BuildId::new()).collect())
    }

    /// Build number `build` of an image is in this state now.
    fn tell(&mut self, build: usize, image: &str, state: RolloutState, was_set: bool) {
        let mut change = RolloutChanged::first(
            self.1[build],
            Some("a".parse().unwrap()),
            state,
            image.to_owned(),
            DateTime::UNIX_EPOCH,
        );
        change.generation = was_set.then_some(1);
        self.0.apply(&change);
    }

    fn standing(&self) -> Standing {
        self.0.of(&"a".parse().unwrap()).cloned().unwrap_or_default()
    }

    fn rollouts(&self) -> Rollouts {
        self.standing().rollouts
    }

    fn target(&mut self, change: TargetChange) {
        self.0.apply_target(TargetChanged::new("a".parse().unwrap(), change, DateTime::UNIX_EPOCH));
    }

    fn asked<'a>(
        &self,
        build: usize,
        image: &'a str,
        running: &'a str,
        also: impl FnOnce(&mut Question<'a>),
    ) -> String {
        let mut question = Question {
            build: self.1[build],
            image,
            running: Some(running),
            freeze_windows: &[],
            forced: false,
            rollback: false,
            now: DateTime::UNIX_EPOCH,
        };
        also(&mut question);
        self.standing().objection(&question).unwrap_or_default()
    }

    fn objection(&self, build: usize, image: &str, running: &str) -> String {
        self.asked(build, image, running, |_| {})
    }
}

#[test]
fn a_version_that_failed_is_refused_until_it_succeeds() {
    let mut told = Told::new();
    told.tell(0, "x/y:v2-abcd", RolloutState::RolledBack, true);
    let objection = told.objection(1, "docker.io/x/y:v2-abcd", "x/y:v1-abcd");
    assert!(
        objection.starts_with(&format!("the version failed before, with build {}", told.1[0])),
        "{objection}"
    );
    assert_eq!(told.objection(1, "x/y:v2-abce", "x/y:v1-abcd"), "");
    assert!(told.0.of(&"b".parse().unwrap()).is_none());
    assert_eq!(told.rollouts().quarantined().next(), Some(("docker.io/x/y:v2-abcd", told.1[0])));
    assert_eq!(told.asked(1, "x/y:v2-abcd", "x/y:v1-abcd", |question| question.forced = true), "");
    told.tell(1, "x/y:v2-abcd", RolloutState::Succeeded, true);
    assert_eq!(told.objection(2, "x/y:v2-abcd", "x/y:v2-abcd"), "");
    // It was never set: nothing is known of it.
    told.tell(2, "x/y:v3-abcd", RolloutState::Failed, false);
    told.tell(3, "x/y:v4-abcd", RolloutState::Reverted, true);
    assert_eq!(told.objection(4, "x/y:v3-abcd", "x/y:v2-abcd"), "");
    assert_eq!(told.objection(4, "x/y:v4-abcd", "x/y:v2-abcd"), "");
}

#[test]
fn an_older_build_is_refused() {
    let mut told = Told::new();
    assert_eq!(
        told.objection(0, "x/y:v2-abcd", "x/y:v10-abcd"),
        "the build is older than what runs: x/y:v10-abcd"
    );
    for (image, running) in [
        ("x/y:v2-abcd", "x/y:v2-ffff"),
        ("x/y:v2-abcd", "x/y:latest"),
        ("x/y:v2-abcd", "other/y:v10-abcd"),
        ("x/y:v2-abcd", "?"),
    ] {
        assert_eq!(told.objection(0, image, running), "", "{image} {running}");
    }
    told.tell(1, "x/y:v5-abcd", RolloutState::Accepted, false);
    let expected = "the build is older than one that is about to run: x/y:v5-abcd";
    assert_eq!(told.objection(0, "x/y:v4-abcd", "x/y:v1-abcd"), expected);
    assert_eq!(told.objection(1, "x/y:v5-abcd", "x/y:v1-abcd"), "", "it is not in its own way");
    told.tell(1, "x/y:v5-abcd", RolloutState::Superseded, false);
    assert_eq!(told.objection(0, "x/y:v4-abcd", "x/y:v1-abcd"), "");
}

#[test]
fn the_way_back_leads_to_what_is_not_known_to_be_bad() {
    let mut told = Told::new();
    let back = |told: &Told, failed, previous| told.rollouts().way_back(failed, previous);
    assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v1-abcd"));
    assert_eq!(back(&told, "x/y:v3-abcd", Some("docker.io/x/y:v3-abcd")), None);
    assert_eq!(back(&told, "x/y:v3-abcd", None), None);
    told.tell(0, "x/y:v2-abcd", RolloutState::Succeeded, true);
    assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v2-abcd"));
    assert_eq!(back(&told, "x/y:v2-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v1-abcd"));
    told.tell(1, "x/y:v2-abcd", RolloutState::Failed, true);
    told.tell(2, "x/y:v1-abcd", RolloutState::Failed, true);
    assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")), None);
}

#[test]
fn a_person_goes_back_to_the_last_other_one_that_was_good() {
    let mut told = Told::new();
    let back = |told: &Told, running| told.rollouts().last_good_before(running);
    assert_eq!(back(&told, "x/y:v1-abcd"), None);
    for (build, image) in ["x/y:v1-abcd", "x/y:v2-abcd", "x/y:v3-abcd"].into_iter().enumerate() {
        told.tell(build, image, RolloutState::Succeeded, true);
    }
    assert_eq!(back(&told, "x/y:v3-abcd").as_deref(), Some("x/y:v2-abcd"));
    assert_eq!(back(&told, "x/y:v9-abcd").as_deref(), Some("x/y:v3-abcd"));
    told.tell(4, "x/y:v2-abcd", RolloutState::Failed, true);
    assert_eq!(back(&told, "x/y:v3-abcd").as_deref(), Some("x/y:v1-abcd"));
    told.tell(5, "x/y:v1-abcd", RolloutState::Succeeded, true);
    assert_eq!(back(&told, "x/y:v1-abcd").as_deref(), Some("x/y:v3-abcd"));
}

#[test]
fn nothing_but_the_way_back_is_deployed_to_a_frozen_target() {
    let mut told = Told::new();
    let at = |second| DateTime::from_timestamp(second, 0).unwrap();
    let freeze = Freeze { by: "ana".to_owned(), reason: "sale".to_owned(), until: Some(at(100)) };
    told.target(TargetChange::Frozen(freeze.clone()));
    let asked = |told: &Told, second, forced, rollback| {
        told.asked(0, "x/y:v2-abcd", "x/y:v1-abcd", |question| {
            (question.now, question.forced, question.rollback) = (at(second), forced, rollback);
        })
    };
    let expected = "the target is frozen by ana until 1970-01-01T00:01:40Z: sale";
    assert_eq!(asked(&told, 99, false, false), expected);
    assert_eq!(asked(&told, 99, true, false), expected, "who forces it has to resume first");
    assert_eq!(asked(&told, 99, true, true), "");
    assert_eq!(asked(&told, 100, false, false), "");
    told.target(TargetChange::Frozen(Freeze { until: None, ..freeze }));
    assert_eq!(
        asked(&told, 1_000_000, false, false),
        "the target is frozen by ana until somebody resumes it: sale"
    );
    told.target(TargetChange::Resumed { by: "ana".to_owned() });
    assert_eq!(asked(&told, 0, false, false), "");
    let window = FreezeWindow {
        days: events::Day::ALL.to_vec(),
        from: "00:00".parse().unwrap(),
        to: "12:00".parse().unwrap(),
        zone: "UTC".to_owned(),
    };
    let windows = [window];
    let weekly =
        told.asked(0, "x/y:v2-abcd", "x/y:v1-abcd", |question| question.freeze_windows = &windows);
    assert_eq!(
        weekly,
        "the target is frozen until 1970-01-01T12:00:00Z, as each week at this time"
    );
}

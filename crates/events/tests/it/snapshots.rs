//! A changed snapshot is a break of the wire: add a version, do not accept the change.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use events::{
    BuildFinished, BuildId, BuildStatus, Callers, ClockTime, Contact, ContactGroup, ContactId, Day,
    DeployRequested, Diagnosis, Event, Forced, Freeze, FreezeWindow, KeyState, KeyUsed,
    PodDiagnosis, Progress, Rollback, RolloutChanged, RolloutState, TargetChange, TargetChanged,
    TargetName, TargetState, V1, Visitors,
};
use insta::assert_json_snapshot;

const ID: &str = "01980000-0000-7000-8000-000000000001";

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000 + second, 123_000_000).unwrap()
}

fn rolled_back() -> RolloutChanged {
    let back = Rollback {
        image: "mastereflex123/portfolio:v41-1234abc".to_owned(),
        deadline_at: at(700),
        generation: Some(8),
        set_at: Some(at(60)),
        diagnosis: Some(Diagnosis { cause: "DeadlineExceeded".to_owned(), ..Diagnosis::default() }),
    };
    RolloutChanged {
        state: RolloutState::RolledBack,
        set_at: Some(at(2)),
        trouble_since: Some(at(30)),
        rollback: Some(back),
        ..failed()
    }
}

fn build_id() -> BuildId {
    ID.parse().unwrap()
}

fn build() -> BuildFinished {
    BuildFinished {
        v: V1,
        id: build_id(),
        job: "folder/portfolio".parse().unwrap(),
        number: 42,
        status: BuildStatus::Success,
        image: "mastereflex123/portfolio:v42-abc1234".to_owned(),
        digest: Some(format!("sha256:{}", "0a".repeat(32)).parse().unwrap()),
        commit: Some("abc1234def".to_owned()),
        branch: Some("main".to_owned()),
        url: Some("http://jenkins.example/job/portfolio/42/".to_owned()),
        forced: None,
        target: None,
        trace_id: None,
        received_at: at(0),
    }
}

fn accepted() -> RolloutChanged {
    let (image, target) =
        ("mastereflex123/portfolio:v42-abc1234".to_owned(), "portfolio".parse().unwrap());
    RolloutChanged {
        detail: Some("waits for its turn".to_owned()),
        build: Some(build()),
        planned: Some(1),
        ..RolloutChanged::first(build_id(), Some(target), RolloutState::Accepted, image, at(1))
    }
}

fn failed() -> RolloutChanged {
    let pod = PodDiagnosis {
        pod: "app-5d4f-x2x".to_owned(),
        container: "app".to_owned(),
        reason: "CrashLoopBackOff".to_owned(),
        message: "back-off 10s restarting failed container".to_owned(),
        exit_code: Some(1),
        restarts: 3,
        log_tail: vec!["panic".to_owned()],
    };
    RolloutChanged {
        detail: Some("the new version does not start".to_owned()),
        reason: Some("container app of pod app-5d4f-x2x crashes".to_owned()),
        previous_image: Some("mastereflex123/portfolio:v41-1234abc".to_owned()),
        deadline_at: Some(at(600)),
        generation: Some(7),
        progress: Some(Progress { desired: 2, updated: 1, ready: 1, available: 1 }),
        diagnosis: Some(Diagnosis {
            cause: "CrashLoopBackOff".to_owned(),
            summary: "container app of pod app-5d4f-x2x crashes with exit code 1".to_owned(),
            pods: vec![pod],
            events: vec!["BackOff: restarting failed container".to_owned()],
        }),
        ..accepted().next(RolloutState::Failed, at(9))
    }
}

/// Freezes the JSON, and checks that it reads back as what was written.
macro_rules! frozen {
    ($name:literal, $event:expr, $type:ty) => {{
        let event: $type = $event;
        assert_json_snapshot!($name, event);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<$type>(&text).unwrap(), event);
    }};
}

#[test]
fn contact_group() {
    let contact = Contact {
        id: ContactId(ID.parse().unwrap()),
        name: "Ada Lovelace".to_owned(),
        email: "ada@example.org".to_owned(),
        subject: Some("The engine".to_owned()),
        message: "Hello.\nIt computes.".to_owned(),
        received_at: at(0),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    let group = ContactGroup::from(vec![contact]);
    assert_eq!(group.subject(), "contacts.submitted");
    frozen!("contact_group", group, ContactGroup);
}

/// Version 1 is no longer written, and is read for as long as a message of it may be on a bus.
#[test]
fn contact_submitted_version_1() {
    let snapshot = include_str!("snapshots/it__snapshots__contact_submitted.snap");
    let (_, json) = snapshot.rsplit_once("---\n").unwrap();
    let group: ContactGroup = serde_json::from_str(json).unwrap();
    assert_eq!(group.contacts[0].name, "Ada Lovelace");
    assert_eq!(group.contacts[0].subject.as_deref(), Some("The engine"));
}

#[test]
fn build_finished() {
    assert_eq!(
        (build().subject(), build().message_id()),
        ("pipeline.build.folder%2Fportfolio".to_owned(), ID.to_owned())
    );
    let forced = Forced {
        by: "ana".to_owned(),
        reason: "the newer one is broken".to_owned(),
        rollback: false,
    };
    frozen!("build_forced", BuildFinished { forced: Some(forced), ..build() }, BuildFinished);
    let back =
        Forced { by: "ana".to_owned(), reason: "v42 loses orders".to_owned(), rollback: true };
    let back =
        BuildFinished { forced: Some(back), target: Some("portfolio".parse().unwrap()), ..build() };
    frozen!("build_rollback", back, BuildFinished);
    frozen!("build_finished", build(), BuildFinished);
}

#[test]
fn deploy_requested() {
    let request = DeployRequested {
        v: V1,
        build_id: build_id(),
        target: "portfolio".parse().unwrap(),
        image: "mastereflex123/portfolio:v42-abc1234".to_owned(),
        forced: false,
        rollback: false,
        requested_at: at(1),
    };
    assert_eq!(
        (request.subject(), request.message_id()),
        ("deploy.portfolio".to_owned(), format!("{ID}.portfolio"))
    );
    frozen!("deploy_requested", request.clone(), DeployRequested);
    frozen!(
        "deploy_rollback",
        DeployRequested { forced: true, rollback: true, ..request },
        DeployRequested
    );
}

#[test]
fn rollout_changed() {
    assert_eq!(accepted().subject(), format!("rollout.portfolio.{ID}"));
    assert_eq!(failed().message_id(), format!("rollout.portfolio.{ID}.1"));
    assert_eq!(RolloutChanged { target: None, ..accepted() }.subject(), format!("rollout._.{ID}"));
    frozen!("rollout_accepted", accepted(), RolloutChanged);
    frozen!("rollout_failed", failed(), RolloutChanged);
    frozen!("rollout_rolled_back", rolled_back(), RolloutChanged);
}

#[test]
fn key_used() {
    let used = KeyUsed {
        v: V1,
        key: "0a".repeat(32),
        fingerprint: "0b".repeat(32),
        id: ID.parse().unwrap(),
        received_at: at(0),
        state: KeyState::InProgress,
        at: at(1),
        holder: PhantomData::<Callers>,
    };
    let hash = "0a".repeat(32);
    assert_eq!(used.subject(), format!("idempotency.caller.{hash}"));
    assert_eq!(KeyUsed::<Visitors>::subject_of(&hash), format!("idempotency.visitor.{hash}"));
    frozen!("key_used", used, KeyUsed<Callers>);
}

#[test]
fn another_version_is_not_read_as_this_one() {
    let mut value = serde_json::to_value(build()).unwrap();
    value["v"] = 2.into();
    let error = serde_json::from_value::<BuildFinished>(value).unwrap_err().to_string();
    assert!(error.contains("payload version 2 is unknown"), "{error}");
}

#[test]
fn target_changed() {
    let change = |change| TargetChanged {
        id: ID.parse().unwrap(),
        ..TargetChanged::new(target(), change, at(3))
    };
    let freeze = Freeze {
        by: "ana".to_owned(),
        reason: "the shop is open".to_owned(),
        until: Some(at(3_600)),
    };
    let frozen = change(TargetChange::Frozen(freeze.clone()));
    assert_eq!(
        (frozen.subject(), frozen.message_id()),
        ("target.portfolio.freeze".to_owned(), ID.to_owned())
    );
    frozen!("target_frozen", frozen, TargetChanged);
    frozen!(
        "target_frozen_for_good",
        change(TargetChange::Frozen(Freeze { until: None, ..freeze })),
        TargetChanged
    );
    frozen!(
        "target_resumed",
        change(TargetChange::Resumed { by: "ana".to_owned() }),
        TargetChanged
    );
    let window = FreezeWindow {
        days: vec![Day::Fri, Day::Sat],
        from: "16:00".parse().unwrap(),
        to: ClockTime::END,
        zone: "Europe/Berlin".to_owned(),
    };
    let state = TargetState {
        image: "docker.io/mastereflex123/portfolio".to_owned(),
        namespace: "oriyan-portfolio".to_owned(),
        deployment: "oriyan-portfolio-app".to_owned(),
        container: "app".to_owned(),
        freeze_windows: vec![window],
        running: Some("mastereflex123/portfolio:v42-abc1234".to_owned()),
        progress: Some(Progress { desired: 2, updated: 2, ready: 2, available: 2 }),
    };
    let observed = change(TargetChange::Observed(state));
    assert_eq!(observed.subject(), "target.portfolio.state");
    frozen!("target_observed", observed, TargetChanged);
}

fn target() -> TargetName {
    "portfolio".parse().unwrap()
}

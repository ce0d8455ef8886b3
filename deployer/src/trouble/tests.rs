use serde_json::{Value, json};

use super::*;

fn set() -> ReplicaSet {
    ReplicaSet { name: "app-5d9".to_owned(), uid: "set".to_owned(), ..ReplicaSet::default() }
}

fn pod(status: &Value) -> Pod {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-5d9", "uid": "set", "controller": true}]);
    let object = json!({"metadata": {"name": "app-5d9-x", "uid": "pod", "ownerReferences": owner}, "status": status});
    Pod::of(&serde_json::from_value(object).unwrap())
}

/// The only trouble of a pod with this status: class and cause.
fn of_status(status: &Value, warnings: &[(&str, &str)]) -> Option<Trouble> {
    let warnings = warnings.iter().map(|(reason, message)| {
        Arc::new(Warning {
            key: String::new(),
            about: "pod".to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
            at: None,
        })
    });
    let snapshot = Snapshot {
        pods: vec![Arc::new(pod(status))],
        warnings: warnings.collect(),
        ..Snapshot::default()
    };
    let found = troubles(&snapshot, &set());
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next()
}

fn container(state: &Value, restarts: i32, last: &Value) -> Value {
    json!({"containerStatuses": [{"name": "app", "image": "a/b", "imageID": "", "ready": false, "restartCount": restarts,
        "state": state, "lastState": last}]})
}

fn waiting(reason: &str, message: &str) -> Value {
    container(&json!({"waiting": {"reason": reason, "message": message}}), 0, &json!({}))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_does_not_pass_is_told_from_what_may() {
    use Class::{Passing, Permanent};
    let ended =
        |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    for (status, warnings, expected) in [
        (waiting("ContainerCreating", ""), &[][..], None),
        (json!({}), &[], None),
        (
            waiting(
                "ErrImagePull",
                "rpc error: code = NotFound desc = failed to resolve reference: docker.io/a/b:v2: not found",
            ),
            &[],
            Some((Permanent, "ImagePullBackOff")),
        ),
        (
            waiting("ErrImagePull", "pull access denied, repository does not exist"),
            &[],
            Some((Permanent, "ImagePullBackOff")),
        ),
        (waiting("ErrImagePull", "401 Unauthorized"), &[], Some((Permanent, "ImagePullBackOff"))),
        (
            waiting("ErrImagePull", "dial tcp: lookup registry: no such host"),
            &[],
            Some((Passing, "ImagePullBackOff")),
        ),
        (
            waiting("ErrImagePull", "429 toomanyrequests: access denied for a while"),
            &[],
            Some((Passing, "ImagePullBackOff")),
        ),
        (
            waiting("ImagePullBackOff", "Back-off pulling image \"a/b:v2\""),
            &[],
            Some((Passing, "ImagePullBackOff")),
        ),
        (
            waiting("ImagePullBackOff", "Back-off pulling image \"a/b:v2\""),
            &[
                ("Failed", "Failed to pull image \"a/b:v2\": manifest unknown"),
                ("Failed", "Error: ErrImagePull"),
            ],
            Some((Permanent, "ImagePullBackOff")),
        ),
        (
            waiting("InvalidImageName", "couldn't parse image name"),
            &[],
            Some((Permanent, "InvalidImageName")),
        ),
        (
            waiting("CreateContainerConfigError", "secret \"app\" not found"),
            &[],
            Some((Permanent, "CreateContainerConfigError")),
        ),
        (
            waiting("CreateContainerConfigError", "failed to sync configmap cache: timed out"),
            &[],
            Some((Passing, "CreateContainerConfigError")),
        ),
        (
            waiting("RunContainerError", "exec: not found"),
            &[],
            Some((Passing, "RunContainerError")),
        ),
        (
            container(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), 3, &ended("Error", 1)),
            &[],
            Some((Passing, "CrashLoopBackOff")),
        ),
        (
            container(
                &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                3,
                &ended("OOMKilled", 137),
            ),
            &[],
            Some((Passing, "OOMKilled")),
        ),
        (container(&ended("Error", 2), 0, &json!({})), &[], Some((Passing, "CrashLoopBackOff"))),
        (container(&running, 2, &ended("Error", 1)), &[], Some((Passing, "CrashLoopBackOff"))),
        (container(&running, 0, &json!({})), &[], None),
        (
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
            &[],
            Some((Passing, "Unschedulable")),
        ),
        (
            waiting("ContainerCreating", ""),
            &[(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found",
            )],
            Some((Permanent, "FailedMount")),
        ),
        (
            waiting("ContainerCreating", ""),
            &[("FailedMount", "Unable to attach or mount volumes: timed out")],
            Some((Passing, "FailedMount")),
        ),
        (waiting("ContainerCreating", ""), &[("Unhealthy", "Readiness probe failed")], None),
        (json!({"phase": "Failed", "reason": "Evicted"}), &[], None),
    ] {
        let found = of_status(&status, warnings).map(|trouble| (trouble.class, trouble.cause));
        assert_eq!(found, expected, "{status} {warnings:?}");
    }
}

#[test]
fn a_crash_is_told_with_its_code_its_restarts_and_the_right_log() {
    let ended = json!({"terminated": {"reason": "Error", "exitCode": 101}});
    let crashed = of_status(
        &container(
            &json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}),
            3,
            &ended,
        ),
        &[],
    );
    let crashed = crashed.unwrap();
    let expected = "the container app of the pod app-5d9-x ended with exit code 101; it was started again 3 times";
    assert_eq!((crashed.summary.as_str(), crashed.log), (expected, Some(Log::Previous)));
    let shown = crashed.pod.unwrap();
    assert_eq!(
        (shown.exit_code, shown.restarts, shown.reason.as_str()),
        (Some(101), 3, "CrashLoopBackOff")
    );
    let first = of_status(&container(&ended, 0, &json!({})), &[]).unwrap();
    assert_eq!(first.log, Some(Log::Current));
}

#[test]
fn a_refusal_to_create_pods_lasts_unless_it_is_a_matter_of_time() {
    let refused = |message: &str, old_pod_ends: bool| {
        let refusal =
            Some(Reason { reason: "FailedCreate".to_owned(), message: message.to_owned() });
        let old = Pod { owner: "old".to_owned(), ending: true, ..Pod::default() };
        let pods = if old_pod_ends { vec![Arc::new(old)] } else { Vec::new() };
        let snapshot = Snapshot { pods, ..Snapshot::default() };
        troubles(&snapshot, &ReplicaSet { refusal, ..set() })[0].class
    };
    for (message, old_pod_ends, expected) in [
        ("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1", false, Class::Permanent),
        ("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1", true, Class::Passing),
        (
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"",
            true,
            Class::Permanent,
        ),
        ("admission webhook \"w\" denied the request: no", false, Class::Permanent),
        (
            "Internal error occurred: failed calling webhook \"w\": connection refused",
            false,
            Class::Passing,
        ),
    ] {
        assert_eq!(refused(message, old_pod_ends), expected, "{message}");
    }
}

#[test]
fn what_does_not_pass_comes_first_and_other_pods_do_not_count() {
    let mut unschedulable = pod(
        &json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}),
    );
    let denied = pod(&waiting("ErrImagePull", "not found"));
    let mut of_old = denied.clone();
    of_old.owner = "old".to_owned();
    let mut ending = denied.clone();
    ending.ending = true;
    unschedulable.name = "first".to_owned();
    let pods = [of_old, ending, unschedulable, denied].into_iter().map(Arc::new).collect();
    let found = troubles(&Snapshot { pods, ..Snapshot::default() }, &set());
    assert_eq!(
        found.iter().map(|trouble| trouble.cause).collect::<Vec<_>>(),
        ["ImagePullBackOff", "Unschedulable"]
    );
}

#[test]
fn pods_that_fail_again_and_again_are_a_trouble() {
    let failed =
        || Arc::new(pod(&json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no room"})));
    let found = |n| {
        troubles(
            &Snapshot { pods: (0..n).map(|_| failed()).collect(), ..Snapshot::default() },
            &set(),
        )
    };
    assert!(found(2).is_empty());
    assert_eq!(found(3)[0].cause, "PodFailed");
}

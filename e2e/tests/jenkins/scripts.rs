//! The scripts by themselves: clean, and helpful to whoever calls them by hand.

use std::{fs, path::PathBuf, process::Command};

use testbed::{find_tool, workspace_folder};

/// Everything in `ci` that can be run.
fn scripts() -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace_folder().join("ci")).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "{paths:?}");
    paths
}

#[test]
fn shellcheck_is_silent() {
    let mut shellcheck = Command::new(find_tool("jenkins/bin/shellcheck").unwrap());
    shellcheck
        .args(["--external-sources", "ci/lib.sh"])
        .args(scripts())
        .current_dir(workspace_folder());
    shellcheck.args(["e2e/tests/jenkins/stand_ins/docker", "e2e/tests/jenkins/stand_ins/kubelet"]);
    shellcheck.args([
        "e2e/tests/manifests/stand_ins/kubectl",
        "k8s/make-secrets",
        "nats/make-passwords",
        "nats/make-certificates",
    ]);
    let output = shellcheck.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn each_says_how_to_call_it_and_what_is_wrong() {
    for script in scripts() {
        let name = script.file_name().unwrap().to_str().unwrap().to_owned();
        let call = |argument: &str| Command::new(&script).arg(argument).output().unwrap();
        let help = call("--help");
        assert!(help.status.success(), "{name}");
        assert!(
            String::from_utf8_lossy(&help.stdout).starts_with(&format!("Usage: ci/{name}")),
            "{name}"
        );
        let wrong = call("--wrong");
        assert_eq!(wrong.status.code(), Some(64), "{name}");
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(
            said.starts_with(&format!("{name}: ")) && said.contains("--wrong"),
            "{name}: {said}"
        );
    }
}

#[test]
fn only_tags_that_name_a_build_pass() {
    let script = workspace_folder().join("ci/check-image");
    for (image, passes) in [
        ("mastereflex123/portfolio:v42-abc1234", true),
        ("localhost:5000/a/b:v0-abcd", true),
        ("a/b:v42-abc1234@sha256:0000", true),
        ("a/b", false),
        ("localhost:5000/a/b", false),
        ("a/b:latest", false),
        ("a/b:v042-abc1234", false),
        ("a/b:v42-abc", false),
        ("a/b:v42-ABC1234", false),
        ("a/b:v42", false),
    ] {
        let status = Command::new(&script).arg(image).output().unwrap().status;
        assert_eq!(status.code(), Some(if passes { 0 } else { 64 }), "{image}");
    }
}

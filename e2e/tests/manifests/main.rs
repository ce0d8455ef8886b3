//! What operators deploy, on a real API server: every overlay is accepted under Pod Security `restricted`, all of it gets
//! ready, applying it again changes nothing, and everybody may do what is written down and no more. And it works:
//! the processes do their work with what the manifests give them.
//!
//! `UPDATE_FILES=1` writes the lists in `k8s/permissions` anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod applications;
mod backups;
mod checks;
mod discovery;
mod documented;
mod documents;
#[path = "../monitoring/expressions.rs"]
mod expressions;
mod installed;
mod network;
mod pods;
mod processes;
mod rights;
mod runbook;

use applications::Delivered;
use installed::{Installed, NAMESPACE};

/// What ArgoCD reads, a laptop's, one for life, and one where git decides.
const OVERLAYS: [&str; 4] =
    ["k8s", "k8s/overlays/kind", "k8s/overlays/production", "k8s/overlays/gitops"];

/// kubectl sends some of these each time, whatever is there, and says so. The API server changes nothing.
const ALWAYS_SENT: [&str; 2] = ["poddisruptionbudget.policy/", "statefulset.apps/"];

/// One after the other: each has a control plane of its own.
#[tokio::test]
async fn every_overlay_gets_ready_and_applying_it_again_changes_nothing() {
    for overlay in OVERLAYS {
        let installed = Installed::start(overlay).await;
        installed.all_ready().await;
        let before = installed.asked_for().await;
        let said = installed.apply().await;
        for line in
            said.lines().filter(|line| !ALWAYS_SENT.iter().any(|kind| line.starts_with(kind)))
        {
            assert!(line.ends_with(" unchanged"), "{overlay}: {line}");
        }
        assert_eq!(installed.asked_for().await, before, "{overlay}");
        // It fails where there is a difference.
        installed.cluster.kubectl(&["diff", "--kustomize", &installed.folder]).await.unwrap();

        let objects = installed.objects().await;
        checks::images_are_pinned(&objects);
        checks::variables_are_known(&objects);
        checks::prometheus_finds_everybody(&objects);
        checks::everybody_names_the_same_targets(&objects);
        if overlay.ends_with("production") {
            documents::run_at(documents::UPGRADE, &installed);
            installed.all_ready().await;
        }
    }
}

/// One of each server, and three. What `ArgoCD` reads has the servers of the first and the settings of the second.
#[tokio::test]
async fn with_what_the_manifests_give_them_the_processes_do_their_work() {
    if !processes::can_make_secrets() {
        return;
    }
    for overlay in ["k8s/overlays/kind", "k8s/overlays/production"] {
        processes::do_their_work(overlay).await;
    }
}

#[tokio::test]
async fn a_backup_is_restored_into_an_empty_system() {
    if processes::can_make_secrets() {
        backups::restore_everything().await;
    }
}

#[tokio::test]
async fn rules_and_dashboards_fit_what_prometheus_finds_by_the_manifests() {
    if discovery::can_run() && processes::can_make_secrets() {
        processes::are_watched().await;
    }
}

#[test]
fn every_command_of_the_documents_is_run_or_listed_with_a_reason() {
    documents::name_no_other_commands();
}

/// While a command runs, somebody has to answer to it.
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_say_what_works() {
    if runbook::can_run() && processes::can_make_secrets() && documents::can_run() {
        documents::say_what_works().await;
    }
}

#[test]
fn the_runbook_names_every_cause() {
    runbook::names_every_cause();
}

#[tokio::test]
async fn the_runbook_shows_what_it_says() {
    if runbook::can_run() && processes::can_make_secrets() {
        runbook::helps().await;
    }
}

#[tokio::test]
async fn whoever_asks_for_more_than_is_written_down_is_refused() {
    let installed = Installed::start("k8s/overlays/kind").await;
    installed.all_ready().await;
    rights::in_argocd(&installed).await;
    rights::are_as_listed(&installed).await;
    rights::of_the_deployer_suffice(&installed).await;
    rights::of_the_deployer_end_there(&installed).await;
    rights::of_jenkins_end_there(&installed).await;

    // A pod that may become root.
    let pod = ["--namespace", NAMESPACE, "run", "root", "--image=x/root:v1-abc1234"];
    let error = installed.cluster.kubectl(&pod).await.unwrap_err().to_string();
    assert!(error.contains("violates PodSecurity \"restricted:latest\""), "{error}");
}

#[tokio::test]
async fn argocd_keeps_what_the_deployer_patches_and_applies_what_it_commits() {
    let delivered = Delivered::start().await;
    delivered.apply("argocd").await;
    let deployer = delivered.deployer().await;
    delivered.keeps_a_live_patch().await;
    delivered.answers();
    delivered.undoes_it_without_our_settings().await;
    drop(deployer);

    if processes::can_make_secrets() {
        delivered.apply("k8s/overlays/gitops/application").await;
        delivered.commits().await;
    }
}

#[test]
fn a_path_is_not_taken_for_a_host() {
    network::tells_addresses_from_paths();
}

//! `docs/Runbook-Rollout.md`: each cause has its section, and the commands show what the section says.

use std::{collections::BTreeSet, fs};

use serde_json::json;
use testbed::{Fate, eventually, workspace_folder};

use crate::{
    documented::{Shell, blocks},
    installed::{Installed, NAMESPACE},
    processes::{System, make_secrets, with},
};

const RUNBOOK: &str = "docs/Runbook-Rollout.md";

/// What it tells first: the token, what was said, and the rest of it.
const HEADING: &str = "## First: what serves, and what was said";

/// The commands need them.
pub(crate) fn can_run() -> bool {
    testbed::can_run_with(&["curl", "jq"], "REQUIRE_PROGRAMS")
}

/// Whatever the other documents call a cause is a heading.
pub(crate) fn names_every_cause() {
    let read = |path: &str| fs::read_to_string(workspace_folder().join(path)).unwrap();
    let mut causes = BTreeSet::new();
    for line in read("docs/rollout-scenarios.md").lines().filter(|line| line.starts_with("| ")) {
        causes.insert(line.split('|').nth(3).unwrap().trim().to_owned());
    }
    let (_, table) = read("docs/rollouts.md")
        .split_once("## When it fails")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for line in table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
    {
        let first = line.split('|').nth(1).unwrap();
        causes.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    causes.retain(|cause| !["cause", "–"].contains(&&**cause));
    assert!(causes.len() > 20, "{causes:?}");
    let runbook = read(RUNBOOK);
    for cause in causes {
        let there = runbook.contains(&format!("\n### `{cause}`\n"))
            || runbook.contains(&format!("`{cause}`: ["));
        assert!(
            there
                || runbook
                    .lines()
                    .any(|line| line.starts_with("Also ") && line.contains(&format!("`{cause}`"))),
            "{cause} has no section"
        );
    }
}

/// The blocks of commands below a heading.
fn commands(heading: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace_folder().join(RUNBOOK)).unwrap();
    let (_, section) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let level = heading.split(' ').next().unwrap();
    let end = section.find(&format!("\n{level} ")).unwrap_or(section.len());
    blocks(&section[..end])
}

/// Provokes some of them.
pub(crate) async fn helps() {
    let installed = Installed::start("k8s/overlays/kind").await;
    installed.all_ready().await;
    make_secrets(&installed).await;
    let shell = Shell::new(&installed);
    with(&installed, async |system| {
        system.start_all().await;
        let first = commands(HEADING);
        shell.run_in(system, &first[0]);
        let told = |shell: &Shell, system: &System<'_>, cause: &str, expected: &[&str]| {
            let mut told = shell.run_in(system, &first[1]);
            assert!(told.contains(&format!("cause: {cause}")), "{cause}: {told}");
            for block in commands(&format!("### `{cause}`")) {
                told += &shell.run_in(system, &block);
            }
            for text in expected {
                assert!(told.contains(text), "{cause}: no {text} in {told}");
            }
        };

        let image = "mastereflex123/portfolio";
        system.rolls_out(image, 2).await;
        ends(system, &system.posts(image, 3, Fate::ImageNotFound).await, "rolled_back").await;
        told(
            &shell,
            system,
            "ImagePullBackOff",
            &["not found", "oriyan-portfolio-app", &format!(":{}", Fate::Ready.tag(2))],
        );
        ends(system, &system.posts(image, 4, Fate::MissingSecret).await, "rolled_back").await;
        told(&shell, system, "CreateContainerConfigError", &["gateway-tokens", "secret"]);
        ends(system, &system.posts(image, 5, Fate::CrashLoop).await, "rolled_back").await;
        told(&shell, system, "CrashLoopBackOff", &["panicked: no database", "exit code"]);

        let quota = quota(&installed).await;
        ends(system, &system.posts(image, 6, Fate::Ready).await, "rolled_back").await;
        told(&shell, system, "FailedCreate", &["exceeded quota", "pods"]);
        installed
            .cluster
            .kubectl(&["--namespace", NAMESPACE, "delete", "resourcequota", quota])
            .await
            .unwrap();

        let id = system.posts(image, 7, Fate::NeverReady).await;
        eventually("the image", || async {
            let get = [
                "--namespace",
                NAMESPACE,
                "get",
                "deployment",
                "oriyan-portfolio-app",
                "--output",
                "yaml",
            ];
            installed
                .cluster
                .kubectl(&get)
                .await
                .ok()?
                .contains(&Fate::NeverReady.tag(7))
                .then_some(())
        })
        .await;
        let by_hand = format!("app={image}:{}", Fate::Ready.tag(8));
        let set =
            ["--namespace", NAMESPACE, "set", "image", "deployment/oriyan-portfolio-app", &by_hand];
        installed.cluster.kubectl(&set).await.unwrap();
        ends(system, &id, "reverted").await;
        told(&shell, system, "ImageReplaced", &["kubectl-set"]);
    })
    .await;
}

/// Waits until a rollout has ended so.
async fn ends(system: &System<'_>, id: &str, state: &str) {
    let build = system.verdict(id).await;
    assert_eq!(build["rollouts"][0]["state"], state, "{build:#}");
}

/// No more pods than there are now.
async fn quota(installed: &Installed) -> &'static str {
    let name = "no-more-pods";
    let count = || async {
        let get = [
            "--namespace",
            NAMESPACE,
            "get",
            "pods",
            "--output",
            "name",
            "--field-selector",
            "status.phase=Running",
        ];
        installed.cluster.kubectl(&get).await.unwrap().lines().count()
    };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"hard": {"pods": count().await.to_string()}}});
    installed.cluster.apply(&quota.to_string()).await.unwrap();
    eventually("a quota that counts", || async {
        let get = [
            "--namespace",
            NAMESPACE,
            "get",
            "resourcequota",
            name,
            "--output",
            "jsonpath={.status.used.pods}",
        ];
        (!installed.cluster.kubectl(&get).await.ok()?.is_empty()).then_some(())
    })
    .await;
    name
}

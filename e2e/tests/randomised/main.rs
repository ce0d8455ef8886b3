//! Many rollouts on many targets with random fates, while deployers are killed and stopped and a third hand edits: no verdict
//! may be wrong, by the API server's own audit log, and no write may come from a hand that had lost its lease.
//!
//! `TEST_ROLLOUTS` says how many, `TEST_SEED` makes the same choices again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the seed is told before anything can go wrong")]

mod audit;
mod check;
mod hands;

use std::{process::ExitCode, sync::Arc, time::Duration};

use futures::future::join_all;
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use testbed::{Cluster, Gateway, Nats, Scratch, eventually, system, within};

use crate::hands::{Choices, Deployers};

const TARGETS: usize = 20;
pub(crate) const NAMESPACE: &str = "random";

#[expect(clippy::disallowed_methods, reason = "switches of this test, not configuration")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn main() -> ExitCode {
    let trial = Trial::test("no_verdict_is_wrong", || {
        let rollouts = usize::try_from(number("TEST_ROLLOUTS", 60)).unwrap();
        let seed = number("TEST_SEED", fastrand::u64(..));
        println!(
            "{rollouts} rollouts on {TARGETS} targets; TEST_SEED={seed} makes the same choices again"
        );
        let wrong = tokio::runtime::Runtime::new()?.block_on(run(rollouts, seed));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("TEST_SEED={seed}\n{}", wrong.join("\n")).into())
        }
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

pub(crate) fn target(index: usize) -> String {
    format!("t-{index}")
}

/// A Deployment of one to three replicas for each target.
fn manifests(choices: &mut Choices) -> String {
    let deployments = (0..TARGETS).map(|index| {
        let (name, labels) = (target(index), json!({"app": target(index)}));
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"replicas": choices.between(1, 3), "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": format!("x/{name}:v0-abc1234")}]}}},
        })
    });
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "deployer", "apiGroup": "rbac.authorization.k8s.io"}]});
    let items: Vec<_> = [namespace, role].into_iter().chain(deployments).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn targets() -> String {
    let line = |index| {
        let name = target(index);
        format!(
            "  - {{ name: {name}, image: x/{name}, namespace: {NAMESPACE}, deployment: {name}, container: app, deadline: 20s, failure_grace: 2s, rollback: true }}\n"
        )
    };
    format!("targets:\n{}", (0..TARGETS).map(line).collect::<String>())
}

/// What was wrong.
async fn run(rollouts: usize, seed: u64) -> Vec<String> {
    let mut choices = Choices::new(seed);
    let scratch = Scratch::new().unwrap();
    let cluster =
        Arc::new(Cluster::start_audited(&scratch.folder("cluster").unwrap()).await.unwrap());
    cluster.apply(&manifests(&mut choices)).await.unwrap();
    let all = [
        "--namespace",
        NAMESPACE,
        "wait",
        "--for=condition=Available",
        "--timeout=60s",
        "deployments",
        "--all",
    ];
    cluster.kubectl(&all).await.unwrap();
    let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
    let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
    let mut services = Vec::new();
    for index in 0..2 {
        let folder = scratch.folder(&format!("deployer-{index}")).unwrap();
        let spec =
            system::deployer_spec(&folder, &nats.url(), cluster.deployer_kubeconfig(), &targets())
                .unwrap();
        services.push(system::start(spec).await.unwrap());
    }

    let deployers = tokio::spawn(Deployers(services).trouble(choices.fork()));
    let third = tokio::spawn(hands::edit(cluster.clone(), choices.fork()));
    let each = rollouts.div_ceil(TARGETS);
    let posted = join_all(
        (0..TARGETS).map(|index| hands::post(gateway.ci(), target(index), each, choices.fork())),
    )
    .await;
    third.abort();
    let _ = third.await;
    deployers.abort();
    let _ = deployers.await;
    // Whoever was killed or stopped last may be down: two new ones finish what is left.
    let mut fresh = Vec::new();
    for index in 2..4 {
        let folder = scratch.folder(&format!("deployer-{index}")).unwrap();
        let spec =
            system::deployer_spec(&folder, &nats.url(), cluster.deployer_kubeconfig(), &targets())
                .unwrap();
        fresh.push(system::start(spec).await.unwrap());
    }
    let mut builds = Vec::new();
    for id in posted.into_iter().flatten() {
        builds.push(terminal(&gateway, &id).await);
    }
    let history = audit::History::read(&cluster.audit_log().unwrap());
    check::print_summary(&builds, &history);
    check::all(&builds, &history)
}

async fn terminal(gateway: &Gateway, id: &str) -> Value {
    let build = within(Duration::from_mins(3), "a verdict", || async {
        let answer = gateway.ci().get(&format!("/api/builds/{id}?wait=20s")).await.ok()?;
        let build = answer.json();
        (answer.status == 200 && build["terminal"] == true).then_some(build)
    });
    match build.await {
        Ok(build) => build,
        Err(error) => {
            let seen = eventually("a gateway", || async {
                Some(gateway.ci().get(&format!("/api/builds/{id}")).await.ok()?.json())
            })
            .await;
            panic!("{error}: {seen:#}")
        }
    }
}

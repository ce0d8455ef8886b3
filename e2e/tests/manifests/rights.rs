//! What service accounts may do.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use testbed::{Fate, Gateway, Nats, eventually, system, workspace_folder};

use crate::installed::{Installed, NAMESPACE};

const ARGOCD: &str = "argocd";
const DEPLOYER: &str = "system:serviceaccount:oriyan-portfolio:deployer";
const JENKINS: &str = "system:serviceaccount:oriyan-portfolio:jenkins";

/// Applies what deployer and Jenkins may do in ArgoCD's namespace. The Application itself needs an ArgoCD.
pub(crate) async fn in_argocd(installed: &Installed) {
    let cluster = &installed.cluster;
    cluster.kubectl(&["create", "namespace", ARGOCD]).await.unwrap();
    for access in ["argocd/deployer-access.yaml", "argocd/jenkins-access.yaml"] {
        cluster.apply(&fs::read_to_string(workspace_folder().join(access)).unwrap()).await.unwrap();
    }
}

/// Holds `kubectl auth can-i --list` of each account against its list in `k8s/permissions`.
#[expect(clippy::disallowed_methods, reason = "a person says so")]
pub(crate) async fn are_as_listed(installed: &Installed) {
    let mut accounts = Vec::new();
    for name in [
        "gateway",
        "contact-worker",
        "deployer",
        "nats",
        "mongodb",
        "provision",
        "jenkins",
        "default",
    ] {
        accounts.push((name, format!("{NAMESPACE}:{name}"), NAMESPACE));
    }
    accounts.push(("deployer-in-argocd", format!("{NAMESPACE}:deployer"), ARGOCD));
    accounts.push(("jenkins-in-argocd", format!("{NAMESPACE}:jenkins"), ARGOCD));
    accounts.push(("prometheus", "monitoring:prometheus".to_owned(), NAMESPACE));
    for (list, account, namespace) in accounts {
        let account = format!("--as=system:serviceaccount:{account}");
        let told = installed
            .cluster
            .kubectl(&["auth", "can-i", "--list", &account, "--namespace", namespace])
            .await;
        let told = lines(&told.unwrap());
        let path = workspace_folder().join(format!("k8s/permissions/{list}.txt"));
        if std::env::var_os("UPDATE_FILES").is_some() {
            fs::write(&path, &told).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            told,
            written,
            "{} is not true: set UPDATE_FILES=1 and look at it",
            path.display()
        );
    }
}

/// A text without the lines that begin so.
pub(crate) fn lines_without(text: &str, starts: &[&str]) -> String {
    let stays = |line: &&str| !starts.iter().any(|start| line.trim().starts_with(start));
    text.split_inclusive('\n').filter(stays).collect()
}

/// Without the heading, and in an order and a width of our own: kubectl's depend on what else there is.
fn lines(list: &str) -> String {
    let lines: BTreeSet<_> = list
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    lines.into_iter().collect()
}

/// A deployer that signs in as its service account rolls out a build of the gateway, with the targets of the overlay.
pub(crate) async fn of_the_deployer_suffice(installed: &Installed) {
    let kubeconfig = installed.sign_in_as("deployer").await;
    // No container runs here that a smoke test could ask.
    let targets =
        fs::read_to_string(workspace_folder().join("k8s/overlays/kind/targets.yaml")).unwrap();
    let targets = lines_without(&targets, &["smoke:"]);

    let nats = Nats::start(&installed.scratch.folder("nats").unwrap()).await.unwrap();
    let gateway =
        Gateway::start(&installed.scratch.folder("gateway").unwrap(), &nats).await.unwrap();
    let folder = installed.scratch.folder("deployer").unwrap();
    let spec = system::deployer_spec(&folder, &nats.url(), &kubeconfig, &targets).unwrap();
    let _deployer = system::start(spec).await.unwrap();

    let image = format!("mastereflex123/portfolio:{}", Fate::Ready.tag(2));
    let build = json!({"job": "portfolio", "number": 2, "status": "success", "image": image});
    let answer = gateway.ci().post_json("/api/builds", &build).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let build: Value = eventually("a verdict", || async {
        let build = gateway.ci().get(&format!("/api/builds/{id}?wait=20s")).await.ok()?.json();
        (build["terminal"] == true).then_some(build)
    })
    .await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    eventually("its event", || async {
        let get = [
            "--namespace",
            NAMESPACE,
            "get",
            "events",
            "--output",
            "jsonpath={.items[*].source.component}",
        ];
        installed.cluster.kubectl(&get).await.ok()?.contains("deployer").then_some(())
    })
    .await;
}

/// What would be near at hand for whoever has taken the deployer over.
pub(crate) async fn of_the_deployer_end_there(installed: &Installed) {
    for act in [
        "patch deployment deployer --patch {}",
        "get deployment deployer",
        "delete deployment oriyan-portfolio-app",
        "scale deployment oriyan-portfolio-app --replicas=0",
        "patch statefulset nats --patch {}",
        "delete pods --all",
        "create configmap another",
        "get configmaps",
        "get secrets",
        "create token provision",
        "exec nats-0 --container=nats -- true",
    ] {
        let account = format!("--as={DEPLOYER}");
        let mut args = vec!["--namespace", NAMESPACE, &account];
        args.extend(act.split(' '));
        let error = installed.cluster.kubectl(&args).await.unwrap_err().to_string().to_lowercase();
        assert!(error.contains("forbidden"), "{act}: {error}");
    }
    let elsewhere = ["--namespace=default", &format!("--as={DEPLOYER}"), "get", "pods"];
    let error = installed.cluster.kubectl(&elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}

/// Jenkins may create pods, and read no Secret by one.
pub(crate) async fn of_jenkins_end_there(installed: &Installed) {
    for (spec, refusal) in [
        (
            json!({"volumes": [{"name": "secret", "secret": {"secretName": "nats-gateway"}}]}),
            "no volumes",
        ),
        (json!({"automountServiceAccountToken": true}), "no token of a service account"),
        (json!({"initContainers": [container(&json!({"name": "init"}))]}), "no init containers"),
        (
            json!({"containers": [container(&json!({"envFrom": [{"secretRef": {"name": "nats-gateway"}}]}))]}),
            "no environment from Secrets",
        ),
        (
            json!({"containers": [container(&json!({"env": [{"name": "PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "nats-gateway", "key": "password"}}}]}))]}),
            "no variable from elsewhere",
        ),
    ] {
        // The API server hears of a policy a moment after it was applied.
        eventually(refusal, || async {
            let error = try_as_jenkins(installed, &spec).await.err()?.to_string();
            assert!(error.contains("oriyan-portfolio-jenkins"), "{error}");
            error.contains(refusal).then_some(())
        })
        .await;
    }
    try_as_jenkins(installed, &json!({})).await.unwrap();
    let exec = [
        "--namespace",
        NAMESPACE,
        &format!("--as={JENKINS}"),
        "exec",
        "nats-0",
        "--container=nats",
        "--",
        "true",
    ];
    let error = installed.cluster.kubectl(&exec).await.unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}

fn container(more: &Value) -> Value {
    let mut container = json!({"name": "curl", "image": "x/curl:v1-abc1234", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

/// Has Jenkins create a pod, but for real.
async fn try_as_jenkins(installed: &Installed, more: &Value) -> anyhow::Result<String> {
    let mut spec = json!({"automountServiceAccountToken": false, "containers": [container(&json!({}))],
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let overrides = json!({"apiVersion": "v1", "spec": spec}).to_string();
    let account = format!("--as={JENKINS}");
    let run = [
        "--namespace",
        NAMESPACE,
        &account,
        "run",
        "curl",
        "--image=x/curl:v1-abc1234",
        "--dry-run=server",
        "--overrides",
        &overrides,
    ];
    installed.cluster.kubectl(&run).await
}

//! The parts that the tests share: one control plane for all tests, a namespace and a bus for each.

use std::sync::LazyLock;

use serde_json::{Value, json};
use testbed::{Cluster, Gateway, Nats, Scratch, Server, Service, eventually, system};
use tokio::sync::OnceCell;

/// Returns the control plane of this test run, which ends with the process.
pub(crate) async fn cluster() -> &'static Cluster {
    static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().unwrap());
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { Cluster::start(SCRATCH.path()).await.unwrap() }).await
}

/// Returns a Deployment of two replicas, in a namespace of its own.
pub(crate) fn deployment(namespace: &str, image: &str) -> String {
    let labels = json!({"app": "portfolio"});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "oriyan-portfolio-app", "namespace": namespace},
         "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": image}]}}}},
    ]});
    list.to_string()
}

/// Returns a `TARGETS_FILE` with one target.
pub(crate) fn target(namespace: &str, deadline: &str) -> String {
    format!(
        "targets:\n  - {{ name: portfolio, image: mastereflex123/portfolio, namespace: {namespace}, \
         deployment: oriyan-portfolio-app, container: app, deadline: {deadline} }}\n"
    )
}

/// Returns the image of the target with this tag.
pub(crate) fn image(tag: &str) -> String {
    format!("mastereflex123/portfolio:{tag}")
}

/// Everything that builds pass through. The control plane is the test's own or the shared one.
pub(crate) struct Builds {
    pub(crate) scratch: Scratch,
    pub(crate) nats: Nats,
    pub(crate) gateway: Gateway,
    pub(crate) deployer: Service,
}

impl Builds {
    pub(crate) async fn start(cluster: &Cluster, namespace: &str, deadline: &str) -> Self {
        cluster.apply(&deployment(namespace, &image("v1-0000001"))).await.unwrap();
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        let folder = scratch.folder("deployer").unwrap();
        let targets = target(namespace, deadline);
        let spec =
            system::deployer_spec(&folder, &nats.url(), cluster.kubeconfig(), &targets).unwrap();
        let deployer = system::start(spec).await.unwrap();
        Self { scratch, nats, gateway, deployer }
    }

    /// Posts a build of an image with this tag. Returns the id of the build.
    pub(crate) async fn post(&self, tag: &str) -> String {
        let build =
            json!({"job": "portfolio", "number": 1, "status": "success", "image": image(tag)});
        let answer = self.gateway.ci().post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Returns the build in its current state.
    pub(crate) async fn show(&self, id: &str) -> Value {
        let answer = self.gateway.ci().get(&format!("/api/builds/{id}")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Waits until the build is terminal, and returns it.
    pub(crate) async fn verdict(&self, id: &str) -> Value {
        eventually("a verdict", || async {
            let answer = self.gateway.ci().get(&format!("/api/builds/{id}?wait=20s")).await.ok()?;
            let build = answer.json();
            (build["terminal"] == true).then_some(build)
        })
        .await
    }
}

/// Returns the states that the only rollout of a build has passed through.
pub(crate) fn states(build: &Value) -> Vec<&str> {
    build["rollouts"][0]["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["state"].as_str().unwrap())
        .collect()
}

/// Waits for a line of JSON in a server's log that fits, and returns it.
pub(crate) async fn logged(server: &Server, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let log = server.log();
        let found = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| fits(line));
        std::future::ready(found)
    })
    .await
}

//! The end of the processes while nothing that they need can be reached: there is nothing to wait for then.

use std::{fs, time::Duration};

use testbed::{Gateway, Scratch, Service, Spec, eventually, free_port, system};

/// Starts a process, stops it once it has missed what it needs, and says what it ended with.
async fn ends(spec: Spec) {
    let mut service = Service::start(spec.env("SHUTDOWN_GRACE", "2s")).unwrap();
    eventually("that it misses the bus", || async {
        let report = service.admin.get("/readyz").await.ok()?.json();
        let detail = report["dependencies"]["streams"]["detail"].as_str()?.to_owned();
        detail.contains("NATS could not be reached").then_some(())
    })
    .await;
    let status = service.server.stop(Duration::from_secs(10)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", service.server.log());
}

#[tokio::test]
async fn each_process_ends_in_order_while_nothing_can_be_reached() {
    let scratch = Scratch::new().unwrap();
    let folder = |name: &str| scratch.folder(name).unwrap();
    let nowhere = free_port();
    let nats = format!("nats://127.0.0.1:{nowhere}");
    let kubeconfig = scratch.path().join("kubeconfig");
    let cluster = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{ name: c, context: {{ cluster: c, user: u }} }}]\n\
         clusters: [{{ name: c, cluster: {{ server: \"http://127.0.0.1:{nowhere}\" }} }}]\nusers: [{{ name: u, user: {{}} }}]\n"
    );
    fs::write(&kubeconfig, cluster).unwrap();
    let targets = "targets:\n  - { name: portfolio, image: mastereflex123/portfolio, namespace: default, deployment: app, \
         container: app, deadline: 60s }\n";
    let mongo = format!("mongodb://127.0.0.1:{nowhere}/");
    let worker = Service::spec("contact-worker", &folder("contact-worker")).unwrap();
    tokio::join!(
        ends(Gateway::spec(&folder("gateway"), &nats).unwrap()),
        ends(worker.env("NATS_URL", &nats).env("MONGODB_URI", mongo)),
        ends(system::deployer_spec(&folder("deployer"), &nats, &kubeconfig, targets).unwrap()),
    );
}

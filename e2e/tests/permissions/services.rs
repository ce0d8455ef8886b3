//! The three processes, each as its own user, over TLS: a contact and a build, from end to end.

use bson::doc;
use serde_json::{Value, json};
use testbed::{Access, Cluster, Gateway, Mongo, Nats, Scratch, Service, Spec, eventually, system};

use crate::user::User;

pub(crate) struct World {
    pub(crate) nats: Nats,
    pub(crate) access: Access,
    pub(crate) gateway: Gateway,
    pub(crate) worker: Service,
    mongo: Mongo,
    scratch: Scratch,
}

impl World {
    pub(crate) async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let folder = |name: &str| scratch.folder(name).unwrap();
        let (nats, access) = Nats::start_secured(&folder("nats")).await.unwrap();
        let mongo = Mongo::start(&folder("mongo")).await.unwrap();
        let spec = Gateway::spec(&folder("gateway"), &nats.url()).unwrap();
        provision(&access, &spec).await;
        let mut gateway = Gateway::start_unready(access.sign_in(spec, "gateway")).unwrap();
        gateway.ready().await.unwrap();
        let spec =
            system::worker_spec(&folder("worker"), &nats.url(), &mongo, "portfolio").unwrap();
        let worker = start(&access, spec, "contact-worker").await;
        Self { nats, access, gateway, worker, mongo, scratch }
    }

    /// Posts a contact, and waits until it is stored.
    pub(crate) async fn contact(&self, key: &str) {
        let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
        let client = self.gateway.http.with("idempotency-key", key);
        let answer = client.post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        let again = client.post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(again.json(), answer.json(), "its record is read from the bus");
        let id = bson::Uuid::parse_str(answer.json()["id"].as_str().unwrap()).unwrap();
        let contacts = self.mongo.collection("portfolio", "contacts").await.unwrap();
        eventually("the document", || async { contacts.find_one(doc! {"_id": id}).await.ok()? })
            .await;
    }

    /// Nothing that a process did was refused.
    fn nothing_was_refused(&self) {
        let log = self.nats.server.log();
        let refused: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

async fn provision(access: &Access, spec: &Spec) {
    let spec = access.sign_in(spec.clone(), "provision");
    for _ in 0..2 {
        Service::run(&spec, "provision").await.unwrap();
    }
}

async fn start(access: &Access, spec: Spec, user: &str) -> Service {
    provision(access, &spec).await;
    let mut service = Service::start(access.sign_in(spec, user)).unwrap();
    service.ready().await.unwrap();
    service
}

#[tokio::test]
async fn contacts_are_stored_removed_and_kept_as_dead_letters() {
    let world = World::start().await;
    world.contact("a").await;
    // Many at once share a batch.
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let post = || world.gateway.http.post_json("/api/contact", &contact);
    for answer in futures::future::join_all((0..100).map(|_| post())).await {
        assert_eq!(answer.unwrap().status, 202);
    }
    let operator = User::sign_in(&world.nats, &world.access, "operator").await;
    let messages = async |stream: &str| {
        operator.ask(&format!("STREAM.INFO.{stream}"), &Value::Null).await["state"]["messages"]
            .clone()
    };
    // A payload that cannot be read, which the operator redrives: it comes back.
    operator.client.request("contacts.submitted", "{}".into()).await.unwrap();
    eventually("a dead letter", || async { (messages("DEAD_LETTERS").await == 1).then_some(()) })
        .await;
    let spec = world.access.sign_in(world.worker.server.spec().clone(), "operator");
    let said = Service::run(&spec, "dead-letters redrive --all").await.unwrap();
    assert!(said.contains("dead letter 1: redriven"), "{said}");
    eventually("the dead letter again", || async {
        let listed = Service::run(&spec, "dead-letters list").await.ok()?;
        listed.contains("\n  2  ").then_some(())
    })
    .await;
    Service::run(&spec, "dead-letters show 2").await.unwrap();
    Service::run(&spec, "dead-letters erase 2").await.unwrap();
    assert_eq!(messages("DEAD_LETTERS").await, 0);
    eventually("an empty queue", || async { (messages("CONTACTS").await == 0).then_some(()) })
        .await;
    world.nothing_was_refused();
}

#[tokio::test]
async fn a_build_is_rolled_out_and_told_of_and_its_target_frozen() {
    let world = World::start().await;
    let cluster = Cluster::start(&world.scratch.folder("cluster").unwrap()).await.unwrap();
    let labels = json!({"app": "portfolio"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": "mastereflex123/portfolio:v1-0000001"}]}}}});
    cluster.apply(&deployment.to_string()).await.unwrap();
    let targets = "targets:\n  - { name: portfolio, image: mastereflex123/portfolio, namespace: default, deployment: app, \
         container: app, deadline: 60s }\n";
    let folder = world.scratch.folder("deployer").unwrap();
    let spec =
        system::deployer_spec(&folder, &world.nats.url(), cluster.kubeconfig(), targets).unwrap();
    let _deployer = start(&world.access, spec, "deployer").await;

    let build = json!({"job": "portfolio", "number": 2, "status": "success", "image": "mastereflex123/portfolio:v2-abc1234"});
    let ci = world.gateway.ci();
    let answer = ci.post_json("/api/builds", &build).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let path = format!("/api/builds/{}?wait=20s", answer.json()["id"].as_str().unwrap());
    let build = eventually("a verdict", || async {
        let build = ci.get(&path).await.ok()?.json();
        (build["terminal"] == true).then_some(build)
    });
    assert_eq!(build.await["state"], "succeeded");
    // A list, and a target, are told from what the gateway has followed.
    assert_eq!(ci.get("/api/builds").await.unwrap().json()["builds"][0]["state"], "succeeded");
    let operator = world.gateway.operator();
    let frozen = operator
        .post_json("/api/targets/portfolio/freeze", &json!({"reason": "a test"}))
        .await
        .unwrap();
    assert_eq!(frozen.status, 202, "{}", frozen.text());
    eventually("a frozen target", || async {
        let target = operator.get("/api/targets/portfolio").await.ok()?.json();
        (!target["freeze"].is_null() && target["running"].as_str()?.ends_with("v2-abc1234"))
            .then_some(())
    })
    .await;
    world.nothing_was_refused();
}

#[tokio::test]
async fn who_provisions_as_a_user_that_may_not_is_told_what_is_refused() {
    let scratch = Scratch::new().unwrap();
    let folder = |name: &str| scratch.folder(name).unwrap();
    let (nats, access) = Nats::start_secured(&folder("nats")).await.unwrap();
    let spec = Gateway::spec(&folder("gateway"), &nats.url()).unwrap();
    let ended =
        Service::run(&access.sign_in(spec, "gateway"), "provision").await.unwrap_err().to_string();
    let violation = format!(
        "Permissions Violation for Publish to \"{}.STREAM.CREATE.CONTACTS\"",
        Access::api("gateway")
    );
    let expected = format!("stream CONTACTS: the server refuses it to this user: {violation}\n");
    assert!(ended.contains(&expected), "{ended}");
    let log = nats.server.log();
    let asked = log.lines().filter(|line| line.contains("Violation")).count();
    assert_eq!(asked, 1, "what is refused is not asked again: {log}");
}

#[tokio::test]
async fn a_service_that_signs_in_as_another_user_says_what_is_refused() {
    let scratch = Scratch::new().unwrap();
    let folder = |name: &str| scratch.folder(name).unwrap();
    let (nats, access) = Nats::start_secured(&folder("nats")).await.unwrap();
    let spec = Gateway::spec(&folder("gateway"), &nats.url()).unwrap();
    provision(&access, &spec).await;
    let gateway = Gateway::start_unready(access.sign_in(spec, "deployer")).unwrap();
    let violation = format!(
        "Permissions Violation for Publish to \"{}.STREAM.INFO.CONTACTS\"",
        Access::api("deployer")
    );
    let expected =
        format!("stream CONTACTS cannot be seen: the server refuses it to this user: {violation}");
    eventually("a gateway that says why it is not ready", || async {
        let report = gateway.admin.get("/readyz").await.ok()?.json();
        (report["dependencies"]["streams"]["detail"] == expected.as_str()).then_some(())
    })
    .await;
}

//! The processes, with exactly the configuration, the environment, the files and the users that an overlay gives them, against
//! a real NATS with TLS and permissions, and a real MongoDB with users, which are started from the manifests, too.
//!
//! What differs is where things are: addresses (`network`), folders (`pods`), and that the deployer signs in to the API server
//! with a file in place of what a kubelet would put into its pod.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use async_nats::{ConnectOptions, jetstream};
use axum::{Json, Router, routing::get};
use bson::{Document, doc};
use mongodb::Database;
use serde_json::{Value, json};
use testbed::{
    Fate, Server, Spec, eventually, find_tool, free_port, http::Client, path_with, tools_folder,
    within, workspace_folder,
};
use tokio::net::TcpListener;

use crate::{
    checks::{list, text},
    discovery::Discovered,
    installed::{Installed, NAMESPACE},
    network::Network,
    pods::{Pod, templates},
    rights::lines_without,
};

/// The container that makes MongoDB's replica set and users. In a pod it would sleep then, for as long as the pod lives.
const SETUP: &str = "setup";

/// What it says as long as there is no mongod beside it, and as long as there are no others.
const WAITS: [&str; 2] = ["mongodb-setup: waiting for mongod: ", "mongodb-setup: waiting: "];

/// How long that may take, or a rollout, or an end.
const LIMIT: Duration = Duration::from_mins(3);

/// What NATS and MongoDB write about somebody whom they refuse something.
const REFUSALS: [&str; 6] = [
    "Violation",
    "authentication error",
    "TLS handshake error",
    "Checking authorization failed",
    "Authentication failed",
    "Failed to authenticate",
];

/// Installs an overlay and runs it: a contact and two builds, from end to end.
pub(crate) async fn do_their_work(overlay: &str) {
    let installed = Installed::start(overlay).await;
    installed.all_ready().await;
    make_secrets(&installed).await;
    with(&installed, async |system| {
        system.start("nats").await;
        system.start("mongodb-stateful").await;
        // MongoDB's setup tries whether there is a user yet, and its shell asks for more than it may know.
        let before = system.refusals();
        system.run("provision").await;
        system.start_services().await;
        system.stores_a_contact().await;
        system.rolls_out("mastereflex123/portfolio", 2).await;
        system.rolls_out("mastereflex123/portfolio-contact-worker", 3).await;
        let mut refusals = system.refusals();
        refusals.retain(|line| !before.contains(line));
        assert!(refusals.is_empty(), "{overlay}: {refusals:#?}");
        system.users_of_mongodb_can_do_no_more().await;
    })
    .await;
}

/// Installs an overlay, runs it, and has a Prometheus find it.
pub(crate) async fn are_watched() {
    let installed = Installed::start("k8s/overlays/kind").await;
    installed.all_ready().await;
    make_secrets(&installed).await;
    with(&installed, async |system| {
        system.start_all().await;
        let prometheus = Discovered::start(system).await;
        prometheus.finds_every_pod(system).await;
        system.stores_a_contact().await;
        let refused = system.gateway().post_json("/api/contact", &json!({})).await.unwrap();
        assert_eq!(refused.status, 422);
        system.rolls_out("mastereflex123/portfolio", 2).await;
        let older = system.posts_a_build("mastereflex123/portfolio", 1).await;
        assert_eq!(system.verdict(&older).await["state"], "rejected");
        // Its pods are others now.
        prometheus.finds_every_pod(system).await;
        prometheus.has_what_is_asked_for(system).await;
    })
    .await;
}

/// Does something with the processes of an overlay, none of which runs at first and all of which are ended after it.
pub(crate) async fn with(installed: &Installed, work: impl AsyncFnOnce(&mut System<'_>)) {
    // There is no ArgoCD.
    with_changed(installed, |file| lines_without(file, &["argocd: {"]), &[], work).await;
}

/// As [`with`], with files of configuration that are changed, so that they name these addresses of this machine.
pub(crate) async fn with_changed(
    installed: &Installed,
    change: impl Fn(&str) -> String,
    here: &[String],
    work: impl AsyncFnOnce(&mut System<'_>),
) {
    let mut objects = [installed.objects().await, secrets(installed).await].concat();
    let configuration = objects.iter_mut().filter(|object| object["kind"] == "ConfigMap");
    for file in
        configuration.flat_map(|object| object["data"].as_object_mut().unwrap().values_mut())
    {
        *file = json!(change(text(file)));
    }
    let health = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut elsewhere = vec![
        // The containers of a new version do not run here.
        (
            "portfolio-service.oriyan-portfolio:80".to_owned(),
            health.local_addr().unwrap().to_string(),
        ),
        // Nobody takes traces.
        ("otel-collector.monitoring:4317".to_owned(), format!("127.0.0.1:{}", free_port())),
        // Where people reach the gateway: told, and not used.
        ("127.0.0.1:5001".to_owned(), "127.0.0.1:5001".to_owned()),
    ];
    elsewhere.extend(here.iter().map(|address| (address.clone(), address.clone())));
    let network = Network::new(&objects, elsewhere);
    let pod =
        |(name, _): &(String, &Value)| Pod::new(&objects, &network, name, installed.scratch.path());
    let pods: Vec<_> = templates(&objects).iter().map(pod).collect();
    let mut system = System {
        installed,
        network: &network,
        pods: &pods,
        running: Vec::new(),
        health: Some(health),
    };
    work(&mut system).await;
}

pub(crate) struct System<'a> {
    pub(crate) installed: &'a Installed,
    pub(crate) network: &'a Network<'a>,
    pub(crate) pods: &'a [Pod<'a>],
    running: Vec<Server>,
    /// Where the smoke test asks.
    health: Option<TcpListener>,
}

impl<'a> System<'a> {
    fn pods_of(&self, workload: &str) -> Vec<&'a Pod<'a>> {
        let is_of =
            |pod: &&Pod| pod.name == workload || pod.name.starts_with(&format!("{workload}-"));
        let found: Vec<_> = self.pods.iter().filter(is_of).collect();
        assert!(!found.is_empty(), "no pod is of {workload}");
        found
    }

    /// Runs the containers of a pod to their ends, one after the other.
    pub(crate) async fn run(&self, workload: &str) {
        for pod in self.pods_of(workload) {
            for container in
                names(&pod.spec["initContainers"]).chain(names(&pod.spec["containers"]))
            {
                pod.run(container).await;
            }
        }
    }

    /// Starts all pods of a workload, and waits until their probes succeed. No container is started again: whoever needs
    /// another one of its pod waits for it.
    pub(crate) async fn start(&mut self, workload: &str) {
        let (mut lasting, mut setups) = (Vec::new(), Vec::new());
        for pod in self.pods_of(workload) {
            for container in names(&pod.spec["initContainers"]) {
                pod.run(container).await;
            }
            if names(&pod.spec["containers"]).any(|container| container == SETUP) {
                setups.push(Server::start(without_sleep(pod.process(SETUP))).unwrap());
            }
        }
        // As on machines whose disks are slow: MongoDB's servers come up after those that ask them, and one after the other.
        for setup in &mut setups {
            says(setup, WAITS[0]).await;
        }
        for pod in self.pods_of(workload) {
            for container in names(&pod.spec["containers"]).filter(|name| *name != SETUP) {
                let spec = self.signed_in(pod, pod.process(container)).await;
                lasting.push((pod, container, Server::start(spec).unwrap()));
            }
            if lasting.len() == 1 && setups.len() > 1 {
                says(&mut setups[0], WAITS[1]).await;
            }
        }
        for mut setup in setups {
            let status = setup.wait(LIMIT).await.unwrap();
            assert!(status.success(), "{SETUP} ended with {status}");
        }
        for (pod, container, mut server) in lasting {
            pod.ready(container, &mut server).await;
            self.running.push(server);
        }
    }

    /// Starts everything, in the order in which it is ready at once.
    pub(crate) async fn start_all(&mut self) {
        self.start("nats").await;
        self.start("mongodb-stateful").await;
        self.run("provision").await;
        self.start_services().await;
    }

    /// Starts the three services, and what answers to the smoke test for a new version.
    pub(crate) async fn start_services(&mut self) {
        for workload in ["oriyan-portfolio-app", "contact-worker", "deployer"] {
            self.start(workload).await;
        }
        let (gateway, kubeconfig) =
            (self.gateway(), self.installed.cluster.kubeconfig().to_owned());
        let app = Router::new()
            .route("/health", get(move || health_of_the_new(gateway.clone(), kubeconfig.clone())));
        let listener = self.health.take().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
    }

    /// Ends the processes of a container of that name, as a pod's are ended.
    pub(crate) async fn stop(&mut self, container: &str) {
        for mut server in self
            .running
            .extract_if(.., |server| server.spec().name == container)
            .collect::<Vec<_>>()
        {
            server.stop(LIMIT).await.unwrap();
        }
    }

    /// Whoever shall have a service account's token in its pod signs in with one.
    async fn signed_in(&self, pod: &Pod<'_>, spec: Spec) -> Spec {
        if pod.spec["automountServiceAccountToken"] == false {
            return spec;
        }
        spec.env(
            "KUBECONFIG",
            self.installed.sign_in_as(text(&pod.spec["serviceAccountName"])).await,
        )
    }

    /// What the servers have written about whom they refused something.
    fn refusals(&self) -> Vec<String> {
        let logs = self
            .running
            .iter()
            .filter(|server| ["nats", "mongodb"].contains(&&*server.spec().name));
        let lines =
            logs.flat_map(|server| server.log().lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| REFUSALS.iter().any(|refusal| line.contains(refusal))).collect()
    }

    /// A client of the gateway, without a token.
    pub(crate) fn gateway(&self) -> Client {
        Client::new(&format!(
            "http://127.0.0.1:{}",
            self.pods_of("oriyan-portfolio-app")[0].port_here("http")
        ))
    }

    async fn stores_a_contact(&self) {
        let id = self.posts_a_contact("Ada").await;
        self.has_stored(id).await;
    }

    /// Posts a contact, and gives its id.
    pub(crate) async fn posts_a_contact(&self, name: &str) -> bson::Uuid {
        let contact = json!({"name": name, "email": "ada@example.org", "message": "Hello"});
        let answer = self.gateway().post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        bson::Uuid::parse_str(answer.json()["id"].as_str().unwrap()).unwrap()
    }

    /// Waits until a contact is in MongoDB.
    pub(crate) async fn has_stored(&self, id: bson::Uuid) {
        let contacts = self.mongodb(Some("admin")).await.collection::<Document>("contacts");
        eventually("the document", || async { contacts.find_one(doc! {"_id": id}).await.ok()? })
            .await;
    }

    pub(crate) async fn rolls_out(&self, repository: &str, number: u64) {
        let id = self.posts_a_build(repository, number).await;
        self.has_rolled_out(&id).await;
    }

    /// Posts a build, and gives its id.
    pub(crate) async fn posts_a_build(&self, repository: &str, number: u64) -> String {
        self.posts(repository, number, Fate::Ready).await
    }

    /// Posts a build whose pods will fare so.
    pub(crate) async fn posts(&self, repository: &str, number: u64, fate: Fate) -> String {
        let image = format!("{repository}:{}", fate.tag(number));
        let build =
            json!({"job": "portfolio", "number": number, "status": "success", "image": image});
        let answer = self.ci().post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits for the verdict of a build, which has to be a good one.
    pub(crate) async fn has_rolled_out(&self, id: &str) {
        let build = self.verdict(id).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
    }

    /// A build, once it has its verdict.
    pub(crate) async fn verdict(&self, id: &str) -> Value {
        let path = format!("/api/builds/{id}?wait=20s");
        let verdict = within(LIMIT, "a verdict", || async {
            let build = self.ci().get(&path).await.ok()?.json();
            (build["terminal"] == true).then_some(build)
        });
        verdict.await.unwrap()
    }

    fn ci(&self) -> Client {
        self.signs_in("jenkins")
    }

    /// A client of the gateway who may decide.
    pub(crate) fn operator(&self) -> Client {
        self.signs_in("operator")
    }

    fn signs_in(&self, name: &str) -> Client {
        let token =
            fs::read_to_string(secrets_folder(self.installed).join("tokens").join(name)).unwrap();
        self.gateway().bearer(token.trim())
    }

    /// The bus, as one of its users.
    pub(crate) async fn bus(&self, user: &str) -> jetstream::Context {
        let secrets = secrets_folder(self.installed);
        let password = fs::read_to_string(secrets.join("nats").join(user)).unwrap();
        let options =
            ConnectOptions::with_user_and_password(user.to_owned(), password.trim().to_owned())
                .add_root_certificates(secrets.join("nats-tls/ca.crt"))
                .require_tls(true);
        let address = format!("127.0.0.1:{}", self.network.port("nats-0", 4_222));
        jetstream::new(options.connect(address).await.unwrap())
    }

    /// MongoDB, as a user or as nobody.
    pub(crate) async fn mongodb(&self, user: Option<&str>) -> Database {
        let password = |user: &str| {
            fs::read_to_string(secrets_folder(self.installed).join("mongodb").join(user)).unwrap()
        };
        let user =
            user.map(|user| format!("{user}:{}@", password(user).trim())).unwrap_or_default();
        let uri = self
            .network
            .translate("", &format!("mongodb://{user}mongodb-service:27017/?replicaSet=rs0"));
        mongodb::Client::with_uri_str(uri).await.unwrap().database("portfolio")
    }

    /// What would be near at hand for whoever has their passwords, or none.
    async fn users_of_mongodb_can_do_no_more(&self) {
        let insert = doc! {"insert": "contacts", "documents": [{"name": "Eve"}]};
        let insert_elsewhere = doc! {"insert": "others", "documents": [{"name": "Eve"}]};
        let find = doc! {"find": "contacts"};
        let update = doc! {"update": "contacts", "updates": [{"q": {}, "u": {"$set": {"name": "Eve"}}, "multi": true}]};
        let delete = doc! {"delete": "contacts", "deletes": [{"q": {}, "limit": 0}]};
        let drop = doc! {"drop": "contacts"};
        let index =
            doc! {"createIndexes": "contacts", "indexes": [{"key": {"name": 1}, "name": "name"}]};
        let make_user = doc! {"createUser": "eve", "pwd": "eve", "roles": ["readWrite"]};
        for (user, refusal, acts) in [
            (
                Some("contact-worker"),
                "not authorized",
                vec![&insert_elsewhere, &find, &update, &delete, &drop, &index, &make_user],
            ),
            (
                Some("provision"),
                "not authorized",
                vec![&insert, &find, &update, &delete, &drop, &make_user],
            ),
            (None, "requires authentication", vec![&insert, &find, &delete, &make_user]),
        ] {
            let database = self.mongodb(user).await;
            for act in acts {
                let error = database.run_command(act.clone()).await.unwrap_err().to_string();
                assert!(error.contains(refusal), "{user:?}: {act}: {error}");
            }
        }
    }
}

/// As the gateway that runs here tells it, with the version that the Deployment has.
async fn health_of_the_new(gateway: Client, kubeconfig: PathBuf) -> Json<Value> {
    let mut health = gateway.get("/health").await.unwrap().json();
    assert!(health["version"].is_string(), "{health}");
    let mut get = tokio::process::Command::new(find_tool("kubectl").unwrap());
    get.arg("--kubeconfig").arg(kubeconfig).args([
        "--namespace",
        NAMESPACE,
        "get",
        "deployment",
        "oriyan-portfolio-app",
    ]);
    get.args(["--output", "jsonpath={.spec.template.spec.containers[0].image}"]).kill_on_drop(true);
    let image = get.output().await.unwrap().stdout;
    health["version"] = json!(String::from_utf8_lossy(&image).rsplit(':').next());
    Json(health)
}

/// Waits until a server has written something.
async fn says(server: &mut Server, text: &str) {
    let log = server.spec().log_path();
    let said = || async { fs::read_to_string(&log).ok()?.contains(text).then_some(()) };
    server.ready(LIMIT, said).await.unwrap();
}

/// A container of a shell script that finds MongoDB's shell, and for `sleep` a program that ends at once.
fn without_sleep(spec: Spec) -> Spec {
    let folder = spec.folder.join("bin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("sleep"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("sleep"), fs::Permissions::from_mode(0o755)).unwrap();
    spec.env("PATH", path_with(&[folder, tools_folder()]))
}

fn names(containers: &Value) -> impl Iterator<Item = &str> {
    list(containers).iter().map(|container| text(&container["name"]))
}

pub(crate) fn secrets_folder(installed: &Installed) -> PathBuf {
    installed.scratch.path().join("secrets")
}

/// The programs that `k8s/make-secrets` needs. They are no part of the tools.
pub(crate) fn can_make_secrets() -> bool {
    testbed::can_run_with(&["openssl", "perl"], "REQUIRE_PROGRAMS")
}

/// Makes the Secrets as `docs/install.md` says.
pub(crate) async fn make_secrets(installed: &Installed) {
    let mut make = Command::new(workspace_folder().join("k8s/make-secrets"));
    make.arg(secrets_folder(installed))
        .env("PATH", path_with(&[tools_folder()]))
        .env("KUBERC", "off");
    let output = make.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    installed.cluster.apply(str::from_utf8(&output.stdout).unwrap()).await.unwrap();
}

/// The Secrets, as the API server has them.
async fn secrets(installed: &Installed) -> Vec<Value> {
    let get = ["--namespace", NAMESPACE, "get", "secrets", "--output", "json"];
    let found: Value =
        serde_json::from_str(&installed.cluster.kubectl(&get).await.unwrap()).unwrap();
    list(&found["items"]).to_vec()
}

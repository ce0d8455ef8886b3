//! One scenario: its target, its Deployment, and the means to act on both.

use std::{
    pin::Pin,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{Cluster, Fate, Scratch, eventually, find_tool, http, within};
use tokio::{io::AsyncReadExt, process::Command};

use crate::{
    table::{Kubectl, Row},
    world::{Bus, World},
};

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A scenario, and the target that it has for itself.
#[derive(Clone)]
pub(crate) struct Case {
    /// Names its target, its namespace and its repository too.
    pub(crate) name: &'static str,
    /// In the table.
    pub(crate) title: &'static str,
    /// What its target says beyond the least.
    pub(crate) settings: &'static str,
    /// What is other in its Deployment, as a merge patch.
    pub(crate) deployment: Value,
    /// The image's tag at first.
    pub(crate) first: String,
    /// The line of another target of the same repository.
    beside: &'static str,
    /// It starts its own gateway and deployers, because it breaks them.
    pub(crate) own_bus: bool,
    pub(crate) run: Arc<dyn Fn(Scene) -> Run + Send + Sync>,
}

/// What most targets say.
pub(crate) const USUAL: &str = "deadline: 30s, failure_grace: 3s, rollback: true";

impl Case {
    pub(crate) fn new<F, Fut>(name: &'static str, title: &'static str, run: F) -> Self
    where
        F: Fn(Scene) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            title,
            settings: USUAL,
            deployment: json!({}),
            first: Fate::Ready.tag(1),
            beside: "",
            own_bus: false,
            run: Arc::new(move |scene| Box::pin(run(scene))),
        }
    }

    pub(crate) fn settings(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }

    pub(crate) fn deployment(self, deployment: Value) -> Self {
        Self { deployment, ..self }
    }

    pub(crate) fn first(self, first: String) -> Self {
        Self { first, ..self }
    }

    pub(crate) fn beside(self, beside: &'static str) -> Self {
        Self { beside, ..self }
    }

    pub(crate) fn own_bus(self) -> Self {
        Self { own_bus: true, ..self }
    }

    /// Its line in `TARGETS_FILE`.
    pub(crate) fn target(&self, smoke: &str, git: &str) -> String {
        let Self { name, settings, .. } = self;
        let settings = settings.replace("SMOKE", &format!("\"{smoke}/{name}\""));
        let settings = settings.replace("GIT", &format!("\"{git}/{name}\"")).replace("NAME", name);
        format!(
            "  - {{ name: {name}, image: x/{name}, namespace: {name}, deployment: app, container: app, {settings} }}\n{}",
            self.beside.replace("GIT", &format!("\"{git}/{name}\""))
        )
    }

    /// Its Deployment.
    pub(crate) fn deployment_manifest(&self) -> String {
        let Self { name, first, .. } = self;
        let labels = json!({"app": name});
        let container = json!({"name": "app", "image": format!("x/{name}:{first}")});
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": name},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
        });
        json_patch::merge(&mut deployment, &self.deployment);
        deployment.to_string()
    }

    /// Its namespace and its Deployment.
    pub(crate) fn manifests(&self) -> String {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}});
        format!("{namespace}\n---\n{}", self.deployment_manifest())
    }
}

/// A scenario that is being played.
pub(crate) struct Scene {
    pub(crate) case: Case,
    pub(crate) world: Arc<World>,
    ci: http::Client,
}

/// A build that was posted.
pub(crate) struct Build<'a> {
    scene: &'a Scene,
    ci: http::Client,
    pub(crate) id: String,
}

/// A build whose image has been set, and `kubectl rollout status` that watches it.
pub(crate) struct Watched<'a> {
    pub(crate) build: Build<'a>,
    kubectl: tokio::task::JoinHandle<Option<Kubectl>>,
    asked: Instant,
}

/// A build with its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Verdict(pub(crate) Value);

impl Scene {
    /// Applies the Deployment, and waits until it stands as it can.
    pub(crate) async fn set(case: &Case, world: &Arc<World>) -> Self {
        let shared = world.shared().await;
        shared.cluster.apply(&case.manifests()).await.unwrap();
        let scene = Self { case: case.clone(), world: world.clone(), ci: shared.bus.gateway.ci() };
        scene.seen_by_controller().await;
        scene
    }

    pub(crate) async fn cluster(&self) -> &Cluster {
        &self.world.shared().await.cluster
    }

    /// The Deployment's controller has seen its latest generation, and made all its pods.
    pub(crate) async fn seen_by_controller(&self) {
        eventually("a Deployment that its controller has seen", || async {
            let text = self.kubectl(&["get", "deployment/app", "-o", "json"]).await.ok()?;
            let found: Value = serde_json::from_str(&text).ok()?;
            let paused = found["spec"]["paused"] == true;
            let seen = found["status"]["observedGeneration"] == found["metadata"]["generation"];
            let good = !self.case.first.contains("bad") && !paused;
            let desired = found["spec"]["replicas"].as_i64()?;
            let stands = found["status"]["availableReplicas"].as_i64().unwrap_or(0) == desired;
            (seen && (stands || !good)).then_some(())
        })
        .await;
    }

    /// Runs kubectl in the scenario's namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cluster().await.kubectl(&[&["--namespace", self.case.name], args].concat()).await
    }

    /// A field of the Deployment, by its JSON path.
    pub(crate) async fn field(&self, path: &str) -> String {
        self.kubectl(&["get", "deployment/app", "-o", &format!("jsonpath={{{path}}}")])
            .await
            .unwrap()
    }

    /// The image that the Deployment has.
    pub(crate) async fn image(&self) -> String {
        self.field(".spec.template.spec.containers[?(@.name==\"app\")].image").await
    }

    pub(crate) fn image_of(&self, tag: &str) -> String {
        format!("x/{}:{tag}", self.case.name)
    }

    /// Posts a build.
    pub(crate) async fn post(&self, tag: &str) -> Build<'_> {
        self.post_to(&self.ci, tag).await
    }

    pub(crate) async fn post_to(&self, ci: &http::Client, tag: &str) -> Build<'_> {
        let build = json!({"job": self.case.name, "number": 1, "status": "success", "image": self.image_of(tag)});
        let answer = ci.post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        Build { scene: self, ci: ci.clone(), id: answer.json()["id"].as_str().unwrap().to_owned() }
    }

    /// Posts a build and gives its verdict, beside kubectl's.
    pub(crate) async fn roll_out(&self, tag: &str) -> Verdict {
        self.post(tag).await.watched().await.verdict().await
    }

    /// From now on no rollout of it gets to its end: its pods are ready, and not available.
    pub(crate) async fn hold(&self) {
        self.available_after(500).await;
    }

    /// Ends what [`Self::hold`] began.
    pub(crate) async fn release(&self) {
        self.available_after(0).await;
    }

    async fn available_after(&self, seconds: u32) {
        let patch = json!({"spec": {"minReadySeconds": seconds}}).to_string();
        self.kubectl(&["patch", "deployment/app", "--type=merge", "--patch", &patch])
            .await
            .unwrap();
    }

    /// Keeps what was seen for the table.
    pub(crate) fn record(&self, verdict: &Verdict, kubectl: Option<Kubectl>) {
        let row = Row {
            verdict: verdict.state(),
            cause: verdict.cause(),
            after: verdict.seconds(),
            kubectl,
        };
        self.world.record(self.case.name, row);
    }

    /// A bus of its own, with so many deployers, in a scratch folder.
    pub(crate) async fn own_bus(&self, scratch: &Scratch, deployers: usize) -> Bus {
        let shared = self.world.shared().await;
        let git = format!("file://{}", shared.argocd.repositories().display());
        let targets = format!("targets:\n{}", self.case.target(&shared.smoke.url, &git));
        Bus::start(scratch, shared.cluster.kubeconfig().to_owned(), &targets, deployers).await
    }
}

impl<'a> Build<'a> {
    pub(crate) async fn show(&self) -> Value {
        eventually("a gateway that answers", || async {
            let answer = self.ci.get(&format!("/api/builds/{}", self.id)).await.ok()?;
            (answer.status == 200).then(|| answer.json())
        })
        .await
    }

    /// Waits until its rollout is, or was, in a state.
    pub(crate) async fn reaches(&self, state: &str) -> Value {
        eventually(&format!("a rollout that is {state}"), || async {
            let build = self.show().await;
            let states = Verdict(build.clone()).states();
            states.iter().any(|of| of == state).then_some(build)
        })
        .await
    }

    /// Starts `kubectl rollout status` once the image is set, or nothing comes of it.
    pub(crate) async fn watched(self) -> Watched<'a> {
        eventually("a rollout that has begun", || async {
            let build = self.show().await;
            let begun = Verdict(build.clone()).states().iter().any(|state| state == "progressing");
            (begun || build["terminal"] == true).then_some(())
        })
        .await;
        let asked = Instant::now();
        let kubeconfig = self.scene.cluster().await.kubeconfig().to_owned();
        let mut command = Command::new(find_tool("kubectl").unwrap());
        command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", self.scene.case.name]);
        command.args(["rollout", "status", "deployment/app", "--watch"]).env("KUBERC", "off");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let kubectl = tokio::spawn(async move {
            let status = child.wait().await.ok()?;
            let after = asked.elapsed().as_secs_f64();
            let mut text = String::new();
            let _ = child.stdout.take()?.read_to_string(&mut text).await;
            let _ = child.stderr.take()?.read_to_string(&mut text).await;
            let last = text.lines().last().unwrap_or_default().replace('|', "/");
            let said = if status.success() { "successfully rolled out".to_owned() } else { last };
            Some(Kubectl { said, after })
        });
        Watched { build: self, kubectl, asked }
    }

    /// Waits until nothing more happens to it.
    pub(crate) async fn verdict(&self) -> Verdict {
        let limit = Duration::from_mins(2);
        let build = within(limit, "a verdict", || async {
            let answer = self.ci.get(&format!("/api/builds/{}?wait=20s", self.id)).await.ok()?;
            if answer.status != 200 {
                return None;
            }
            let build = answer.json();
            (build["terminal"] == true).then_some(build)
        })
        .await;
        Verdict(build.unwrap())
    }
}

impl Watched<'_> {
    /// The verdict, recorded beside kubectl's.
    pub(crate) async fn verdict(self) -> Verdict {
        let Self { build, mut kubectl, asked } = self;
        let verdict = build.verdict().await;
        // Both look at the same status; kubectl starts slower.
        let said = tokio::time::timeout(Duration::from_secs(2), &mut kubectl).await;
        let said = if let Ok(said) = said {
            said.unwrap()
        } else {
            kubectl.abort();
            Some(Kubectl { said: "still waiting".to_owned(), after: asked.elapsed().as_secs_f64() })
        };
        let scene = build.scene;
        scene.record(&verdict, said);
        verdict
    }
}

impl Verdict {
    fn rollout(&self) -> &Value {
        &self.0["rollouts"][0]
    }

    pub(crate) fn state(&self) -> String {
        self.rollout()["state"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn states(&self) -> Vec<String> {
        let transitions = self.rollout()["transitions"].as_array().into_iter().flatten();
        transitions
            .map(|transition| transition["state"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub(crate) fn cause(&self) -> String {
        self.rollout()["diagnosis"]["cause"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn reason(&self) -> String {
        self.rollout()["reason"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn field(&self, pointer: &str) -> &Value {
        self.rollout().pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Seconds from the write to the verdict, or to the begin of the way back.
    pub(crate) fn seconds(&self) -> f64 {
        let transitions = self.rollout()["transitions"].as_array().cloned().unwrap_or_default();
        let time = |value: &Value| {
            value["at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap()
        };
        let written = transitions
            .iter()
            .find(|t| t["state"] == "progressing")
            .or(transitions.first())
            .map(&time);
        let ends = [
            "rolling_back",
            "succeeded",
            "failed",
            "rolled_back",
            "reverted",
            "rejected",
            "superseded",
        ];
        let decided =
            transitions.iter().find(|t| ends.iter().any(|end| t["state"] == *end)).map(time);
        let seconds = decided.zip(written).map(|(decided, written)| decided - written);
        seconds.map_or(f64::NAN, |seconds| {
            f64::from(i32::try_from(seconds.num_milliseconds()).unwrap()) / 1000.0
        })
    }

    /// Asserts the verdict, its cause, and that it came in time.
    #[track_caller]
    pub(crate) fn is(&self, state: &str, cause: &str, within_seconds: f64) -> &Self {
        assert_eq!((self.state().as_str(), self.cause().as_str()), (state, cause), "{:#}", self.0);
        let seconds = self.seconds();
        assert!(
            seconds <= within_seconds,
            "after {seconds} s, allowed are {within_seconds} s: {:#}",
            self.0
        );
        self
    }

    #[track_caller]
    pub(crate) fn succeeded(&self, within_seconds: f64) -> &Self {
        self.is("succeeded", "", within_seconds)
    }

    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> &Self {
        assert!(self.reason().contains(part), "no {part:?} in {:?}", self.reason());
        self
    }
}

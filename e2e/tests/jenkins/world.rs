//! What the pipeline meets. Control plane, registry and ArgoCD are shared; bus, services and namespace are each test's own.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use testbed::{
    ArgoCd, Cluster, Gateway, Nats, REGISTRY_PASSWORD, REGISTRY_USER, Registry, Scratch, Server,
    Service, Spec, system,
};
use tokio::sync::OnceCell;

use crate::{
    jenkins::{self, Credential, Ended, Job},
    project::Project,
    service::Application,
};

const REPOSITORY: &str = "mastereflex123/portfolio";

/// The trace that the build belongs to, as Jenkins' OpenTelemetry plugin has it in the environment.
pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) registry: Registry,
    pub(crate) argocd: ArgoCd,
}

/// They end with the process.
pub(crate) async fn shared() -> &'static Shared {
    static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().unwrap());
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let start = || async {
        let cluster = Cluster::start(&SCRATCH.folder("cluster").unwrap()).await.unwrap();
        let registry = Registry::start(&SCRATCH.folder("registry").unwrap()).await.unwrap();
        let argocd = ArgoCd::start(&SCRATCH.folder("argocd").unwrap(), &cluster).await.unwrap();
        Shared { cluster, registry, argocd }
    };
    SHARED.get_or_init(start).await
}

/// Everything that a pipeline needs, in a namespace that enforces Pod Security `restricted`.
pub(crate) struct World {
    // Ended in this order.
    _kubelet: Server,
    _deployer: Service,
    pub(crate) gateway: Gateway,
    _nats: Nats,
    pub(crate) application: Application,
    pub(crate) project: Project,
    pub(crate) scratch: Scratch,
    pub(crate) namespace: &'static str,
    /// With the rights that Jenkins has by the manifests.
    kubeconfig: String,
    builds: AtomicU64,
}

/// The two Deployments that targets name: the gateway's and the worker's.
const DEPLOYMENTS: [(&str, &str, &str); 2] =
    [("oriyan-portfolio-app", "app", ""), ("contact-worker", "contact-worker", "-contact-worker")];

fn deployments(namespace: &str, repository: &str) -> Vec<Value> {
    let deployment = |(name, container, suffix): (&str, &str, &str)| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": container, "image": format!("{repository}{suffix}:v1-0000001"),
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            }}}})
    };
    DEPLOYMENTS.into_iter().map(deployment).collect()
}

fn targets(namespace: &str, repository: &str) -> String {
    DEPLOYMENTS.iter().fold("targets:\n".to_owned(), |text, (name, container, suffix)| {
        format!(
            "{text}  - {{ name: {name}, image: '{repository}{suffix}', namespace: {namespace}, deployment: {name}, \
             container: {container}, deadline: 60s, rollback: true }}\n"
        )
    })
}

impl World {
    /// Starts all of it, unless there is no curl.
    pub(crate) async fn start(namespace: &'static str) -> Option<Self> {
        if !testbed::can_run_with(&["curl"], "REQUIRE_PROGRAMS") {
            return None;
        }
        let Shared { cluster, registry, .. } = shared().await;
        let repository = format!("{}/{REPOSITORY}", registry.host);
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let mut items = deployments(namespace, &repository);
        items.insert(
            0,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}),
        );
        cluster
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
            .await
            .unwrap();

        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        let folder = scratch.folder("deployer").unwrap();
        let text = targets(namespace, &repository);
        let spec =
            system::deployer_spec(&folder, &nats.url(), cluster.kubeconfig(), &text).unwrap();
        let deployer = system::start(spec).await.unwrap();
        allow(namespace, "k8s/jenkins-access.yaml").await;
        let signed_in = scratch.path().join("jenkins.kubeconfig");
        cluster.sign_in_as(namespace, "jenkins", &signed_in).await.unwrap();
        let kubeconfig = cluster.kubeconfig().to_string_lossy().into_owned();
        let program = jenkins::here().join("stand_ins/kubelet");
        let spec = Spec::new("kubelet", program, &scratch.folder("kubelet").unwrap());
        let kubelet =
            Server::start(spec.args([kubeconfig.as_str(), namespace]).env("PATH", jenkins::path()))
                .unwrap();
        let project = Project::new(scratch.folder("project").unwrap(), &repository);
        Some(Self {
            _kubelet: kubelet,
            _deployer: deployer,
            gateway,
            _nats: nats,
            application: Application::start(),
            project,
            scratch,
            namespace,
            kubeconfig: signed_in.to_string_lossy().into_owned(),
            builds: AtomicU64::new(2),
        })
    }

    /// Gives Jenkins what it needs where there is no deployer.
    pub(crate) async fn without_a_deployer(&self) {
        allow(self.namespace, "k8s/jenkins-kubectl-access.yaml").await;
    }

    /// The gateway's image, by its tag.
    pub(crate) async fn image(&self, tag: &str) -> String {
        format!("{}/{REPOSITORY}:{tag}", shared().await.registry.host)
    }

    /// The image of the gateway's Deployment.
    pub(crate) async fn deployed(&self) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        let get = [
            "--namespace",
            self.namespace,
            "get",
            "deployment",
            "oriyan-portfolio-app",
            "--output",
            path,
        ];
        shared().await.cluster.kubectl(&get).await.unwrap()
    }

    /// The number of the next build.
    pub(crate) fn next(&self) -> u64 {
        self.builds.load(Ordering::Relaxed)
    }

    /// How often docker was called, and how.
    pub(crate) fn docker_calls(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("docker/calls")).unwrap_or_default()
    }

    /// A build of `main`, with all credentials as they have to be.
    pub(crate) async fn build(&self, parameters: &[(&str, &str)]) -> Ended {
        self.build_with(parameters, [REGISTRY_PASSWORD, system::CI_TOKEN]).await
    }

    /// A build with this password for the registry and this token for the gateway; an empty one is none.
    pub(crate) async fn build_with(
        &self,
        parameters: &[(&str, &str)],
        [password, token]: [&str; 2],
    ) -> Ended {
        let login = [("username", REGISTRY_USER), ("password", password)];
        let (secret, file) = ([("secret", token)], [("file", self.kubeconfig.as_str())]);
        let credentials: [Credential<'_>; 4] = [
            ("registry", "usernamePassword", &login),
            ("deploy-token", "string", &secret),
            ("kubeconfig", "file", &file),
            // The repository is a folder, for which git asks for no key.
            ("gitops-key", "sshUserPrivateKey", &file),
        ];
        let there =
            |(_, _, fields): &Credential<'_>| fields.iter().all(|(_, value)| !value.is_empty());
        let credentials: Vec<_> = credentials.into_iter().filter(there).collect();
        let environment = [
            ("GATEWAY_URL", self.gateway.url.clone()),
            ("IMAGE_REPOSITORY", self.image("").await.trim_end_matches(':').to_owned()),
            ("NAMESPACE", self.namespace.to_owned()),
            ("SMOKE_URL", self.application.url.clone()),
            ("SMOKE_TIMEOUT", "20s".to_owned()),
            ("DEPLOY_TIMEOUT", "60s".to_owned()),
            ("ARGOCD_APPLICATION", self.namespace.to_owned()),
            ("ARGOCD_TIMEOUT", "60s".to_owned()),
            ("TRACEPARENT", format!("00-{TRACE}-b7ad6b7169203331-01")),
            ("DOCKER_IMAGES", self.scratch.path().join("docker").to_string_lossy().into_owned()),
            ("CONTAINER_TOOL", "docker".to_owned()),
        ];
        let number = self.builds.fetch_add(1, Ordering::Relaxed);
        let job = Job {
            repository: self.project.path(),
            workspace: self.scratch.path().join(format!("workspace-{number}")),
            number,
            parameters,
            credentials: &credentials,
            environment: &environment,
        };
        let ended = jenkins::run(job).await;
        println!("== {} #{number} {parameters:?}\n{}", self.namespace, ended.console);
        for secret in [password, token] {
            assert!(
                secret.is_empty() || !ended.console.contains(secret),
                "a secret is in the console"
            );
            assert!(
                secret.is_empty() || !self.docker_calls().contains(secret),
                "a secret is on a command line"
            );
        }
        ended
    }
}

/// Applies a manifest of Jenkins' rights, for a namespace and its Application.
async fn allow(namespace: &str, access: &str) {
    let text = std::fs::read_to_string(testbed::workspace_folder().join(access)).unwrap();
    let text =
        text.replace("oriyan-portfolio-app", "DEPLOYMENT").replace("oriyan-portfolio", namespace);
    let text = text
        .replace("portfolio-app", namespace)
        .replace("portfolio-jenkins", &format!("{namespace}-jenkins"));
    shared()
        .await
        .cluster
        .apply(&text.replace("DEPLOYMENT", "oriyan-portfolio-app"))
        .await
        .unwrap();
}

/// An Application of the namespace's Deployments, which leaves their images to us, and what Jenkins may ask of it.
pub(crate) async fn follow_with_argocd(world: &World) {
    let Shared { cluster, registry, argocd } = shared().await;
    let name = world.namespace;
    allow(name, "argocd/jenkins-access.yaml").await;
    let manifests = deployments(name, &format!("{}/{REPOSITORY}", registry.host));
    let text: Vec<_> = manifests.iter().map(Value::to_string).collect();
    argocd.commit(name, &text.join("\n---\n")).unwrap();
    let spec = json!({
        "ignoreDifferences": [{"group": "apps", "kind": "Deployment",
            "jqPathExpressions": [".spec.template.spec.containers[].image"]}],
        "syncPolicy": {"automated": {"selfHeal": true}, "syncOptions": ["RespectIgnoreDifferences=true"]},
    });
    cluster.apply(&argocd.application(name, name, &spec)).await.unwrap();
    argocd.is_well(cluster, name).await.unwrap();
}

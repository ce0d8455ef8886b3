//! Our Applications on a real `ArgoCD`, which applies the manifests as they are from a git repository.
//!
//! What differs: the repository is a folder of this machine, which the deployer reaches by SSH where OpenSSH's server is
//! installed. And since nothing measures pods here, `ArgoCD` is told not to call the `HorizontalPodAutoscaler` degraded for it.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use testbed::{
    ArgoCd, Fate, Gateway, Nats, Service, Sshd, eventually, http::Client, system, workspace_folder,
};

use crate::{
    documents,
    installed::{Installed, NAMESPACE},
    processes::{System, make_secrets, with_changed},
    rights::lines_without,
};

const APPLICATION: &str = "portfolio-app";

/// Where `ArgoCD` and the deployer find the repository otherwise.
const REPOSITORIES: [&str; 2] = [
    "https://github.com/mastereflex123/portfolio.git",
    "git@github.com:mastereflex123/portfolio.git",
];

/// What `gitops` commits to.
const KUSTOMIZATION: &str = "overlays/gitops/kustomization.yaml";

/// The manifests in a repository, and an `ArgoCD` that may apply them.
pub(crate) struct Delivered {
    installed: Installed,
    argocd: ArgoCd,
    gateway: Gateway,
    nats: Nats,
    sshd: Option<Sshd>,
}

impl Delivered {
    pub(crate) async fn start() -> Self {
        let installed = Installed::empty().await.with_folder("k8s/overlays/gitops");
        let argocd =
            ArgoCd::start(&installed.scratch.folder("argocd").unwrap(), &installed.cluster)
                .await
                .unwrap();
        let health = json!({"data": {
            "resource.customizations.health.autoscaling_HorizontalPodAutoscaler": "return {status = \"Healthy\"}"
        }});
        kubectl(&installed, &["patch", "configmap", "argocd-cm", "--patch", &health.to_string()])
            .await;
        argocd.commit_files(APPLICATION, &[("README.md", "The manifests")]).unwrap();
        argocd.edit(APPLICATION, "the manifests", copy_manifests).unwrap();
        let nats = Nats::start(&installed.scratch.folder("nats").unwrap()).await.unwrap();
        let gateway =
            Gateway::start(&installed.scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        let openssh = "OpenSSH's client and server; git finds a folder instead";
        let sshd = if testbed::can_run(Sshd::program().is_some(), openssh, "REQUIRE_SSHD") {
            Some(Sshd::start(&installed.scratch.folder("sshd").unwrap()).await.unwrap())
        } else {
            None
        };
        Self { installed, argocd, gateway, nats, sshd }
    }

    /// What the documents ask `ArgoCD` has an answer.
    pub(crate) fn answers(&self) {
        documents::run_at(documents::WITH_ARGOCD, &self.installed);
    }

    /// Applies an Application's kustomization, and waits until `ArgoCD` has applied everything.
    pub(crate) async fn apply(&self, kustomization: &str) {
        let folder = workspace_folder().join(kustomization).display().to_string();
        let text = self.installed.cluster.kubectl(&["kustomize", &folder]).await.unwrap();
        self.installed.cluster.apply(&self.here(&text)).await.unwrap();
        self.is_well().await;
    }

    async fn is_well(&self) {
        self.argocd.is_well(&self.installed.cluster, APPLICATION).await.unwrap();
    }

    /// With the repository that is here.
    fn here(&self, text: &str) -> String {
        let here = format!("file://{}", self.argocd.repositories().join(APPLICATION).display());
        REPOSITORIES.iter().fold(text.to_owned(), |text, there| text.replace(there, &here))
    }

    /// A deployer with the rights that the manifests give it, and with their targets.
    pub(crate) async fn deployer(&self) -> Service {
        let kubeconfig = self.installed.sign_in_as("deployer").await;
        let targets =
            fs::read_to_string(workspace_folder().join("k8s/config/targets.yaml")).unwrap();
        // No container runs here that a smoke test could ask.
        let targets = lines_without(&targets, &["smoke:"]);
        let folder = self.installed.scratch.folder("live").unwrap();
        let spec = system::deployer_spec(&folder, &self.nats.url(), &kubeconfig, &targets).unwrap();
        system::start(spec).await.unwrap()
    }

    /// A file of configuration, with the repository that is here, by SSH where there is a server for it.
    fn where_git_is(&self, file: &str) -> String {
        match &self.sshd {
            Some(sshd) if file.contains("github.com ssh-ed25519 ") => {
                fs::read_to_string(sshd.known_hosts_file()).unwrap()
            }
            Some(sshd) => {
                let folder = self.argocd.repositories().join(APPLICATION);
                file.replace(REPOSITORIES[1], &sshd.url(&folder))
            }
            None if file.contains(REPOSITORIES[1]) => {
                self.here(&lines_without(file, &["key_file:", "known_hosts_file:"]))
            }
            // Others have a `key_file` too.
            None => file.to_owned(),
        }
    }

    /// Posts a build, and gives what identifies it.
    pub(crate) async fn post(&self, service: &str, number: u64, fate: Fate) -> String {
        let image = format!("{}:{}", image(service), fate.tag(number));
        let build = json!({"job": service, "number": number, "status": "success", "image": image});
        let answer = self.ci().post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The build, once it has its verdict.
    pub(crate) async fn verdict(&self, id: &str) -> Value {
        eventually("a verdict", || async {
            let build = self.ci().get(&format!("/api/builds/{id}?wait=20s")).await.ok()?.json();
            (build["terminal"] == true).then_some(build)
        })
        .await
    }

    fn ci(&self) -> Client {
        self.gateway.ci()
    }

    /// The tag that a Deployment has.
    async fn tag(&self, deployment: &str) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        let get = ["--namespace", NAMESPACE, "get", "deployment", deployment, "--output", path];
        let image = self.installed.cluster.kubectl(&get).await.unwrap();
        image.rsplit_once(':').unwrap().1.to_owned()
    }

    /// Has `ArgoCD` compare, and waits until it has.
    async fn compared(&self) {
        let refresh = "argocd.argoproj.io/refresh";
        kubectl(
            &self.installed,
            &["annotate", "application", APPLICATION, &format!("{refresh}=normal")],
        )
        .await;
        eventually("a comparison", || async {
            let get =
                ["get", "application", APPLICATION, "--output", "jsonpath={.metadata.annotations}"];
            (!kubectl(&self.installed, &get).await.contains(refresh)).then_some(())
        })
        .await;
    }

    /// With the settings that our Application has, `ArgoCD` keeps what the deployer patches.
    pub(crate) async fn keeps_a_live_patch(&self) {
        for (service, deployment) in
            [("gateway", "oriyan-portfolio-app"), ("contact-worker", "contact-worker")]
        {
            let build = self.verdict(&self.post(service, 2, Fate::Ready).await).await;
            assert_eq!(build["rollouts"][0]["state"], "succeeded", "{build:#}");
            self.compared().await;
            assert_eq!(self.tag(deployment).await, Fate::Ready.tag(2), "{deployment}");
        }
        // Other changes are undone all the same.
        let scale =
            ["--namespace", NAMESPACE, "scale", "deployment", "contact-worker", "--replicas=5"];
        self.installed.cluster.kubectl(&scale).await.unwrap();
        eventually("its replicas of before", || async {
            let get = [
                "--namespace",
                NAMESPACE,
                "get",
                "deployment",
                "contact-worker",
                "--output",
                "jsonpath={.spec.replicas}",
            ];
            (self.installed.cluster.kubectl(&get).await.ok()? != "5").then_some(())
        })
        .await;
        assert_eq!(self.tag("contact-worker").await, Fate::Ready.tag(2));
    }

    /// Without them, it undoes the patch, and the verdict says which settings are missing.
    pub(crate) async fn undoes_it_without_our_settings(&self) {
        let without = json!([
            {"op": "remove", "path": "/spec/ignoreDifferences"},
            {"op": "remove", "path": "/spec/syncPolicy/syncOptions"},
        ]);
        let patch =
            ["patch", "application", APPLICATION, "--type=json", "--patch", &without.to_string()];
        kubectl(&self.installed, &patch).await;
        eventually("the tag of the branch", || async {
            (self.tag("oriyan-portfolio-app").await == "v1-0000000").then_some(())
        })
        .await;
        self.is_well().await;
        let build = self.verdict(&self.post("gateway", 3, Fate::NeverReady).await).await;
        assert_eq!(build["rollouts"][0]["state"], "reverted", "{build:#}");
        let hint = build.to_string();
        assert!(
            hint.contains("ignoreDifferences") && hint.contains("RespectIgnoreDifferences=true"),
            "{build:#}"
        );
        kubectl(&self.installed, &["delete", "application", APPLICATION]).await;
    }

    /// Runs the processes of the overlay `gitops` with what it gives them.
    pub(crate) async fn commits(&self) {
        make_secrets(&self.installed).await;
        // Without a server, nobody asks for a key.
        let key = self.sshd.as_ref().map_or_else(
            || "--from-literal=ssh-privatekey=none".to_owned(),
            |sshd| format!("--from-file=ssh-privatekey={}", sshd.key_file().display()),
        );
        let create = ["--namespace", NAMESPACE, "create", "secret", "generic", "git-deploy-key"];
        let create = [&create[..], &["--type=kubernetes.io/ssh-auth", &key]].concat();
        self.installed.cluster.kubectl(&create).await.unwrap();
        let address: Vec<_> = self.sshd.iter().map(Sshd::address).collect();
        with_changed(
            &self.installed,
            |file| self.where_git_is(file),
            &address,
            async |system| {
                system.start_all().await;
                self.deploys_commits(system).await;
                self.commits_the_way_back(system).await;
            },
        )
        .await;
        let log = self.sshd.as_ref().map(|sshd| sshd.server.log());
        assert!(log.as_ref().is_none_or(|log| log.contains("Accepted publickey")), "{log:?}");
    }

    /// Two builds at once are two commits, and both are deployed.
    async fn deploys_commits(&self, system: &System<'_>) {
        let (one, two) = tokio::join!(
            system.posts(image("gateway"), 4, Fate::Ready),
            system.posts(image("contact-worker"), 4, Fate::Ready)
        );
        let (one, two) = tokio::join!(system.verdict(&one), system.verdict(&two));
        for (build, deployment) in [(one, "oriyan-portfolio-app"), (two, "contact-worker")] {
            assert_eq!(build["rollouts"][0]["state"], "succeeded", "{build:#}");
            assert_eq!(self.tag(deployment).await, Fate::Ready.tag(4), "{deployment}");
        }
        let committed = self
            .argocd
            .git(APPLICATION, &["show", &format!("gitops-staging:{KUSTOMIZATION}")])
            .unwrap();
        assert_eq!(
            committed.matches(&format!("newTag: {}", Fate::Ready.tag(4))).count(),
            2,
            "{committed}"
        );
    }

    /// The way back is a commit, too, and nothing holds `ArgoCD` up on it.
    async fn commits_the_way_back(&self, system: &System<'_>) {
        let build =
            system.verdict(&system.posts(image("gateway"), 5, Fate::ImageNotFound).await).await;
        assert_eq!(build["rollouts"][0]["state"], "rolled_back", "{build:#}");
        assert_eq!(self.tag("oriyan-portfolio-app").await, Fate::Ready.tag(4));
        self.is_well().await;
    }
}

fn image(service: &str) -> &'static str {
    match service {
        "gateway" => "mastereflex123/portfolio",
        _ => "mastereflex123/portfolio-contact-worker",
    }
}

async fn kubectl(installed: &Installed, args: &[&str]) -> String {
    installed.cluster.kubectl(&[&["--namespace", "argocd"], args].concat()).await.unwrap()
}

/// As they stand here, with the links between them.
fn copy_manifests(clone: &Path) -> anyhow::Result<()> {
    for folder in ["k8s", "overlays", "nats"] {
        let status = Command::new("cp")
            .arg("-a")
            .arg(workspace_folder().join(folder))
            .arg(clone)
            .status()?;
        anyhow::ensure!(status.success(), "{folder} cannot be copied");
    }
    Ok(())
}

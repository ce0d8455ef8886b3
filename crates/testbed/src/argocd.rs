//! A real `ArgoCD` beside a control plane: its controller and its repository server, a Redis, and a git repository on disk.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::{
    Cluster, Scratch, Server, Spec, find_tool, free_port, path_with, process::START, tools_folder,
    within,
};

/// The branch that Applications follow.
const BRANCH: &str = "gitops-staging";

/// How often a push is tried while others push too.
const TRIES: u32 = 20;

/// `ArgoCD`, in the namespace `argocd`.
#[derive(Debug)]
pub struct ArgoCd {
    // Ended in this order.
    _controller: Server,
    _repository_server: Server,
    _redis: Server,
    folder: PathBuf,
}

impl ArgoCd {
    /// Starts one that keeps its files in the folder.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path, cluster: &Cluster) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let crds = tools_folder().join("argocd-crds");
        cluster.kubectl(&["apply", "--server-side", "--filename", &crds.to_string_lossy()]).await?;
        // A kind that has been defined is served a moment later.
        within(START, "Applications that are served", || async {
            cluster.apply(&settings()).await.ok()
        })
        .await?;

        let redis_port = free_port();
        let mut redis =
            Server::start(Spec::new("redis", find_tool("redis-server")?, folder).args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &redis_port.to_string(),
            ]))?;
        let answers = move || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", redis_port)).await.ok().map(|_| ())
        };
        redis.ready(START, answers).await?;

        let redis_address = format!("127.0.0.1:{redis_port}");
        let port = free_port();
        let mut repository_server = Server::start(
            part("argocd-repo-server", folder, cluster)?
                .args([
                    "--redis",
                    &redis_address,
                    "--disable-tls",
                    "--address",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                ])
                .args(["--metrics-port", &free_port().to_string()]),
        )?;
        let answers = move || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(|_| ())
        };
        repository_server.ready(START, answers).await?;
        let mut controller = Server::start(
            part("argocd-application-controller", folder, cluster)?
                .args([
                    "--namespace",
                    "argocd",
                    "--redis",
                    &redis_address,
                    "--repo-server-plaintext",
                ])
                .args([
                    "--repo-server",
                    &format!("127.0.0.1:{port}"),
                    "--metrics-port",
                    &free_port().to_string(),
                ])
                .args(["--app-resync", "10", "--self-heal-timeout-seconds", "1"]),
        )?;
        controller.check_running()?;
        Ok(Self {
            _controller: controller,
            _repository_server: repository_server,
            _redis: redis,
            folder: folder.to_owned(),
        })
    }

    /// Commits a manifest to the repository of that name, at `k8s/app.yaml`, and makes the repository if need be.
    ///
    /// # Errors
    /// git fails.
    pub fn commit(&self, repository: &str, manifest: &str) -> anyhow::Result<()> {
        self.commit_files(repository, &[("k8s/app.yaml", manifest)])
    }

    /// Commits files to the repository of that name, and makes it if need be.
    ///
    /// # Errors
    /// git fails.
    pub fn commit_files(&self, repository: &str, files: &[(&str, &str)]) -> anyhow::Result<()> {
        let bare = self.repository(repository);
        if !bare.exists() {
            fs::create_dir_all(&bare)?;
            git(&bare, &["init", "--quiet", "--bare", "--initial-branch", BRANCH])?;
        }
        self.edit(repository, "the application", |clone| {
            for (path, text) in files {
                let path = clone.join(path);
                fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
                fs::write(path, text)?;
            }
            Ok(())
        })
    }

    /// Changes files as a person does: in a clone, which is pushed then. Whoever was faster is kept: it is done again, upon theirs.
    ///
    /// # Errors
    /// git fails, or others keep being faster.
    pub fn edit(
        &self,
        repository: &str,
        message: &str,
        change: impl Fn(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let bare = self.repository(repository);
        let mut pushed = Ok(String::new());
        for _ in 0..TRIES {
            let scratch = Scratch::new()?;
            let clone = scratch.folder("clone")?;
            git(&clone, &["clone", "--quiet", &bare.to_string_lossy(), "."])?;
            change(&clone)?;
            git(&clone, &["add", "."])?;
            git(&clone, &["commit", "--quiet", "--message", message])?;
            pushed = git(&clone, &["push", "--quiet", "origin", &format!("HEAD:{BRANCH}")]);
            if pushed.is_ok() {
                break;
            }
        }
        pushed.map(|_| ())
    }

    /// Where the repositories are.
    pub fn repositories(&self) -> PathBuf {
        self.folder.join("git")
    }

    /// Runs git in the repository of that name, and gives what it says.
    ///
    /// # Errors
    /// git fails.
    pub fn git(&self, repository: &str, args: &[&str]) -> anyhow::Result<String> {
        git(&self.repository(repository), args)
    }

    /// An Application for such a repository, into a namespace, synchronised by itself. `spec` is merged into its own.
    pub fn application(&self, name: &str, namespace: &str, spec: &serde_json::Value) -> String {
        let mut application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": format!("file://{}", self.repository(name).display()), "targetRevision": BRANCH, "path": "k8s"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": {"automated": {"prune": true}},
            },
        });
        merge(&mut application["spec"], spec);
        application.to_string()
    }

    /// Waits until an Application is in sync and healthy.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn is_well(&self, cluster: &Cluster, name: &str) -> anyhow::Result<()> {
        let get = |path: &'static str| {
            let args = ["--namespace", "argocd", "get", "application", name, "-o", path]
                .map(str::to_owned);
            async move { cluster.kubectl(&args.each_ref().map(String::as_str)).await }
        };
        let well = within(Duration::from_mins(1), "an Application that is well", || async {
            let found = get("jsonpath={.status.sync.status} {.status.health.status}").await.ok()?;
            (found == "Synced Healthy").then_some(())
        });
        if let Err(error) = well.await {
            let status = get("jsonpath={.status}").await.unwrap_or_default();
            return Err(error.context(format!("the Application {name} has the status {status}")));
        }
        Ok(())
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.repositories().join(name)
    }
}

/// One of `ArgoCD`'s parts, which are one program that does what it is called.
fn part(name: &str, folder: &Path, cluster: &Cluster) -> anyhow::Result<Spec> {
    let program = folder.join(name);
    let _ = fs::remove_file(&program);
    symlink(find_tool("argocd")?, &program)?;
    // kustomize is among the tools too.
    let path = path_with(&[tools_folder()]);
    let spec =
        Spec::new(name, program, folder).env("KUBECONFIG", cluster.kubeconfig()).env("PATH", path);
    // Its own places would be those of its image.
    let spec = spec
        .env("ARGOCD_FAKE_IN_CLUSTER", "true")
        .env("ARGOCD_GPG_ENABLED", "false")
        .env("HOME", folder)
        .env("TMPDIR", folder);
    Ok(spec)
}

fn settings() -> String {
    let labels = json!({"app.kubernetes.io/part-of": "argocd"});
    let metadata = |name: &str| json!({"name": name, "namespace": "argocd", "labels": labels});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("argocd-cm"), "data": {"timeout.reconciliation": "10s"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("argocd-secret"), "stringData": {"server.secretkey": "testbed"}},
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": metadata("default"),
         "spec": {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}},
    ]})
    .to_string()
}

fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Runs git without the caller's own configuration.
fn git(folder: &Path, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "user.name=testbed",
        "-c",
        "user.email=testbed@localhost",
        "-c",
        "commit.gpgsign=false",
    ]);
    command
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().context("git has to be on the PATH")?;
    ensure!(
        output.status.success(),
        "git {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

//! The cluster of `up`: one of our own, or the user's.

use std::path::{Path, PathBuf};

use anyhow::Context;
use testbed::{Cluster, find_tool};

use crate::run::{command, output, say};

/// The deployer's `TARGETS_FILE`. What the smoke test and the Argo Application need is not there.
pub(crate) const TARGETS: &str = "\
targets:
  - name: portfolio
    image: docker.io/mastereflex123/portfolio
    namespace: oriyan-portfolio
    deployment: oriyan-portfolio-app
    container: app
    deadline: 2m
    rollback: true
";

/// What a new cluster of our own has to deploy to.
const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: { name: oriyan-portfolio }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: oriyan-portfolio-app, namespace: oriyan-portfolio }
spec:
  replicas: 2
  selector: { matchLabels: { app: portfolio } }
  template:
    metadata: { labels: { app: portfolio } }
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{ name: app, image: 'mastereflex123/portfolio:v1-0000001' }]
";

/// A cluster that builds go to.
pub(crate) enum Kubernetes {
    /// Ends with us.
    Ours(Box<Cluster>),
    /// Was there before us, and is reached with this file.
    Theirs(PathBuf),
}

impl Kubernetes {
    /// Starts one, with a Deployment to deploy to.
    pub(crate) async fn of_our_own(folder: &Path) -> anyhow::Result<Self> {
        let cluster = Cluster::start(folder).await?;
        let there = ["-n", "oriyan-portfolio", "get", "deployment", "oriyan-portfolio-app"];
        if cluster.kubectl(&there).await.is_err() {
            cluster.apply(MANIFESTS).await?;
        }
        Ok(Self::Ours(Box::new(cluster)))
    }

    /// Uses the user's, and changes nothing in it but the image of the target.
    pub(crate) fn of_the_user(
        file: &Path,
        context: Option<&str>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let kubectl = find_tool("kubectl")?;
        let mut view = command(
            &kubectl.to_string_lossy(),
            ["config", "view", "--raw", "--minify", "--flatten"],
        );
        view.arg("--kubeconfig")
            .arg(file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?);
        view.args(context.map(|name| format!("--context={name}")));
        // One context alone, since the deployer takes the current one.
        let path = folder.join("kubeconfig");
        write_private(&path, &output(view)?)?;
        let mut get =
            command(&kubectl.to_string_lossy(), ["get", "deployment", "oriyan-portfolio-app"]);
        get.args(["--namespace=oriyan-portfolio", "--request-timeout=10s", "--kubeconfig"])
            .arg(&path);
        if let Err(error) = output(get) {
            say(&format!(
                "builds will fail until Deployment/oriyan-portfolio-app is in namespace oriyan-portfolio: {error}"
            ));
        }
        Ok(Self::Theirs(path))
    }

    /// How it is reached.
    pub(crate) fn kubeconfig(&self) -> &Path {
        match self {
            Self::Ours(cluster) => cluster.kubeconfig(),
            Self::Theirs(path) => path,
        }
    }

    /// Stops it if it is ours.
    pub(crate) async fn stop(self) {
        if let Self::Ours(cluster) = self {
            cluster.stop().await;
        }
    }
}

/// It may hold the user's credentials.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

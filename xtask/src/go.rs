//! Programs that are built with Go, from the versions and sums in the folders of `tools`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use testbed::on_path;

use crate::{
    run::{command, install as put, output, say},
    tools::{Source, Tool},
};

/// How often the build says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(15);

/// Without these, the programs call themselves v0.0.0, and kubectl cannot tell what it speaks to.
const LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                       -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

/// Without this, it calls itself v99.99.99.
const ARGOCD_LDFLAGS: &str = "-s -w -X github.com/argoproj/argo-cd/v3/common.version=3.1.0";

/// Without this, it calls itself (devel).
const KUSTOMIZE_LDFLAGS: &str = "-s -w -X sigs.k8s.io/kustomize/api/provenance.version=v5.8.1";

/// Without this, it does not know its version.
const JAEGER_LDFLAGS: &str =
    "-s -w -X github.com/jaegertracing/jaeger/internal/version.latestVersion=v1.76.0";

/// Without this, it does not know its version.
const REGISTRY_LDFLAGS: &str =
    "-s -w -X github.com/distribution/distribution/v3/version.version=v3.0.0";

/// Without this, they do not know their versions.
const NATS_LDFLAGS: [&str; 2] = [
    "github.com/nats-io/natscli/nats=-s -w -X main.version=0.5.0",
    "github.com/nats-io/prometheus-nats-exporter=-s -w -X main.version=0.20.1",
];

/// Builds all of `tools/cluster`, since they share most of what they are made of.
pub(crate) fn install_cluster(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say(
        "Kubernetes control plane: building etcd, API server, controllers, scheduler and KWOK; the first time takes some minutes …",
    );
    install("cluster", &[LDFLAGS], tools, folder).context("the control plane was not built")
}

/// Builds `ArgoCD`, and puts the definitions of its resources beside it.
pub(crate) fn install_argocd(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say("ArgoCD: building; the first time takes some minutes …");
    install("argocd", &[ARGOCD_LDFLAGS], tools, folder).context("ArgoCD was not built")?;
    let mut list =
        command("go", ["list", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-cd/v3"]);
    list.current_dir(testbed::workspace_folder().join("tools/argocd"))
        .env("GOFLAGS", "-mod=readonly");
    let module = output(list)?;
    let crds = folder.join("argocd-crds");
    fs::create_dir_all(&crds)?;
    for name in ["application-crd.yaml", "appproject-crd.yaml", "applicationset-crd.yaml"] {
        let text = fs::read(Path::new(module.trim()).join("manifests/crds").join(name))?;
        fs::write(crds.join(name), text)?;
    }
    Ok(())
}

/// Builds kustomize, which `ArgoCD` calls.
pub(crate) fn install_kustomize(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say("kustomize: building …");
    install("kustomize", &[KUSTOMIZE_LDFLAGS], tools, folder).context("kustomize was not built")
}

/// Builds the command line of NATS, and the exporter that stands beside each server.
pub(crate) fn install_nats(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say("NATS' command line and exporter: building …");
    install("nats", &NATS_LDFLAGS, tools, folder)
        .context("NATS' command line and exporter were not built")
}

/// Builds Jaeger.
pub(crate) fn install_jaeger(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say("Jaeger: building; the first time takes some minutes …");
    install("jaeger", &[JAEGER_LDFLAGS], tools, folder).context("Jaeger was not built")
}

/// Builds an image registry.
pub(crate) fn install_registry(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    say("image registry: building; the first time takes some minutes …");
    install("registry", &[REGISTRY_LDFLAGS], tools, folder)
        .context("the image registry was not built")
}

fn install(module: &str, ldflags: &[&str], tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    ensure!(
        on_path("go").is_some(),
        "Go 1.26 or newer has to be on the PATH, to build what comes as source"
    );
    let work = folder.join(".go");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let result = build(module, ldflags, &work).and_then(|()| {
        tools.iter().try_for_each(|tool| {
            let Source::Go { binary } = tool.source else { return Ok(()) };
            put(&work.join(binary), &folder.join(tool.name))
        })
    });
    let _ = fs::remove_dir_all(&work);
    result.context("Go's package proxy has to be reached; run it again then")
}

fn build(module: &str, ldflags: &[&str], work: &Path) -> anyhow::Result<()> {
    let mut go = Command::new("go");
    go.args(["install", "-v", "-trimpath"])
        .args(ldflags.iter().flat_map(|flags| ["-ldflags", flags]))
        .arg("tool");
    go.current_dir(testbed::workspace_folder().join("tools").join(module));
    go.env("GOBIN", work.canonicalize()?).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    let mut child =
        go.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().context("cannot run go")?;
    let stderr = child.stderr.take().context("go says nothing")?;

    // With -v, Go names each package as it compiles it, and says what is wrong in other words.
    let (started, mut said, mut packages) = (Instant::now(), Instant::now(), 0);
    let mut last_lines = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        if line.starts_with("go: downloading") || line.split(' ').count() == 1 {
            packages += 1;
        } else {
            last_lines.push(line);
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            say(&format!("  {packages} packages after {} s …", started.elapsed().as_secs()));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("go failed with {status}:\n{}", last_lines.join("\n"));
    }
    say(&format!("  built in {} s", started.elapsed().as_secs()));
    Ok(())
}

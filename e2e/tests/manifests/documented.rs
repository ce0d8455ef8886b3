//! The commands of a document, run as they stand there by a shell, for the system that is here.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use testbed::{find_tool, path_with, service_binary, tools_folder, workspace_folder};

use crate::{
    installed::Installed,
    pods::{Pod, container_names},
    processes::{System, secrets_folder},
};

/// Local ports, and which port of which pod they lead to: `docs/runbooks/README.md`.
const FORWARDED: [(u16, &str, u16); 6] = [
    (5_001, "oriyan-portfolio-app", 8_080),
    (9_090, "oriyan-portfolio-app", 9_090),
    (9_091, "contact-worker", 9_090),
    (9_092, "deployer", 9_090),
    (4_222, "nats-0", 4_222),
    (8_222, "nats-0", 8_222),
];

/// The blocks of commands of a document, or of a part of one, in order.
pub(crate) fn blocks(text: &str) -> Vec<String> {
    let parts = text.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Commands, with the ports here that stand for those to which documents forward others.
pub(crate) fn forwarded(system: &System<'_>, commands: &str) -> String {
    FORWARDED.iter().fold(commands.to_owned(), |commands, (local, pod, port)| {
        commands.replace(
            &format!("127.0.0.1:{local}"),
            &format!("127.0.0.1:{}", system.network.port(pod, *port)),
        )
    })
}

/// A person's shell: a home, and a kubectl that enters processes in place of containers.
pub(crate) struct Shell {
    home: PathBuf,
}

impl Shell {
    /// For a control plane, with its secrets in the home.
    pub(crate) fn new(installed: &Installed) -> Self {
        let home = installed.scratch.folder("home").unwrap();
        symlink(secrets_folder(installed), home.join("portfolio-secrets")).unwrap();
        // The rest of the project, as seen from its folder, where the commands run.
        for folder in ["argocd", "ci", "k8s", "nats", "overlays"] {
            symlink(workspace_folder().join(folder), home.join(folder)).unwrap();
        }
        fs::create_dir(home.join("containers")).unwrap();
        // As `cargo install` would put them.
        fs::create_dir(home.join("bin")).unwrap();
        for service in ["contact-worker", "deployer"] {
            symlink(service_binary(service).unwrap(), home.join("bin").join(service)).unwrap();
        }
        Self { home }
    }

    /// Has `kubectl exec` enter the containers of these pods.
    pub(crate) fn may_enter(&self, pods: &[Pod<'_>]) {
        for pod in pods {
            for container in container_names(pod.spec) {
                let path = self.home.join(format!("containers/{}.{container}", pod.name));
                fs::write(path, pod.enter(container, &path_with(&[tools_folder()]))).unwrap();
            }
            let first = format!("{}.{}", pod.name, container_names(pod.spec).next().unwrap());
            let entered = self.home.join("containers").join(&pod.name);
            if !entered.exists() {
                symlink(first, entered).unwrap();
            }
        }
    }

    /// Runs commands, which have to succeed, and gives what they print.
    pub(crate) fn run(&self, installed: &Installed, commands: &str) -> String {
        let output = self.try_to_run(installed, commands);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs commands, whatever comes of it.
    pub(crate) fn try_to_run(&self, installed: &Installed, commands: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", commands]).current_dir(&self.home).env_clear();
        shell.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join(".config"));
        shell
            .env("XDG_DATA_HOME", self.home.join(".local"))
            .env("KUBECONFIG", installed.cluster.kubeconfig());
        let stand_ins = workspace_folder().join("e2e/tests/manifests/stand_ins");
        shell.env("KUBERC", "off").env("KUBECTL", find_tool("kubectl").unwrap());
        shell
            .env("PATH", path_with(&[stand_ins, self.home.join("bin"), tools_folder()]))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// As [`Shell::run`], with the ports here that stand for what is forwarded.
    pub(crate) fn run_in(&self, system: &System<'_>, commands: &str) -> String {
        self.run(system.installed, &forwarded(system, commands))
    }

    /// A folder or a file in its home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Takes over what somebody else's commands left in theirs.
    pub(crate) fn copy_from(&self, other: &Self, name: &str) {
        let copy = |from: &Path, to: &Path| {
            Command::new("cp").arg("-a").args([from, to]).status().unwrap()
        };
        assert!(copy(&other.path(name), &self.path(name)).success());
    }
}

//! The commands of a document, run as they stand there by a shell, for the system that is here.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{find_tool, path_with, tools_folder, workspace_folder};

use crate::{
    installed::Installed,
    pods::{Pod, container_names},
    processes::{System, secrets_folder},
};

/// The blocks of commands of a document, or of a part of one, in order.
pub(crate) fn blocks(text: &str) -> Vec<String> {
    let parts = text.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
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
        for folder in ["k8s", "nats", "overlays"] {
            symlink(workspace_folder().join(folder), home.join(folder)).unwrap();
        }
        fs::create_dir(home.join("bin")).unwrap();
        fs::create_dir(home.join("containers")).unwrap();
        let stand_in = format!(
            "#!/bin/bash\ncase \" $* \" in\n  *' port-forward '*) exit 0 ;;\n  *' exec '*) ;;\n  *) exec '{}' \"$@\" ;;\nesac\n\
             while [[ $1 != exec ]]; do shift; done\nshift\n[[ $1 != -i ]] || shift\n\
             exec bash \"$HOME/containers/$1.$3\" \"${{@:5}}\"\n",
            find_tool("kubectl").unwrap().display()
        );
        let path = home.join("bin/kubectl");
        fs::write(&path, stand_in).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self { home }
    }

    /// Has `kubectl exec` enter the containers of these pods.
    pub(crate) fn may_enter(&self, pods: &[Pod<'_>]) {
        for pod in pods {
            for container in container_names(pod.spec) {
                let path = self.home.join(format!("containers/{}.{container}", pod.name));
                fs::write(path, pod.enter(container, &path_with(&[tools_folder()]))).unwrap();
            }
        }
    }

    /// Runs commands, which have to succeed, and gives what they print.
    pub(crate) fn run(&self, installed: &Installed, commands: &str) -> String {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", commands]).current_dir(&self.home).env_clear();
        shell.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join(".config"));
        shell.env("XDG_DATA_HOME", self.home.join(".local")).env("KUBECONFIG", installed.cluster.kubeconfig());
        shell.env("KUBERC", "off").env("PATH", path_with(&[self.home.join("bin"), tools_folder()]));
        let output = shell.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Shell::run`], with the ports here that stand for the bus and the gateway.
    pub(crate) fn run_in(&self, system: &System<'_>, commands: &str) -> String {
        let bus = format!("127.0.0.1:{}", system.network.port("nats-0", 4_222));
        let gateway = format!("127.0.0.1:{}", system.network.port("oriyan-portfolio-app", 8_080));
        self.run(system.installed, &commands.replace("127.0.0.1:4222", &bus).replace("127.0.0.1:5001", &gateway))
    }

    /// A folder or a file in its home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Takes over what somebody else's commands left in theirs.
    pub(crate) fn copy_from(&self, other: &Self, name: &str) {
        let copy = |from: &Path, to: &Path| Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copy(&other.path(name), &self.path(name)).success());
    }
}

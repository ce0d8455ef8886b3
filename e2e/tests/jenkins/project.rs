//! The repository that a pipeline checks out: our Jenkinsfile and scripts, and a small crate in place of our own, which would
//! be compiled anew for minutes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testbed::workspace_folder;

const CARGO_TOML: &str = "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n\n[workspace]\n";
const CARGO_LOCK: &str = "version = 4\n\n[[package]]\nname = \"sample\"\nversion = \"0.1.0\"\n";
const DOCKERFILE: &str =
    "FROM scratch AS gateway\nFROM scratch AS contact-worker\nFROM scratch AS deployer\n";

/// A git repository with the branches `main` and `gitops-staging`.
pub(crate) struct Project {
    folder: PathBuf,
}

impl Project {
    /// One whose images are in this repository of a registry.
    pub(crate) fn new(folder: PathBuf, repository: &str) -> Self {
        let project = Self { folder };
        let root = workspace_folder();
        for name in ["ci", "k8s", "src", "tools"] {
            fs::create_dir_all(project.folder.join(name)).unwrap();
        }
        for entry in fs::read_dir(root.join("ci")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, project.folder.join("ci").join(path.file_name().unwrap())).unwrap();
        }
        for name in ["Jenkinsfile", "tools/requirements.txt"] {
            fs::copy(root.join(name), project.folder.join(name)).unwrap();
        }
        let kustomization = fs::read_to_string(root.join("k8s/kustomization.yaml")).unwrap();
        let kustomization =
            kustomization.replace("name: mastereflex123/portfolio", &format!("name: {repository}"));
        let sample = "#[test]\nfn it_holds() {\n    assert_eq!(1 + 1, 2);\n}\n";
        for (name, text) in [
            ("k8s/kustomization.yaml", kustomization.as_str()),
            ("Cargo.toml", CARGO_TOML),
            ("Cargo.lock", CARGO_LOCK),
            ("Dockerfile", DOCKERFILE),
            (".gitignore", "target\n"),
            ("src/lib.rs", sample),
        ] {
            fs::write(project.folder.join(name), text).unwrap();
        }
        project.git(&["init", "--quiet", "--initial-branch", "main"]);
        project.commit();
        project.git(&["branch", "gitops-staging"]);
        project
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Commits another text of a file to `main`.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
        self.commit();
    }

    /// The tag of a build of `main`.
    pub(crate) fn tag(&self, number: u64) -> String {
        format!("v{number}-{}", self.git(&["rev-parse", "--short=7", "main"]).trim())
    }

    fn commit(&self) {
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", "the project"]);
        // A commit that begins so would be the fate of a pod.
        let mut message = "the project".to_owned();
        while self.tag(1).contains("-bad") {
            message.push('.');
            self.git(&["commit", "--quiet", "--amend", "--message", &message]);
        }
    }

    /// Runs git, without the caller's own configuration, and gives what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=testbed",
            "-c",
            "user.email=testbed@localhost",
            "-c",
            "commit.gpgsign=false",
        ]);
        command.args(args).current_dir(&self.folder);
        let output = command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

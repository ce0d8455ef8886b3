//! The programs that are measured: those of this tree, and those of the commit that they are
//! compared with.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use testbed::{Spec, workspace_folder};

use crate::run::{command, output, say, show};

/// The last commit that published each contact as a message of its own, in atomic batches.
pub(crate) const BEFORE: &str = "e1b2239";

/// The programs of that commit that are compared.
const PROGRAMS: [&str; 2] = ["gateway", "contact-worker"];

/// The sources of the programs, which are built with all optimizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// This tree.
    This,
    /// The commit [`BEFORE`].
    Before,
}

impl Build {
    /// Returns the path of a program.
    pub(crate) fn program(self, name: &str) -> anyhow::Result<PathBuf> {
        let target = match self {
            Self::This => {
                let here = std::env::current_exe()?;
                let target = here.ancestors().nth(2);
                target.context("xtask runs outside of cargo's target folder")?.to_owned()
            }
            Self::Before => folder().join("target"),
        };
        Ok(target.join("release").join(name))
    }

    /// Returns the same service with the program of this build.
    pub(crate) fn of(self, mut spec: Spec) -> anyhow::Result<Spec> {
        spec.program = self.program(&spec.name)?;
        Ok(spec)
    }
}

/// Builds the programs of this tree that are measured.
pub(crate) fn this() -> anyhow::Result<()> {
    say("building with all optimizations; the first time takes some minutes …");
    build(workspace_folder(), &["gateway", "contact-worker", "deployer", "direct"], &[])
}

/// Builds the programs of [`BEFORE`], unless they are there: in a worktree with a target folder of
/// its own.
pub(crate) fn before() -> anyhow::Result<()> {
    let built = |name: &str| Build::Before.program(name).is_ok_and(|path| path.is_file());
    if PROGRAMS.into_iter().all(built) {
        return Ok(());
    }
    let folder = folder();
    if !folder.join("Cargo.toml").is_file() {
        say(&format!("checking out {BEFORE} into {} …", folder.display()));
        // Git still knows a worktree that was removed with the target folder. This fails if there
        // is none.
        let _ = output(worktree(&["remove", "--force"], &folder));
        let mut add = worktree(&["add", "--detach"], &folder);
        add.arg(BEFORE);
        output(add).with_context(|| format!("{BEFORE} is needed: is the history complete?"))?;
    }
    say(&format!("building {BEFORE}, once; it takes some minutes …"));
    let target = folder.join("target");
    build(&folder, &PROGRAMS, &["--target-dir".as_ref(), target.as_ref()])
}

fn folder() -> PathBuf {
    workspace_folder().join("target/baseline").join(BEFORE)
}

fn worktree(args: &[&str], folder: &Path) -> Command {
    let mut git = command("git", ["worktree"]);
    git.args(args).arg(folder);
    git
}

fn build(folder: &Path, programs: &[&str], args: &[&Path]) -> anyhow::Result<()> {
    let mut cargo = command("cargo", ["build", "--release", "--locked", "--quiet"]);
    cargo.args(programs.iter().flat_map(|name| ["--package", name])).args(args);
    cargo.current_dir(folder);
    show(cargo)
}

//! The programs that are measured: those of this tree, and those of the commit that they are
//! compared with.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use testbed::{FORMER, Former, Spec};

use crate::run::{command, say, show};

/// The deadline of a build.
const BUILD_WITHIN: Duration = Duration::from_hours(1);

/// The sources of the programs, which are built with all optimizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// This tree.
    This,
    /// The commit [`FORMER`].
    Before,
}

impl Build {
    /// Returns the path of a program.
    pub(crate) fn program(self, name: &str) -> anyhow::Result<PathBuf> {
        if self == Self::Before {
            return Ok(Former::Release.program(name));
        }
        let here = std::env::current_exe()?;
        let target = here.ancestors().nth(2);
        let target = target.context("xtask runs outside of cargo's target folder")?;
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
    let mut cargo = command("cargo", ["build", "--release", "--locked", "--quiet"]);
    let programs = ["gateway", "contact-worker", "deployer", "direct"];
    cargo.args(programs.iter().flat_map(|name| ["--package", name]));
    show(cargo)
}

/// Builds what is compared with, unless it is there.
pub(crate) fn before() -> anyhow::Result<()> {
    if !Former::Release.is_built() {
        say(&format!("building {FORMER}, once; it takes some minutes …"));
    }
    Former::Release.build(BUILD_WITHIN)
}

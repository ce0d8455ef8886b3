//! Where the real servers' programs are. `cargo xtask tools` puts them there.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
};

/// A program is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingTool(pub String);

impl std::fmt::Display for MissingTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not in {}: run `cargo xtask tools`", self.0, tools_folder().display())
    }
}

impl std::error::Error for MissingTool {}

/// The folder of the whole project.
pub fn workspace_folder() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder of the programs: `PORTFOLIO_TOOLS`, or `target/tools`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one switch of the development tools, which have no config.rs"
)]
pub fn tools_folder() -> PathBuf {
    std::env::var_os("PORTFOLIO_TOOLS")
        .map_or_else(|| workspace_folder().join("target/tools"), PathBuf::from)
}

/// A program by its name.
///
/// # Errors
/// It is not there.
pub fn find_tool(name: &str) -> Result<PathBuf, MissingTool> {
    let path = tools_folder().join(name);
    if path.is_file() { Ok(path) } else { Err(MissingTool(name.to_owned())) }
}

/// The first program of that name on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The first program of that name in an `sbin` beside a folder of the PATH, which not everybody has on it.
pub(crate) fn beside_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&path())
        .map(|folder| folder.with_file_name("sbin").join(name))
        .find(|program| program.is_file())
}

/// Answers if a test can run that needs what is no part of the tools. If not, people are told; where a variable is set, as CI
/// does once it has installed it, it is a failure.
///
/// # Panics
/// It is not there, and the variable is set.
#[expect(clippy::disallowed_methods, reason = "CI says that it has installed it")]
pub fn can_run(there: bool, what: &str, required_by: &str) -> bool {
    assert!(there || std::env::var_os(required_by).is_none(), "not installed: {what}");
    if !there {
        let thread = thread::current();
        let test = thread.name().unwrap_or("a test");
        // What a macro prints is shown of failed tests alone. Nobody may listen to this, either.
        let _ = writeln!(io::stderr(), "NOT RUN: {test}: not installed: {what}");
    }
    there
}

/// The same for programs that have to be on the PATH. Those that are not are named.
///
/// # Panics
/// One is not there, and the variable is set.
pub fn can_run_with(programs: &[&str], required_by: &str) -> bool {
    let missing: Vec<_> = programs.iter().copied().filter(|name| on_path(name).is_none()).collect();
    can_run(missing.is_empty(), &missing.join(", "), required_by)
}

/// A PATH on which programs are looked for in these folders first. None may have a colon in its name.
pub fn path_with(folders: &[PathBuf]) -> OsString {
    let mut all = OsString::new();
    for folder in folders {
        all.push(folder);
        all.push(":");
    }
    all.push(path());
    all
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

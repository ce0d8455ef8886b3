//! The app that is replaced: Flask and PyMongo under gunicorn, in a virtual environment of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use testbed::{Mongo, Server, Spec, free_port, http, workspace_folder};

use crate::run::{command, output, say};

/// Returns the folder of the app.
fn sources() -> PathBuf {
    workspace_folder().join("bench/baselines/flask")
}

/// Makes the virtual environment, unless one with the same packages is there.
pub(crate) fn install() -> anyhow::Result<PathBuf> {
    let folder = workspace_folder().join("target/bench/flask");
    let (wanted, stamp) = (sources().join("requirements.txt"), folder.join("requirements.txt"));
    if fs::read(&stamp).ok() != Some(fs::read(&wanted)?) {
        say("installing Flask, PyMongo and gunicorn into target/bench/flask …");
        let _ = fs::remove_dir_all(&folder);
        output(command("python3", ["-m".as_ref(), "venv".as_ref(), folder.as_os_str()]))?;
        let mut pip = command(&folder.join("bin/pip").to_string_lossy(), ["install", "--quiet"]);
        pip.args(["--disable-pip-version-check", "--requirement"]).arg(&wanted);
        output(pip)?;
        // Copied last, so that an incomplete environment does not count as installed.
        fs::copy(&wanted, &stamp)?;
    }
    Ok(folder)
}

/// A running app.
pub(crate) struct Flask {
    pub(crate) server: Server,
    pub(crate) url: String,
}

impl Flask {
    /// Starts the app as it used to run: four workers with four threads each.
    pub(crate) async fn start(
        folder: &Path,
        environment: &Path,
        mongo: &Mongo,
    ) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let spec = Spec::new("gunicorn", environment.join("bin/gunicorn"), folder)
            .args([
                "--workers",
                "4",
                "--threads",
                "4",
                "--bind",
                &address,
                "--log-level",
                "warning",
                "--chdir",
            ])
            .args([sources().as_os_str(), "app:app".as_ref()])
            .env("MONGODB_URI", mongo.uri())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut server = Server::start(spec)?;
        let url = format!("http://{address}");
        let client = http::Client::new(&url);
        let ask = || async { client.get("/").await.ok().map(|_| ()) };
        server.ready(Duration::from_secs(20), ask).await?;
        Ok(Self { server, url })
    }
}

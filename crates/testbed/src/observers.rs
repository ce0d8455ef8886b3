//! Prometheus and Alertmanager, which are no part of our tools: they are installed, or not.

use std::path::{Path, PathBuf};

use crate::{Server, Spec, http::Client, on_path, process::START};

/// The program of Prometheus, if it is installed.
pub fn prometheus() -> Option<PathBuf> {
    on_path("prometheus")
}

/// The program of Alertmanager, if it is installed: by the name that its makers give it, or Debian.
pub fn alertmanager() -> Option<PathBuf> {
    ["alertmanager", "prometheus-alertmanager"].into_iter().find_map(on_path)
}

/// Starts a Prometheus with the `prometheus.yml` of a folder, where it keeps its data too.
///
/// # Errors
/// It ends, or is not ready in time; the error holds the end of its log.
pub async fn start_prometheus(
    program: PathBuf,
    folder: &Path,
    address: &str,
    args: &[&str],
) -> anyhow::Result<Server> {
    let spec = Spec::new("prometheus", program, folder)
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .args(args)
        .args([format!("--web.listen-address={address}")]);
    ready(Server::start(spec)?, address).await
}

/// Starts an Alertmanager with the `alertmanager.yml` of a folder, where it keeps its data too.
///
/// # Errors
/// It ends, or is not ready in time; the error holds the end of its log.
pub async fn start_alertmanager(
    program: PathBuf,
    folder: &Path,
    address: &str,
) -> anyhow::Result<Server> {
    let spec = Spec::new("alertmanager", program, folder)
        .args([
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
        ])
        .args([format!("--web.listen-address={address}")]);
    ready(Server::start(spec)?, address).await
}

async fn ready(mut server: Server, address: &str) -> anyhow::Result<Server> {
    let http = Client::new(&format!("http://{address}"));
    let answers = || async {
        http.get("/-/ready").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
    };
    server.ready(START, answers).await?;
    Ok(server)
}

//! A real nats-server, with the configuration that we ship.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};

use crate::{Server, Spec, find_tool, free_port, http, workspace_folder};

/// A nats-server. It keeps its port and its data when it is started again.
#[derive(Debug)]
pub struct Nats {
    /// The process.
    pub server: Server,
    port: u16,
    monitor: http::Client,
    name: String,
}

impl Nats {
    /// Starts one that keeps its data in the folder.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let config = workspace_folder().join("nats/nats-server.conf");
        Self::start_with(folder, |spec, name| {
            spec.args(["--config".as_ref(), config.as_os_str()]).args(["--name", name])
        })
        .await
    }

    /// Starts one with a configuration and the given name.
    pub(crate) async fn start_with(folder: &Path, configured: impl FnOnce(Spec, &str) -> Spec) -> anyhow::Result<Self> {
        let (port, monitor_port) = (free_port(), free_port());
        let name = format!("testbed-{}-{port}", std::process::id());
        let spec = configured(Spec::new("nats-server", find_tool("nats-server")?, folder), &name)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--http_port", &monitor_port.to_string()])
            .args(["--store_dir"])
            .args([folder.join("jetstream")]);
        let monitor = http::Client::new(&format!("http://127.0.0.1:{monitor_port}"));
        let mut nats = Self { server: Server::start(spec)?, port, monitor, name };
        nats.ready().await?;
        Ok(nats)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again after it was stopped or killed.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Ready: healthy, ours by its name, and one that acknowledges only what is on disk.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let monitor = self.monitor.clone();
        self.server
            .ready(Duration::from_secs(20), || async {
                monitor.get("/healthz").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
            })
            .await?;
        let found = self.monitor.get("/varz").await.context("nats-server's monitoring")?.json();
        ensure!(found["server_name"] == *self.name, "another nats-server answers on our port");
        ensure!(found["jetstream"]["config"]["sync_always"] == true, "nats-server acknowledges before it is on disk");
        Ok(())
    }
}

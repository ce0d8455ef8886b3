//! A real nats-server, with the configuration that we ship.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::{Server, Spec, find_tool, free_port, http, process::START, workspace_folder};

/// A nats-server that keeps its port and its data when it is started again.
#[derive(Debug)]
pub struct Nats {
    /// The process.
    pub server: Server,
    port: u16,
    monitor: http::Client,
    name: String,
}

impl Nats {
    /// Starts a server that keeps its data in the folder.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_adapted(folder, |spec| spec).await
    }

    /// Starts a server whose program or environment is changed, as a container would.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start_adapted(
        folder: &Path,
        change: impl FnOnce(Spec) -> Spec,
    ) -> anyhow::Result<Self> {
        let config = workspace_folder().join("nats/nats-server.conf");
        Self::start_with(folder, |spec, name| {
            change(spec.args(["--config".as_ref(), config.as_os_str()]).args(["--name", name]))
        })
        .await
    }

    /// Starts several servers that form one bus, each with a disk of its own.
    ///
    /// # Errors
    /// Fails if a server does not get ready.
    pub async fn start_cluster(folder: &Path, servers: usize) -> anyhow::Result<Vec<Self>> {
        let config = workspace_folder().join("nats/nats-server.conf");
        let routes: Vec<_> =
            (0..servers).map(|_| format!("nats://127.0.0.1:{}", free_port())).collect();
        let mut cluster = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            cluster.push(Self::spawn(&folder.join(index.to_string()), |spec, name| {
                spec.args(["--config".as_ref(), config.as_os_str()])
                    .args(["--name", name, "--cluster_name", "testbed", "--no_advertise"])
                    .args(["--cluster", route, "--routes", &routes.join(",")])
            })?);
        }
        for nats in &mut cluster {
            nats.ready().await?;
        }
        Ok(cluster)
    }

    /// Starts one member of a cluster whose other members are out of its reach. It takes clients,
    /// and has no leader for what they ask.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_cut_off(folder: &Path) -> anyhow::Result<Self> {
        let config = workspace_folder().join("nats/nats-server.conf");
        let routes: Vec<_> = (0..3).map(|_| format!("nats://127.0.0.1:{}", free_port())).collect();
        let mut nats = Self::spawn(folder, |spec, name| {
            spec.args(["--config".as_ref(), config.as_os_str()])
                .args(["--name", name, "--cluster_name", "testbed", "--no_advertise"])
                .args(["--cluster", &routes[0], "--routes", &routes.join(",")])
        })?;
        let monitor = nats.monitor.clone();
        let ours = || async {
            (monitor.get("/varz").await.ok()?.json()["server_name"] == *nats.name).then_some(())
        };
        nats.server.ready(START, ours).await?;
        Ok(nats)
    }

    /// Where clients connect to any of several.
    pub fn urls(servers: &[Self]) -> String {
        servers.iter().map(Self::url).collect::<Vec<_>>().join(",")
    }

    /// Starts a server with a configuration and the given name.
    pub(crate) async fn start_with(
        folder: &Path,
        configured: impl FnOnce(Spec, &str) -> Spec,
    ) -> anyhow::Result<Self> {
        let mut nats = Self::spawn(folder, configured)?;
        nats.ready().await?;
        Ok(nats)
    }

    /// Starts a server that may not be ready yet.
    fn spawn(folder: &Path, configured: impl FnOnce(Spec, &str) -> Spec) -> anyhow::Result<Self> {
        let (port, monitor_port) = (free_port(), free_port());
        let name = format!("testbed-{}-{port}", std::process::id());
        let spec = configured(Spec::new("nats-server", find_tool("nats-server")?, folder), &name)
            .args([
                "--addr",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--http_port",
                &monitor_port.to_string(),
            ])
            .args(["--store_dir"])
            .args([Self::disk(folder)]);
        let monitor = http::Client::new(&format!("http://127.0.0.1:{monitor_port}"));
        Ok(Self { server: Server::start(spec)?, port, monitor, name })
    }

    fn disk(folder: &Path) -> PathBuf {
        folder.join("jetstream")
    }

    /// Kills the server, and removes everything that it has stored.
    ///
    /// # Errors
    /// Fails if the files cannot be removed.
    pub fn lose_disk(&mut self) -> anyhow::Result<()> {
        self.server.kill();
        std::fs::remove_dir_all(Self::disk(&self.server.spec().folder))
            .context("the disk of nats-server")
    }

    /// Returns the address that clients connect to.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The name of the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the clients that are connected to this server.
    ///
    /// # Errors
    /// Its monitoring does not answer.
    pub async fn clients(&self) -> anyhow::Result<Vec<String>> {
        let found = self.monitor.get("/connz").await?.json();
        let connections = found["connections"].as_array().into_iter().flatten();
        Ok(connections.filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect())
    }

    /// The name of the server that leads the JetStream of a cluster; none during an election.
    ///
    /// # Errors
    /// The monitoring does not answer.
    pub async fn meta_leader(&self) -> anyhow::Result<Option<String>> {
        let found = self.monitor.get("/jsz").await?.json();
        Ok(found["meta_cluster"]["leader"].as_str().map(str::to_owned))
    }

    /// Starts it again after it was stopped or killed.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Waits until the server is healthy. Fails if the server is not ours by its name, or
    /// acknowledges what is not on disk.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let monitor = self.monitor.clone();
        self.server
            .ready(START, || async {
                monitor
                    .get("/healthz")
                    .await
                    .ok()
                    .filter(|answer| answer.status.is_success())
                    .map(|_| ())
            })
            .await?;
        let found = self.monitor.get("/varz").await.context("nats-server's monitoring")?.json();
        ensure!(found["server_name"] == *self.name, "another nats-server answers on our port");
        ensure!(
            found["jetstream"]["config"]["sync_always"] == true,
            "nats-server acknowledges before it is on disk"
        );
        Ok(())
    }
}

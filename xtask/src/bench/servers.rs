//! Starts the servers and services that are measured: release builds, without earlier data.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use testbed::{Access, Gateway, Mongo, Nats, Scratch, Server, Service, Spec, system};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use super::build::Build;

/// The ways to run the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server, open to everyone on the machine.
    Plain,
    /// One server as it is deployed: TLS, and an account a process.
    Secured,
    /// Three servers, each of which has a copy of everything.
    Three,
}

/// A bus with the streams of a build.
pub(crate) struct Bus {
    pub(crate) scratch: Scratch,
    servers: Vec<Nats>,
    access: Option<Access>,
    build: Build,
}

impl Bus {
    /// Starts a bus of one server for the programs of this tree.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_as(Kind::Plain, Build::This).await
    }

    /// Starts a bus of this kind for the programs of a build.
    pub(crate) async fn start_as(kind: Kind, build: Build) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let folder = scratch.folder("nats")?;
        let (servers, access) = match kind {
            Kind::Plain => (vec![Nats::start(&folder).await?], None),
            Kind::Three => (Nats::start_cluster(&folder, 3).await?, None),
            Kind::Secured => {
                let (nats, access) = Nats::start_secured(&folder).await?;
                (vec![nats], Some(access))
            }
        };
        Self { scratch, servers, access, build }.with_streams().await
    }

    /// Starts a bus of one server with a changed start, for the programs of this tree.
    pub(crate) async fn start_adapted(change: impl FnOnce(Spec) -> Spec) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let servers = vec![Nats::start_adapted(&scratch.folder("nats")?, change).await?];
        Self { scratch, servers, access: None, build: Build::This }.with_streams().await
    }

    async fn with_streams(self) -> anyhow::Result<Self> {
        self.provision(&self.gateway_spec("gateway")?).await?;
        Ok(self)
    }

    /// Returns the build whose programs use the bus.
    pub(crate) fn build(&self) -> Build {
        self.build
    }

    /// Returns the processes of the bus.
    pub(crate) fn servers(&self) -> Vec<&Server> {
        self.servers.iter().map(|nats| &nats.server).collect()
    }

    /// Fails if a server of the bus has ended.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        self.servers.iter_mut().try_for_each(|nats| nats.server.check_running())
    }

    /// Returns the addresses that clients connect to.
    pub(crate) fn url(&self) -> String {
        Nats::urls(&self.servers)
    }

    /// Returns the address of one server.
    pub(crate) fn url_of_one(&self) -> String {
        self.servers[0].url()
    }

    /// Runs `provision` of a service, with as many replicas of its streams as there are servers.
    pub(crate) async fn provision(&self, spec: &Spec) -> anyhow::Result<()> {
        let spec = spec.clone().env("STREAM_REPLICAS", self.servers.len().to_string());
        Service::run(&self.sign_in(spec, "provision"), "provision").await.map(drop)
    }

    fn sign_in(&self, spec: Spec, user: &str) -> Spec {
        match &self.access {
            Some(access) => access.sign_in(spec, user),
            None => spec,
        }
    }

    fn gateway_spec(&self, folder: &str) -> anyhow::Result<Spec> {
        self.build.of(Gateway::spec(&self.scratch.path().join(folder), &self.url())?)
    }

    /// Starts a gateway on the bus, with some settings of its own.
    pub(crate) async fn gateway(&self, settings: &[(&str, &str)]) -> anyhow::Result<Gateway> {
        self.gateway_in("gateway", settings).await
    }

    /// Starts one of several gateways on the bus, in a folder of its own.
    pub(crate) async fn gateway_in(
        &self,
        folder: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Gateway> {
        let spec = settings
            .iter()
            .fold(self.gateway_spec(folder)?, |spec, (name, value)| spec.env(name, value));
        let mut gateway = Gateway::start_unready(self.sign_in(spec, "gateway"))?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Removes all messages of a stream.
    pub(crate) async fn empty(&self, stream: &str) -> anyhow::Result<()> {
        let url = self.url_of_one();
        let address = url.trim_start_matches("nats://");
        let mut connection = BufStream::new(TcpStream::connect(address).await?);
        let connect = "CONNECT {\"verbose\":false}\r\nSUB answer 1\r\n";
        let text = format!("{connect}PUB $JS.API.STREAM.PURGE.{stream} answer 0\r\n\r\n");
        connection.write_all(text.as_bytes()).await?;
        connection.flush().await?;
        let mut lines = connection.lines();
        while let Some(line) = lines.next_line().await? {
            ensure!(!line.starts_with("-ERR"), "the bus said {line}");
            if line.starts_with("MSG answer ") {
                let answer = lines.next_line().await?.unwrap_or_default();
                ensure!(answer.contains("\"success\":true"), "{stream} is not emptied: {answer}");
                return Ok(());
            }
        }
        bail!("the bus ended the connection")
    }

    /// Returns the specification of a worker on the bus, which does not sign in.
    pub(crate) fn worker_spec(
        &self,
        folder: &str,
        mongo: &Mongo,
        database: &str,
    ) -> anyhow::Result<Spec> {
        let folder = self.scratch.path().join(folder);
        self.build.of(system::worker_spec(&folder, &self.url(), mongo, database)?)
    }
}

/// Returns a figure of a result.
pub(crate) fn number(result: &Value, name: &str) -> anyhow::Result<f64> {
    result[name].as_f64().with_context(|| format!("no {name} in {result}"))
}

/// Converts the memory of a process to MiB, or to NaN if the process has ended.
pub(crate) fn mib(kib: Option<u64>) -> f64 {
    let kib = kib.and_then(|kib| u32::try_from(kib).ok());
    kib.map_or(f64::NAN, |kib| f64::from(kib) / 1024.0)
}

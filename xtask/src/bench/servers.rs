//! What is measured, started anew: release builds, on servers without a past.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use testbed::{Gateway, Mongo, Nats, Scratch, Service, Spec, system};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use crate::run::{command, output};

/// A program that was built with all optimizations.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(2).context("xtask runs outside of cargo's target folder")?;
    Ok(target.join("release").join(name))
}

/// The same service, built with all optimizations.
pub(crate) fn optimized(mut spec: Spec) -> anyhow::Result<Spec> {
    spec.program = program(&spec.name)?;
    Ok(spec)
}

/// A bus with our streams.
pub(crate) struct Bus {
    pub(crate) scratch: Scratch,
    servers: Vec<Nats>,
}

impl Bus {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let nats = Nats::start(&scratch.folder("nats")?).await?;
        Self::of(scratch, vec![nats]).await
    }

    /// Of several servers, each of which has a copy of everything.
    pub(crate) async fn start_cluster(servers: usize) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let servers = Nats::start_cluster(&scratch.folder("nats")?, servers).await?;
        Self::of(scratch, servers).await
    }

    async fn of(scratch: Scratch, servers: Vec<Nats>) -> anyhow::Result<Self> {
        let bus = Self { scratch, servers };
        bus.provision(&bus.gateway_spec("gateway")?).await?;
        Ok(bus)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        Nats::urls(&self.servers)
    }

    /// One of its servers.
    pub(crate) fn url_of_one(&self) -> String {
        self.servers[0].url()
    }

    /// Has a service make its streams, with as many copies as there are servers.
    pub(crate) async fn provision(&self, spec: &Spec) -> anyhow::Result<()> {
        let spec = spec.clone().env("STREAM_REPLICAS", self.servers.len().to_string());
        Service::run(&spec, "provision").await.map(drop)
    }

    fn gateway_spec(&self, folder: &str) -> anyhow::Result<Spec> {
        optimized(Gateway::spec(&self.scratch.path().join(folder), &self.url())?)
    }

    /// A gateway on it, with some settings of its own.
    pub(crate) async fn gateway(&self, settings: &[(&str, &str)]) -> anyhow::Result<Gateway> {
        self.gateway_in("gateway", settings).await
    }

    /// The same, in a folder of its own: one of several.
    pub(crate) async fn gateway_in(
        &self,
        folder: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Gateway> {
        let spec = settings
            .iter()
            .fold(self.gateway_spec(folder)?, |spec, (name, value)| spec.env(name, value));
        let mut gateway = Gateway::start_unready(spec)?;
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

    /// How a worker on it is started.
    pub(crate) fn worker_spec(
        &self,
        folder: &str,
        mongo: &Mongo,
        database: &str,
    ) -> anyhow::Result<Spec> {
        optimized(system::worker_spec(
            &self.scratch.path().join(folder),
            &self.url(),
            mongo,
            database,
        )?)
    }
}

/// Runs a baseline of `bench/baselines/direct` to its end, and gives what came out.
pub(crate) async fn direct(args: &[&str]) -> anyhow::Result<Value> {
    let mut run = command(&program("direct")?.to_string_lossy(), ["--"; 0]);
    run.args(args);
    let text = tokio::task::spawn_blocking(move || output(run)).await??;
    serde_json::from_str(&text).with_context(|| format!("the baseline said {text}"))
}

/// A figure of a result.
pub(crate) fn number(result: &Value, name: &str) -> anyhow::Result<f64> {
    result[name].as_f64().with_context(|| format!("no {name} in {result}"))
}

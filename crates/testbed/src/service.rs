//! Our own services, as processes.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{Server, Spec, free_port, http, process::START};

/// One of our services, with its admin server.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub server: Server,
    /// A client of the admin server.
    pub admin: http::Client,
}

/// The number of commands that were run.
static RUNS: AtomicU64 = AtomicU64::new(0);

impl Service {
    /// Returns the settings that all services in a test share: loopback, JSON logs, short
    /// shutdowns.
    ///
    /// # Errors
    /// Fails if the program has not been built.
    pub fn spec(name: &str, folder: &Path) -> anyhow::Result<Spec> {
        let spec = Spec::new(name, service_binary(name)?, folder);
        Ok(spec.env("LOG_FORMAT", "json").env("RUST_LOG", "info").env("SHUTDOWN_GRACE", "10s"))
    }

    /// Starts a service with an admin server on a free port. The service may not be ready yet, and
    /// may never be.
    ///
    /// # Errors
    /// Fails if the service cannot be started.
    pub fn start(spec: Spec) -> anyhow::Result<Self> {
        let port = free_port();
        let server = Server::start(spec.env("ADMIN_ADDR", format!("127.0.0.1:{port}")))?;
        Ok(Self { server, admin: http::Client::new(&format!("http://127.0.0.1:{port}")) })
    }

    /// Waits until the service reports that it is ready.
    ///
    /// # Errors
    /// Fails if the service ends, or the time is up.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let admin = self.admin.clone();
        self.server
            .ready(START, || async {
                admin
                    .get("/readyz")
                    .await
                    .ok()
                    .filter(|answer| answer.status.is_success())
                    .map(|_| ())
            })
            .await
    }

    /// Kills the service and starts it again.
    ///
    /// # Errors
    /// Fails if the service cannot be started.
    pub fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.server.kill();
        self.server.start_again()
    }

    /// Runs a command of the service to its end, such as `provision` or `dead-letters list`, with
    /// the same environment. Returns the output of the command.
    ///
    /// # Errors
    /// Fails if the command fails, or takes more than 30 seconds.
    pub async fn run(spec: &Spec, command: &str) -> anyhow::Result<String> {
        let mut spec = spec.clone().args(command.split(' '));
        // Each run has a log of its own.
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let word = command.split(' ').next().unwrap_or_default();
        spec.name = format!("{}-{word}-{run}", spec.name);
        let mut server = Server::start(spec)?;
        let status = server.wait(Duration::from_secs(30)).await?;
        let log = server.log();
        ensure!(status.success(), "{} ended with {status}:\n{log}", server.spec().name);
        Ok(log)
    }

    /// Returns the value of a metric, with its labels as they are written, or zero if it is
    /// missing.
    ///
    /// # Errors
    /// Fails if the admin server does not answer.
    pub async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let text = self.admin.get("/metrics").await?.text();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        Ok(found.unwrap_or(0.0))
    }
}

/// Returns the program of a service, beside the program that runs now.
///
/// # Errors
/// Fails if the program has not been built.
pub fn service_binary(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    // target/debug/xtask, or target/debug/deps/it-0123
    let found = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("{name} has not been built: run `cargo build -p {name}`"))
}

//! The connection to the bus: opening it, and keeping it open.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Auth, AuthError, ConnectOptions, Event, jetstream::context::ContextBuilder};
use prometheus::Registry;
use tokio::{sync::watch, time::Instant};

use service::{
    config::ConfigError,
    process::Process,
    readiness::{Latch, Readiness},
};

use crate::{Bus, config::Nats, cut_off::CutOff, metrics::BusMetrics, refused::refusal};

/// The longest wait for one answer before the request is repeated.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The interval between two pings. A silent server is noticed after two of them.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The bus could not be reached in time.
#[derive(Debug, thiserror::Error)]
#[error("NATS could not be reached within {}", humantime::format_duration(*.0))]
pub struct NotConnected(Duration);

impl Bus {
    /// Connects a process, and reports the connection in the latch `nats`.
    ///
    /// # Errors
    /// The errors of [`Bus::connect`].
    pub async fn of_process(process: &Process, config: &Nats) -> anyhow::Result<Self> {
        let latch = process.readiness.latch("nats");
        Self::connect(process.name, config, latch, &process.registry).await
    }

    /// Connects a command. Waits for the bus for at most ten seconds.
    ///
    /// # Errors
    /// [`NotConnected`] if the time is up, and the errors of [`Bus::connect`].
    pub async fn of_command(name: &'static str, config: &Nats) -> anyhow::Result<Self> {
        let latch = Readiness::default().latch("nats");
        let bus = Self::connect(name, config, latch, &Registry::new()).await?;
        bus.connected(Duration::from_secs(10)).await?;
        Ok(bus)
    }

    /// Starts to connect and returns at once. The latch and the metrics show the state of the
    /// connection.
    ///
    /// # Errors
    /// [`ConfigError`] if a file that the configuration names cannot be read.
    pub async fn connect(
        name: &'static str,
        config: &Nats,
        latch: Latch,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let (sender, connected) = watch::channel(false);
        let (refused, refusals) = watch::channel(String::new());
        let metrics = BusMetrics::new(registry);
        let observed = metrics.clone();
        let cut_off = Arc::<CutOff>::default();
        let leaving = cut_off.clone();
        let options = sign_in(config)
            .await?
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(3))
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(pause)
            .reconnect_to_server_callback(move |servers, _| {
                std::future::ready(leaving.next_server(&servers))
            })
            .event_callback(move |event| {
                observe(&event, &latch, &sender, &observed);
                if let Some(told) = refusal(&event) {
                    refused.send_replace(told.to_owned());
                }
                std::future::ready(())
            });
        let client = options.connect(config.urls.0.clone()).await.context("NATS_URL")?;
        let jetstream = ContextBuilder::new()
            .api_prefix(&config.api_prefix)
            .timeout(ANSWER_TIMEOUT)
            .ack_timeout(ANSWER_TIMEOUT)
            .build(client.clone());
        let pulls = Arc::default();
        Ok(Self { name, client, jetstream, connected, refusals, cut_off, pulls, metrics })
    }

    /// Waits until the bus is connected.
    ///
    /// # Errors
    /// [`NotConnected`] if the time is up.
    pub async fn connected(&self, within: Duration) -> Result<(), NotConnected> {
        let mut connected = self.connected.clone();
        match tokio::time::timeout(within, connected.wait_for(|connected| *connected)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotConnected(within)),
        }
    }

    /// Waits until the bus is connected, without a limit of time.
    pub(crate) async fn wait_until_connected(&self) {
        if self.connected.clone().wait_for(|connected| *connected).await.is_err() {
            // The client is gone, so there will be no connection.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the bus is not connected.
    pub(crate) async fn disconnected(&self) {
        // Once the sender is gone, nothing can connect again.
        let _ = self.connected.clone().wait_for(|connected| !*connected).await;
    }

    /// Records whether JetStream answered a request that was sent at `asked`. Leaves a server that
    /// is cut off from its cluster.
    pub(crate) async fn record_answer(&self, asked: Instant, answered: bool) {
        if !self.cut_off.record(asked, answered) {
            return;
        }
        tracing::warn!("JetStream does not answer, connecting again, perhaps to another server");
        if let Err(error) = self.client.force_reconnect().await {
            tracing::debug!("the client does not connect again: {error}");
        }
    }

    /// Returns whether the bus is connected now.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

async fn sign_in(config: &Nats) -> anyhow::Result<ConnectOptions> {
    let mut options = match (&config.user, &config.password_file) {
        (Some(user), Some(file)) => {
            readable("NATS_PASSWORD_FILE", file).await?;
            let (user, file) = (user.clone(), file.clone());
            // The file is read at each attempt, so that a new password needs no restart.
            ConnectOptions::with_auth_callback(move |_nonce| password(user.clone(), file.clone()))
        }
        _ => ConnectOptions::new(),
    };
    if let Some(file) = &config.creds_file {
        readable("NATS_CREDS_FILE", file).await?;
        options = options.credentials_file(file).await.map_err(|error| {
            ConfigError::new("NATS_CREDS_FILE", format_args!("{}: {error}", file.display()))
        })?;
    }
    if let Some(file) = &config.ca_file {
        // The client reads the file at each attempt, too.
        readable("NATS_CA_FILE", file).await?;
        options = options.add_root_certificates(file.clone()).require_tls(true);
    }
    Ok(options)
}

async fn readable(variable: &str, file: &Path) -> Result<(), ConfigError> {
    match tokio::fs::read(file).await {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(ConfigError::new(variable, format_args!("cannot read {}: {error}", file.display())))
        }
    }
}

async fn password(user: String, file: PathBuf) -> Result<Auth, AuthError> {
    let read = tokio::fs::read_to_string(&file).await;
    let read = read
        .map_err(|error| AuthError::new(format_args!("cannot read {}: {error}", file.display())))?;
    let mut auth = Auth::new();
    auth.username = Some(user);
    auth.password = Some(read.trim_end().to_owned());
    Ok(auth)
}

/// Returns the pause before the next attempt to connect. The first pauses are short, so that a
/// restart of the server goes almost unnoticed. The last ones are bounded, so that an outage costs
/// little.
fn pause(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts.min(10)).unwrap_or(10);
    Duration::from_millis(20).saturating_mul(2_u32.saturating_pow(exponent)).min(LONGEST_PAUSE)
}

fn observe(event: &Event, latch: &Latch, connected: &watch::Sender<bool>, metrics: &BusMetrics) {
    match event {
        Event::Connected => {
            connected.send_replace(true);
            metrics.connected.set(1);
            latch.set("connected");
        }
        Event::Disconnected => {
            connected.send_replace(false);
            metrics.connected.set(0);
            metrics.disconnects.inc();
            latch.unset("disconnected, connecting again");
        }
        Event::Closed => {
            connected.send_replace(false);
            metrics.connected.set(0);
            latch.unset("closed");
        }
        // The next attempt fails in the same way: the latch reports it once.
        Event::ClientError(error) if !*connected.borrow() => {
            latch.unset(format!("not connected: {error}"));
        }
        Event::ClientError(error) => tracing::warn!("NATS: {error}"),
        Event::ServerError(error) => tracing::warn!("NATS: {error}"),
        Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {
            tracing::info!("NATS: {event}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pauses: Vec<_> = (0..100).map(pause).collect();
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[99]), (Duration::from_millis(20), LONGEST_PAUSE));
    }
}

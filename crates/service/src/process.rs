//! The life of a process, in order: telemetry, signals, admin server, the service's own work,
//! drain, flush.

use std::{io, process::ExitCode, time::Duration};

use prometheus::Registry;
use tokio::net::TcpListener;

use crate::{
    admin::{self, Admin},
    config::{Common, ConfigError},
    metrics::{self, ReadinessMetric},
    readiness::Readiness,
    shutdown::{Aborted, Shutdown},
    telemetry,
};

/// The parts of a process that a service's own work uses.
#[derive(Clone, Debug)]
pub struct Process {
    /// The service's name.
    pub name: &'static str,
    /// The latches of the dependencies, shown at `/readyz`.
    pub readiness: Readiness,
    /// The registry for the service's own metrics.
    pub registry: Registry,
    /// The shutdown, at which the work has to end.
    pub shutdown: Shutdown,
}

/// The exit status after a second signal: the one that shells report for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs a service until its work returns or its shutdown is cut short.
///
/// The work has to call [`Readiness::started`] once it has added its dependencies. After the
/// shutdown has begun, the work has to finish what it has accepted, and then return.
pub fn run<W>(name: &'static str, config: Common, work: impl FnOnce(Process) -> W) -> ExitCode
where
    W: Future<Output = anyhow::Result<()>>,
{
    start(async move {
        let grace = config.shutdown_grace;
        let telemetry = match telemetry::init(name, &config) {
            Ok(telemetry) => telemetry,
            Err(error) => return ConfigError(format!("{error:#}")).report(),
        };
        let shutdown = Shutdown::new(grace);
        let code = tokio::select! {
            result = live(name, &config, shutdown.clone(), work) => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(name, &error),
            },
            aborted = shutdown.watch_signals() => return cut_short(name, aborted),
        };
        telemetry.flush().await;
        code
    })
}

/// Reports the error of a service's own work and returns the exit status.
///
/// Some wrong values are found only while the work starts, for example a port that is in use. The
/// work returns a [`ConfigError`] for them.
fn failed(name: &str, error: &anyhow::Error) -> ExitCode {
    if let Some(wrong) = error.downcast_ref::<ConfigError>() {
        return wrong.report();
    }
    tracing::error!("{name} ends: {error:#}");
    ExitCode::FAILURE
}

/// Logs the reason why a shutdown is cut short and returns the exit status.
fn cut_short(name: &str, why: io::Result<Aborted>) -> ExitCode {
    match why {
        Ok(reason @ Aborted::SecondSignal) => {
            tracing::error!("{name} ends at once: {reason}");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Ok(reason @ Aborted::Overdue(_)) => {
            tracing::error!("{name} ends at once: {reason}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{name} ends: signals cannot be received: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the admin server and runs the service's own work.
async fn live<W>(
    name: &'static str,
    config: &Common,
    shutdown: Shutdown,
    work: impl FnOnce(Process) -> W,
) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let registry = metrics::registry();
    let readiness = Readiness::starting();
    metrics::register(&registry, ReadinessMetric::new(readiness.clone()));
    let listener = TcpListener::bind(config.admin_addr).await.map_err(|error| {
        ConfigError::new(
            "ADMIN_ADDR",
            format_args!("cannot listen on {}: {error}", config.admin_addr),
        )
    })?;
    let admin = Admin {
        registry: registry.clone(),
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
    };
    // The admin server ends with the runtime, not with the shutdown, so that it can be read during
    // the drain.
    tokio::spawn(axum::serve(listener, admin::router(admin)).into_future());

    tracing::info!(version = crate::VERSION, admin.addr = %config.admin_addr, "{name} starts");
    work(Process { name, readiness, registry, shutdown }).await?;
    tracing::info!("{name} is done");
    Ok(())
}

/// Runs a short command of a service, such as `provision`, and prints the lines that the command
/// returns on stdout.
pub fn run_command<W>(name: &'static str, work: W) -> ExitCode
where
    W: Future<Output = anyhow::Result<Vec<String>>>,
{
    start(async move {
        match work.await {
            Ok(lines) => {
                for line in &lines {
                    say(line);
                }
                ExitCode::SUCCESS
            }
            Err(error) => match error.downcast_ref::<ConfigError>() {
                Some(wrong) => wrong.report(),
                None => complain(name, &error),
            },
        }
    })
}

#[expect(clippy::print_stdout, reason = "a command prints for a person and has no logger")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a command prints for a person and has no logger")]
fn complain(name: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {error:#}");
    ExitCode::FAILURE
}

fn start(main: impl Future<Output = ExitCode>) -> ExitCode {
    // rustls has no default provider if several are compiled in. This fails only if a default is
    // already set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(main);
            // A plain drop would wait for blocked threads, for example for one that resolves a
            // host name.
            runtime.shutdown_timeout(Duration::from_millis(200));
            code
        }
        Err(error) => complain("runtime", &error.into()),
    }
}

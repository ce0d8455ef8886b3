//! The life of a process, in order: telemetry, signals, admin server, the service's own work, drain,
//! flush.

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

/// What a service's own work is given.
#[derive(Clone, Debug)]
pub struct Process {
    /// The service's name.
    pub name: &'static str,
    /// Where dependencies are reported.
    pub readiness: Readiness,
    /// Where metrics are added.
    pub registry: Registry,
    /// When to end.
    pub shutdown: Shutdown,
}

/// The status of a process that was told twice to end, as a shell has it for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs a service until its work ends or a shutdown does. The work is expected to return once the shutdown has begun and
/// everything that it had taken on is done. It calls [`Readiness::started`] once it has added its dependencies.
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

/// Why the service's own work ended early. What is found only at start, such as a port that is taken, may still be a
/// matter of configuration.
fn failed(name: &str, error: &anyhow::Error) -> ExitCode {
    if let Some(wrong) = error.downcast_ref::<ConfigError>() {
        return wrong.report();
    }
    tracing::error!("{name} ends: {error:#}");
    ExitCode::FAILURE
}

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
    // It serves to the very end, so that a drain can be watched, and ends with the runtime.
    tokio::spawn(axum::serve(listener, admin::router(admin)).into_future());

    tracing::info!(version = crate::VERSION, admin.addr = %config.admin_addr, "{name} starts");
    work(Process { name, readiness, registry, shutdown }).await?;
    tracing::info!("{name} is done");
    Ok(())
}

/// Runs a command of a service that does one thing and ends, such as `provision`, and prints the
/// lines that it returns on stdout.
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

#[expect(clippy::print_stdout, reason = "a command talks to a person, without a logger")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a command talks to a person, without a logger")]
fn complain(name: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {error:#}");
    ExitCode::FAILURE
}

fn start(main: impl Future<Output = ExitCode>) -> ExitCode {
    // rustls has no default of its own when several are compiled in; fails only if one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(main);
            // Not a plain drop, which would wait for a blocked thread, of a name look-up for instance.
            runtime.shutdown_timeout(Duration::from_millis(200));
            code
        }
        Err(error) => complain("runtime", &error.into()),
    }
}

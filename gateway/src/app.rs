//! The state that the handlers share, and the order in which the gateway starts and ends.

use std::sync::Arc;

use bus::{
    Bus,
    config::{Nats, ProvisionArgs},
};
use events::{CONTACTS, IDEMPOTENCY_CALLERS, IDEMPOTENCY_VISITORS, Stream};
use service::{config::ConfigError, process::Process, shutdown::Shutdown};
use tokio_util::task::TaskTracker;

use crate::{
    admission::{Admission, BuildsInProgress},
    auth::Auth,
    board::Live,
    config::Settings,
    formats::Jobs,
    metrics::Metrics,
    publish::Publisher,
    rollouts::{self, Rollouts},
    routes, serve,
};

/// The state that the handlers share: one pointer, since each request clones it several times.
pub(crate) type Shared = Arc<App>;

/// The parts of the gateway.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) admission: Admission,
    pub(crate) builds_in_progress: BuildsInProgress,
    pub(crate) auth: Auth,
    pub(crate) jobs: Jobs,
    pub(crate) live: Live,
    /// The URL at which a trace is shown, with `{trace_id}` in place of its id.
    pub(crate) trace_url: Option<Arc<str>>,
    pub(crate) publisher: Publisher,
    pub(crate) rollouts: Rollouts,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// Serves until the shutdown has begun and every request in progress is answered.
pub(crate) async fn run(settings: Settings, nats: Nats, process: Process) -> anyhow::Result<()> {
    let bus = Bus::of_process(&process, &nats).await?;
    let Process { readiness, registry, shutdown, .. } = process;
    let listener = serve::listen(settings.listen_addr).map_err(|error| {
        ConfigError::new(
            "LISTEN_ADDR",
            format_args!("cannot listen on {}: {error}", settings.listen_addr),
        )
    })?;
    let app = Arc::new(App {
        admission: Admission::new(),
        builds_in_progress: BuildsInProgress::default(),
        auth: Auth::new(settings.tokens),
        jobs: settings.jobs,
        live: Live::new(),
        trace_url: settings.trace_url.map(Into::into),
        publisher: Publisher::start(bus.clone(), settings.limits),
        rollouts: Rollouts::new(bus.clone()),
        metrics: Metrics::new(&registry),
        shutdown: shutdown.clone(),
    });
    let background = TaskTracker::new();
    background.spawn(app.auth.clone().watch(settings.tokens_file, shutdown.clone()));
    let latches = ["builds", "rollouts", "targets"].map(|name| readiness.latch(name));
    background.spawn(app.rollouts.clone().follow(latches, shutdown.clone()));
    background.spawn(app.live.clone().run(app.rollouts.clone(), shutdown.clone()));
    background.spawn({
        let (latch, shutdown) = (readiness.latch("streams"), shutdown.clone());
        let bus = bus.clone();
        async move { bus.watch_streams(&streams(), latch, shutdown).await }
    });
    background.close();
    readiness.started();

    tracing::info!("serving on http://{}", listener.local_addr()?);
    let connections = app.metrics.connections.clone();
    serve::serve(listener, routes::router(app), &connections, &shutdown).await;
    background.wait().await;
    bus.flush().await;
    Ok(())
}

/// Creates or updates the streams that the gateway publishes to and reads.
pub(crate) async fn provision(nats: Nats, args: ProvisionArgs) -> anyhow::Result<Vec<String>> {
    let bus = Bus::of_command("gateway", &nats).await?;
    bus.provision_streams(&streams(), args.replicas).await
}

fn streams() -> [&'static Stream; 6] {
    let [pipeline, rollouts, targets] = rollouts::streams();
    [&CONTACTS, pipeline, rollouts, targets, &IDEMPOTENCY_CALLERS, &IDEMPOTENCY_VISITORS]
}

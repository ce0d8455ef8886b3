//! The routes, what they share, and the order in which everything starts and ends.

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use events::{CONTACTS, IDEMPOTENCY, Stream};
use runtime::{
    bus::Bus,
    config::{ConfigError, ProvisionArgs},
    process::Process,
    shutdown::Shutdown,
};
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    admission::{self, Admission, BuildsInProgress},
    auth::Auth,
    board::{self, Live},
    builds,
    config::Settings,
    contact,
    formats::Jobs,
    health,
    metrics::Metrics,
    observe, pages,
    problem::Problem,
    publish::Publisher,
    rollouts::{self, Rollouts},
    serve, stream, targets,
};

/// What the handlers share. It is cloned several times a request, so behind one pointer.
pub(crate) type Shared = Arc<App>;

/// The parts of the gateway.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) admission: Admission,
    pub(crate) builds_in_progress: BuildsInProgress,
    pub(crate) auth: Auth,
    pub(crate) jobs: Jobs,
    pub(crate) live: Live,
    /// Where traces are shown, with `{trace_id}`.
    pub(crate) trace_url: Option<Arc<str>>,
    pub(crate) publisher: Publisher,
    pub(crate) rollouts: Rollouts,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// Serves until the shutdown has begun and every request that was begun is answered.
pub(crate) async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let Process { bus, readiness, registry, shutdown, .. } = process;
    let listener = serve::listen(settings.listen_addr).map_err(|error| {
        ConfigError::new("LISTEN_ADDR", format_args!("cannot listen on {}: {error}", settings.listen_addr))
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
        async move { bus.watch_streams(&streams(), latch, shutdown).await }
    });
    background.close();
    readiness.started();

    tracing::info!("serving on http://{}", listener.local_addr()?);
    let connections = app.metrics.connections.clone();
    serve::serve(listener, router(app), &connections, &shutdown).await;
    background.wait().await;
    Ok(())
}

/// Creates or updates the streams that the gateway publishes to and reads.
pub(crate) async fn provision(bus: Bus, args: ProvisionArgs) -> anyhow::Result<Vec<String>> {
    bus.provision_streams(&streams(), args.replicas).await
}

fn streams() -> [&'static Stream; 5] {
    let [pipeline, rollouts, targets] = rollouts::streams();
    [&CONTACTS, pipeline, rollouts, targets, &IDEMPOTENCY]
}

/// All routes.
fn router(app: Shared) -> Router {
    Router::new()
        .route("/", get(pages::contact))
        .route("/assets/style.css", get(pages::style))
        .route("/assets/icon.svg", get(pages::icon))
        .route("/health", get(health::health))
        .route("/api/contact", post(contact::submit))
        .route("/api/builds", get(builds::list).post(builds::submit))
        .route("/api/builds/hooks/{token}", post(builds::hook))
        .route("/api/builds/{id}", get(builds::show))
        .route("/api/builds/{id}/force", post(builds::force))
        .route("/api/rollouts/events", get(stream::events))
        .route("/api/targets", get(targets::list))
        .route("/api/targets/{name}", get(targets::show))
        .route("/api/targets/{name}/freeze", post(targets::freeze).delete(targets::resume))
        .route("/api/targets/{name}/rollback", post(targets::roll_back))
        .merge(board::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            // From the outside in.
            ServiceBuilder::new()
                .layer(from_fn_with_state(app.clone(), observe::observe))
                .layer(CatchPanicLayer::custom(observe::panicked))
                .layer(from_fn_with_state(app.clone(), admission::admit)),
        )
        .with_state(app)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method; the Allow header lists those it does",
    )
}

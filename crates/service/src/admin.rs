//! The admin server: `/metrics` for Prometheus, `/livez` and `/readyz` for Kubernetes and for
//! operators.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Registry, TextEncoder};

use crate::readiness::{Readiness, Status};
use crate::shutdown::Shutdown;

/// The state that the admin server reports.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The metrics of the process.
    pub registry: Registry,
    /// The readiness of each dependency.
    pub readiness: Readiness,
    /// The shutdown of the process, which is not ready once its shutdown has begun.
    pub shutdown: Shutdown,
}

/// Returns the routes of the admin server.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut report = admin.readiness.report();
    if admin.shutdown.has_begun() {
        report.ready = false;
        report
            .dependencies
            .insert("process".into(), Status { ready: false, detail: "shutting down".into() });
    }
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

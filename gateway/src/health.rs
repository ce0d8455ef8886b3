//! `GET /health`: whether the process serves, and which version it is.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::app::Shared;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// 200 while it serves, 503 while it drains.
pub(crate) async fn health(State(app): State<Shared>) -> Response {
    let (code, status) =
        if app.shutdown.has_begun() { (StatusCode::SERVICE_UNAVAILABLE, "draining") } else { (StatusCode::OK, "ok") };
    (code, Json(Health { status, version: runtime::VERSION })).into_response()
}

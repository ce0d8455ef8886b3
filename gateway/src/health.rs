//! `GET /health`: whether the process serves, and which version it is.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::app::Shared;

/// How the process is.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Health {
    status: &'static str,
    version: &'static str,
}

/// 200 while it serves, 503 while it drains.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "pages",
    responses(
        (status = OK, description = "It serves", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "It drains", body = Health),
    )
)]
pub(crate) async fn health(State(app): State<Shared>) -> Response {
    let (code, status) = if app.shutdown.has_begun() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    (code, Json(Health { status, version: service::VERSION })).into_response()
}

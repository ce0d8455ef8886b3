//! All routes: those of the API, which its reference tells, and those of the pages.

use axum::{Router, middleware::from_fn_with_state, routing::get};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    admission,
    app::Shared,
    board, builds, contact, health, observe, pages, problem,
    reference::{self, base},
    stream, targets,
};

/// What the reference tells of.
pub(crate) fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(base())
        .routes(routes!(contact::submit))
        .routes(routes!(builds::list::list, builds::submit))
        .routes(routes!(builds::hook))
        .routes(routes!(builds::show))
        .routes(routes!(builds::force))
        .routes(routes!(stream::events))
        .routes(routes!(targets::list))
        .routes(routes!(targets::show))
        .routes(routes!(targets::freeze, targets::resume))
        .routes(routes!(targets::roll_back))
        .routes(routes!(pages::contact))
        .merge(board::routes())
        .routes(routes!(health::health))
        .routes(routes!(reference::document))
        .routes(routes!(reference::docs))
}

/// All of them, and what happens around each.
pub(crate) fn router(app: Shared) -> Router {
    Router::from(documented())
        .route("/assets/style.css", get(pages::style))
        .route("/assets/icon.svg", get(pages::icon))
        .route("/docs/", get(reference::page))
        .route("/docs/{file}", get(reference::asset))
        .fallback(|| async { problem::not_found() })
        .method_not_allowed_fallback(|| async { problem::method_not_allowed() })
        .layer(
            // From the outside in.
            ServiceBuilder::new()
                .layer(from_fn_with_state(app.clone(), observe::observe))
                .layer(CatchPanicLayer::custom(observe::panicked))
                .layer(from_fn_with_state(app.clone(), admission::admit)),
        )
        .with_state(app)
}

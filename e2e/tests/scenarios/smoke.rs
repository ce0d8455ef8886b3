//! Stands in for the application behind its Service: the containers of this control plane do not run. It answers as it is told,
//! at one path for each target.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

/// How it answers for one target.
#[derive(Clone, Debug)]
pub(crate) enum Answers {
    /// As this version.
    Version(String),
    /// With this status.
    Status(u16),
    /// Not at all.
    Never,
    /// Twice as this version, then once with a 500, and so on.
    Flapping(String),
}

type Told = Arc<Mutex<HashMap<String, (Answers, usize)>>>;

#[derive(Clone)]
pub(crate) struct Smoke {
    pub(crate) url: String,
    told: Told,
}

impl Smoke {
    pub(crate) async fn start() -> Self {
        let told = Told::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/{target}", get(answer)).with_state(told.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, told }
    }

    pub(crate) fn answer(&self, target: &str, answers: Answers) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(target.to_owned(), (answers, 0));
    }

    /// How often it was asked for a target.
    pub(crate) fn asked(&self, target: &str) -> usize {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(target)
            .map_or(0, |(_, asked)| *asked)
    }
}

async fn answer(State(told): State<Told>, Path(target): Path<String>) -> Response {
    let (answers, asked) = {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((answers, asked)) = told.get_mut(&target) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        *asked += 1;
        (answers.clone(), *asked)
    };
    let as_version =
        |version: String| Json(json!({"status": "ok", "version": version})).into_response();
    match answers {
        Answers::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answers::Never => std::future::pending().await,
        Answers::Flapping(_) if asked % 3 == 0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Answers::Version(text) | Answers::Flapping(text) => as_version(text),
    }
}

//! How much may be read and in progress at once. Past that the answer is 503, at once: memory does not grow with the load. Where
//! one client alone is the cause, only that one hears of it, with 429. How long contacts wait, the publisher bounds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use crate::{app::Shared, body::MAX_BODY, problem::Problem};

const KIB: usize = 1024;

/// All that may be in progress, in KiB. Much, because whoever sends slowly keeps his part of it for a while.
const MAX_IN_PROGRESS: usize = 32 * KIB;

/// What a request takes beside its body, in KiB.
const OVERHEAD: usize = 8;

/// How many builds of one token may be in progress. Contacts have no such limit: behind a proxy, all come from one address.
const MAX_BUILDS: usize = 64;

/// The room for requests that bring something.
#[derive(Debug)]
pub(crate) struct Admission(Arc<Semaphore>);

impl Admission {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_IN_PROGRESS)))
    }
}

/// The builds in progress, by the name of their token. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildsInProgress(Arc<Mutex<HashMap<String, usize>>>);

impl BuildsInProgress {
    /// Counts a build until what is returned goes.
    pub(crate) fn begin(&self, token: &str) -> Result<BuildInProgress, Problem> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(token.to_owned()).or_default();
        if *count >= MAX_BUILDS {
            let detail = format!(
                "{MAX_BUILDS} builds of this token are in progress; wait for their answers"
            );
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
                .with_header(header::RETRY_AFTER, "1"));
        }
        *count += 1;
        Ok(BuildInProgress { all: self.clone(), token: token.to_owned() })
    }
}

/// A build that is in progress as long as this lives.
#[derive(Debug)]
pub(crate) struct BuildInProgress {
    all: BuildsInProgress,
    token: String,
}

impl Drop for BuildInProgress {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.token);
            }
        }
    }
}

/// Lets a POST in if there is room for its body, which it keeps until it is answered.
pub(crate) async fn admit(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match app.admission.0.clone().try_acquire_many_owned(cost(announced)) {
        Ok(room) => {
            let response = next.run(request).await;
            drop(room);
            response
        }
        Err(_) => Problem::overloaded(
            "too many requests are in progress; nothing was accepted, try again",
        )
        .into_response(),
    }
}

/// What a body of this length takes, in KiB. One that is not announced may be as large as it likes, up to the limit; one
/// beyond the limit is not read.
fn cost(announced: Option<usize>) -> u32 {
    let body = announced.unwrap_or(MAX_BODY).min(MAX_BODY).div_ceil(KIB);
    u32::try_from(OVERHEAD + body).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_what_it_announces() {
        for (announced, expected) in [
            (Some(0), 8),
            (Some(1), 9),
            (Some(1024), 9),
            (Some(65_536), 72),
            (Some(usize::MAX), 72),
            (None, 72),
        ] {
            assert_eq!(cost(announced), expected, "{announced:?}");
        }
    }

    #[test]
    fn one_token_does_not_take_the_room_of_another() {
        let builds = BuildsInProgress::default();
        let mut held: Vec<_> = (0..MAX_BUILDS).map(|_| builds.begin("jenkins").unwrap()).collect();
        assert_eq!(builds.begin("jenkins").unwrap_err().status(), 429);
        builds.begin("another").unwrap();
        held.pop();
        builds.begin("jenkins").unwrap();
        drop(held);
        assert!(builds.0.lock().unwrap().is_empty(), "nothing is kept of those that are done");
    }
}

//! How much may be in progress at once. Past that the answer is 503, at once: a queue that grows helps nobody.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use crate::{app::Shared, body::MAX_BODY, problem::Problem};

const KIB: usize = 1024;

/// All that may be in progress, in KiB.
const MAX_IN_PROGRESS: usize = 32 * KIB;

/// What a request takes beside its body, in KiB.
const OVERHEAD: usize = 8;

/// The room for requests that bring something.
#[derive(Debug)]
pub(crate) struct Admission(Arc<Semaphore>);

impl Admission {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_IN_PROGRESS)))
    }
}

/// Lets a POST in if there is room for its body, which it keeps until it is answered.
pub(crate) async fn admit(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match app.admission.0.clone().try_acquire_many_owned(cost(announced)) {
        Ok(room) => {
            let response = next.run(request).await;
            drop(room);
            response
        }
        Err(_) => Problem::unavailable("too many requests are in progress; nothing was accepted, try again", 1)
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
        for (announced, expected) in
            [(Some(0), 8), (Some(1), 9), (Some(1024), 9), (Some(65_536), 72), (Some(usize::MAX), 72), (None, 72)]
        {
            assert_eq!(cost(announced), expected, "{announced:?}");
        }
    }
}

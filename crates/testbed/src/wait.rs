//! Waiting for conditions, with a deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer, or the time is up.
///
/// # Errors
/// The time is up; the error says for what.
pub async fn within<T, F: Future<Output = Option<T>>>(
    time: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + time;
    loop {
        // One question that never returns must not outlast the deadline.
        let left = deadline.saturating_duration_since(Instant::now()).max(EVERY);
        if let Ok(Some(answer)) = tokio::time::timeout(left, ask()).await {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "waited {time:?} in vain: {what}");
        tokio::time::sleep(EVERY).await;
    }
}

/// As [`within`] 30 seconds, for tests: fails the test when the time is up.
///
/// # Panics
/// The time is up.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    match within(Duration::from_secs(30), what, ask).await {
        Ok(answer) => answer,
        Err(error) => panic!("{error}"),
    }
}

//! Orderly shutdown with a deadline: the first signal begins the shutdown, a second signal cuts it
//! short.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{future::FutureExt as _, sync::CancellationToken};

/// The shutdown of a process, shared by all clones.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    grace: Duration,
}

/// The reason why a shutdown was cut short.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aborted {
    /// A second signal was received.
    #[error("a second signal was received")]
    SecondSignal,
    /// The grace period of this length is over.
    #[error("the shutdown did not finish within {}", humantime::format_duration(*.0))]
    Overdue(Duration),
}

impl Shutdown {
    /// Creates a shutdown that has not begun, with its grace period.
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Returns true once the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the shutdown begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Runs a future until it completes or the shutdown begins.
    ///
    /// If the shutdown begins first, the future is dropped and `None` is returned. If the shutdown
    /// has already begun, the future is never polled.
    pub fn unless_begun<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Option<T>> {
        // Not an `async fn`, whose future would reserve the memory for `work` twice.
        work.with_cancellation_token(&self.token)
    }

    /// Returns the token that is cancelled when the shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Begins the shutdown on SIGTERM or SIGINT, then waits until it has to be cut short.
    ///
    /// # Errors
    /// Fails if the handlers of the signals cannot be installed.
    pub async fn watch_signals(&self) -> io::Result<Aborted> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            name = next(&mut terminate, &mut interrupt) => {
                let grace = humantime::format_duration(self.grace);
                tracing::info!("{name} received: shutting down within {grace}");
            }
            () = self.begun() => {}
        }
        self.begin();
        tokio::select! {
            _ = next(&mut terminate, &mut interrupt) => Ok(Aborted::SecondSignal),
            () = tokio::time::sleep(self.grace) => Ok(Aborted::Overdue(self.grace)),
        }
    }
}

/// Waits for the next signal and returns its name.
async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn work_is_done_until_the_shutdown_begins() {
        let shutdown = Shutdown::new(Duration::ZERO);
        assert_eq!(shutdown.unless_begun(ready(1)).await, Some(1));
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.unless_begun(pending::<()>()).await }
        });
        shutdown.begin();
        assert_eq!(waiting.await.ok(), Some(None));
        assert_eq!(shutdown.unless_begun(ready(1)).await, None, "the work is not tried any more");
    }
}

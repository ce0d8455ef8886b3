//! Shutdown in order, with a deadline: the first signal starts it, a second one ends it at once.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{future::FutureExt as _, sync::CancellationToken};

/// Tells that the process is to end. Clones hear the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    grace: Duration,
}

/// Why a shutdown did not come to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aborted {
    /// A second signal came.
    #[error("a second signal came")]
    SecondSignal,
    /// The grace period is over.
    #[error("the shutdown was not done within {}", humantime::format_duration(*.0))]
    Overdue(Duration),
}

impl Shutdown {
    /// One that nothing has started yet.
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace }
    }

    /// Starts it.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Does something to its end, or until the shutdown begins: then it is dropped where it waits, and nothing is returned. Once
    /// the shutdown has begun, it is not even tried.
    pub fn unless_begun<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Option<T>> {
        // No `async fn`, which would keep room for the work twice.
        work.with_cancellation_token(&self.token)
    }

    /// The token behind it, for code that takes one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts it on SIGTERM or SIGINT, then waits until it has to be cut short.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub async fn watch_signals(&self) -> io::Result<Aborted> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            name = next(&mut terminate, &mut interrupt) => {
                tracing::info!("{name} received: shutting down, within {}", humantime::format_duration(self.grace));
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
        assert_eq!(shutdown.unless_begun(ready(1)).await, None, "it is not tried any more");
    }
}

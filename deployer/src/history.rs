//! Follows `ROLLOUTS`, so that what became of earlier rollouts is known.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use events::{ROLLOUTS, RolloutChanged, TargetName};
use runtime::{
    bus::{Bus, Failure, Followed},
    readiness::Latch,
    shutdown::Shutdown,
};
use tokio::{sync::watch, time::timeout};

use crate::standing::{Standing, Standings};

/// How long we wait for what the bus has and we have not.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What became of earlier rollouts. Clones share it.
#[derive(Clone)]
pub(crate) struct History {
    bus: Bus,
    standings: Arc<Mutex<Standings>>,
    /// Up to which message of the stream it is known.
    known: Arc<watch::Sender<u64>>,
}

impl History {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, standings: Arc::default(), known: Arc::default() }
    }

    /// Follows until the shutdown begins.
    pub(crate) async fn follow(&self, latch: Latch, shutdown: Shutdown) {
        let tell = |followed: Followed<RolloutChanged>| {
            let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
            match followed {
                Followed::Event { sequence, event } => {
                    if let Some(change) = event {
                        standings.apply(&change);
                    }
                    self.known.send_replace(sequence);
                }
                Followed::Restart => {
                    *standings = Standings::default();
                    self.known.send_replace(0);
                }
                Followed::CaughtUp { sequence } => {
                    self.known.send_if_modified(|known| {
                        let further = sequence > *known;
                        *known = sequence.max(*known);
                        further
                    });
                }
            }
        };
        self.bus.follow(latch, shutdown, tell).await;
    }

    /// What is known of all targets, with everything that was on the bus when this was asked.
    ///
    /// # Errors
    /// The bus is away.
    pub(crate) async fn standings(&self) -> Result<Standings, Failure> {
        self.catch_up().await?;
        Ok(self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// What is known of one target, with everything that was on the bus when this was asked.
    ///
    /// # Errors
    /// The bus is away.
    pub(crate) async fn standing(&self, target: &TargetName) -> Result<Standing, Failure> {
        self.catch_up().await?;
        Ok(self.standings.lock().unwrap_or_else(PoisonError::into_inner).of(target))
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        let unavailable = |error: String| Failure::Unavailable(anyhow!(error));
        let last = self.bus.last_sequence(&ROLLOUTS).await.map_err(unavailable)?;
        let mut known = self.known.subscribe();
        match timeout(CATCH_UP, known.wait_for(|known| *known >= last)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(unavailable(format!("ROLLOUTS has not been told up to its message {last}"))),
        }
    }
}

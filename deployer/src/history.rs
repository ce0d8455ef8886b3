//! Follows `ROLLOUTS` and `TARGETS`, so that what became of earlier rollouts, and what people decided, is known.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use bus::{Bus, Failure, Followed};
use events::{
    ROLLOUTS, RolloutChanged, RolloutState, Stream, TARGETS, TargetChanged, TargetName, TargetState,
};
use planning::{Standing, Standings};
use service::{readiness::Latch, shutdown::Shutdown};
use tokio::{sync::watch, time::timeout};

/// How long we wait for what the bus has and we have not.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What became of earlier rollouts, and what people decided. Clones share it.
#[derive(Clone)]
pub(crate) struct History {
    bus: Bus,
    standings: Arc<Mutex<Standings>>,
    /// Up to which message of each stream it is known.
    rollouts: Arc<watch::Sender<u64>>,
    targets: Arc<watch::Sender<u64>>,
}

impl History {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, standings: Arc::default(), rollouts: Arc::default(), targets: Arc::default() }
    }

    /// Follows until the shutdown begins.
    pub(crate) async fn follow(&self, latches: [Latch; 2], shutdown: Shutdown) {
        let [of_rollouts, of_targets] = latches;
        let rollouts = self.bus.follow(of_rollouts, shutdown.clone(), |followed| {
            self.told(
                &self.rollouts,
                followed,
                Standings::forget_rollouts,
                |standings, change: RolloutChanged| {
                    standings.apply(&change);
                },
            );
        });
        let targets = self.bus.follow(of_targets, shutdown, |followed| {
            self.told(
                &self.targets,
                followed,
                Standings::forget_targets,
                |standings, changed: TargetChanged| {
                    standings.apply_target(changed);
                },
            );
        });
        tokio::join!(rollouts, targets);
    }

    fn told<E>(
        &self,
        known: &watch::Sender<u64>,
        followed: Followed<E>,
        forget: fn(&mut Standings),
        apply: fn(&mut Standings, E),
    ) {
        match followed {
            Followed::Event { sequence, event } => {
                if let Some(event) = event {
                    apply(&mut self.lock(), event);
                }
                known.send_replace(sequence);
            }
            Followed::Restart => {
                forget(&mut self.lock());
                known.send_replace(0);
            }
            Followed::CaughtUp { sequence } => {
                known.send_if_modified(|known| {
                    let further = sequence > *known;
                    *known = sequence.max(*known);
                    further
                });
            }
        }
    }

    /// Asks what is known of all targets, with everything that was on the bus when this was asked.
    ///
    /// # Errors
    /// The bus is away.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(&Standings) -> T,
    ) -> Result<T, Failure> {
        self.catch_up().await?;
        Ok(question(&self.lock()))
    }

    /// What is known of one target, with everything that was on the bus when this was asked.
    ///
    /// # Errors
    /// The bus is away.
    pub(crate) async fn standing(&self, target: &TargetName) -> Result<Standing, Failure> {
        self.catch_up().await?;
        Ok(self.lock().of(target).cloned().unwrap_or_default())
    }

    /// Tells of each target what has no verdict yet, and since when, in seconds of Unix time, as far as is known by now.
    pub(crate) fn under_way(&self, mut tell: impl FnMut(&TargetName, &[(RolloutState, f64)])) {
        for (target, standing) in self.lock().iter() {
            let open = standing
                .rollouts
                .open()
                .map(|(_, open)| (open.state, open.since.timestamp_millis()));
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of these centuries fit")]
            let open: Vec<_> = open.map(|(state, at)| (state, at as f64 / 1e3)).collect();
            tell(target, &open);
        }
    }

    /// Whether the bus has this of a target as the last word, as far as is known by now.
    pub(crate) fn has_state(&self, target: &TargetName, state: &TargetState) -> bool {
        self.lock().of(target).is_some_and(|standing| standing.state.as_ref() == Some(state))
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        tokio::try_join!(
            self.catch_up_with(&ROLLOUTS, &self.rollouts),
            self.catch_up_with(&TARGETS, &self.targets)
        )?;
        Ok(())
    }

    async fn catch_up_with(
        &self,
        stream: &Stream,
        known: &watch::Sender<u64>,
    ) -> Result<(), Failure> {
        let last = self.bus.last_sequence(stream).await;
        let last = last.map_err(|error| Failure::Unavailable(error.into()))?;
        match timeout(CATCH_UP, known.subscribe().wait_for(|known| *known >= last)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Unavailable(anyhow!(
                "{} has not been read up to its message {last}",
                stream.name
            ))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

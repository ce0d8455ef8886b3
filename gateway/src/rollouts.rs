//! What became of every build: a read model of `PIPELINE` and `ROLLOUTS`, which every replica builds for itself by replaying
//! and following them.

mod model;
mod view;

pub(crate) use view::BuildView;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use events::{BuildFinished, BuildId, Event, PIPELINE, RolloutChanged};
use runtime::{
    bus::{Bus, Followed},
    readiness::Latch,
    shutdown::Shutdown,
};
use tokio::sync::watch;

use model::{BuildState, Model};

/// How long a question waits until this replica knows all that had been accepted when it was asked.
const CATCH_UP: Duration = Duration::from_secs(4);

/// The read model, kept up to date. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    bus: Bus,
    model: Arc<Mutex<Model>>,
    /// How far `PIPELINE` has been read.
    pipeline: watch::Sender<u64>,
}

/// The state of a build cannot be told now.
#[derive(Debug, thiserror::Error)]
#[error("the state of builds cannot be read from the bus: {0}")]
pub(crate) struct Unknown(String);

impl Rollouts {
    /// An empty one; [`Rollouts::follow`] fills it.
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, model: Arc::default(), pipeline: watch::Sender::new(0) }
    }

    /// Replays the past and follows the present, until the shutdown begins.
    pub(crate) async fn follow(self, latches: [Latch; 2], shutdown: Shutdown) {
        let [of_builds, of_rollouts] = latches;
        let builds = self.bus.follow(of_builds, shutdown.clone(), |told| self.on_build(told));
        let changes = self.bus.follow(of_rollouts, shutdown.clone(), |told| self.on_change(told));
        tokio::join!(builds, changes);
    }

    fn on_build(&self, told: Followed<BuildFinished>) {
        match told {
            Followed::Event { sequence, event } => {
                if let Some(build) = event {
                    self.model().build(build);
                }
                self.pipeline.send_replace(sequence);
            }
            Followed::CaughtUp { sequence } => {
                self.pipeline.send_if_modified(|known| {
                    sequence > *known && {
                        *known = sequence;
                        true
                    }
                });
            }
            // What was known stays known; the new stream adds to it.
            Followed::Restart => {
                self.pipeline.send_replace(0);
            }
        }
    }

    fn on_change(&self, told: Followed<RolloutChanged>) {
        match told {
            Followed::Event { event: Some(change), .. } => self.model().change(change),
            Followed::Event { event: None, .. } | Followed::CaughtUp { .. } | Followed::Restart => {}
        }
    }

    /// A build that was accepted, by any replica, however long ago; none if there is no such build.
    pub(crate) async fn find(&self, id: BuildId) -> Result<Option<Watched>, Unknown> {
        if let Some(known) = self.model().watch(id) {
            return Ok(Some(Watched(known)));
        }
        // Another replica may have accepted it a moment ago.
        let last = self.bus.last_sequence(&PIPELINE).await.map_err(Unknown)?;
        let mut pipeline = self.pipeline.subscribe();
        let caught_up = async { pipeline.wait_for(|known| *known >= last).await.is_ok() };
        if tokio::time::timeout(CATCH_UP, caught_up).await != Ok(true) {
            return Err(Unknown("this replica is behind".to_owned()));
        }
        if let Some(known) = self.model().watch(id) {
            return Ok(Some(Watched(known)));
        }
        // It may be older than what is kept in memory.
        let changes = self.bus.read_all::<RolloutChanged>(&RolloutChanged::subjects_of_build(id)).await;
        let mut old = Model::default();
        for (_, change) in changes.map_err(Unknown)? {
            old.change(change);
        }
        Ok(old.watch(id).map(Watched))
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One build, whose state can be read and waited for.
#[derive(Debug)]
pub(crate) struct Watched(watch::Receiver<Arc<BuildState>>);

impl Watched {
    /// How it stands.
    pub(crate) fn view(&self) -> BuildView {
        BuildView::of(&self.0.borrow())
    }

    /// Waits until nothing more will happen to it. Ends with the caller's patience.
    pub(crate) async fn terminal(&mut self, patience: impl Future<Output = ()>) {
        tokio::select! {
            // An error means that it was dropped from memory, and that there is nothing to wait for.
            _ = self.0.wait_for(|state| state.is_terminal()) => {}
            () = patience => {}
        }
    }
}

/// The streams that the read model is made of.
pub(crate) fn streams() -> [&'static events::Stream; 2] {
    [BuildFinished::STREAM, RolloutChanged::STREAM]
}

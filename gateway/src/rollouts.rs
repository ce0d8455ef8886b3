//! What became of every build, and how each target is: a read model of `PIPELINE`, `ROLLOUTS` and `TARGETS`, which every replica
//! builds for itself by replaying and following them.

mod feed;
mod list;
mod model;
mod view;

use feed::Feed;
pub(crate) use feed::Subscription;
pub(crate) use list::{Filter, Page};
pub(crate) use model::{BuildState, Model, Overall, Rollout, Transition};
pub(crate) use view::{BuildView, ChangeView, Time};

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bus::{Bus, Followed, ReadError};
use events::{BuildFinished, BuildId, Event, RolloutChanged, Stream, TargetChanged, TargetName};
use planning::{Standing, Standings};
use service::{readiness::Latch, shutdown::Shutdown};
use tokio::sync::watch;

/// How long a question waits until this replica knows all that had been accepted when it was asked.
const CATCH_UP: Duration = Duration::from_secs(4);

/// The read model, kept up to date. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    bus: Bus,
    model: Arc<Mutex<Model>>,
    feed: Feed,
    /// How far each stream has been read.
    pipeline: watch::Sender<u64>,
    changes: watch::Sender<u64>,
    targets: watch::Sender<u64>,
}

/// The state of a build cannot be told now.
#[derive(Debug, thiserror::Error)]
#[error("the state of builds cannot be read from the bus: {0}")]
pub(crate) struct Unknown(String);

impl From<ReadError> for Unknown {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

impl Rollouts {
    /// An empty one; [`Rollouts::follow`] fills it.
    pub(crate) fn new(bus: Bus) -> Self {
        let [pipeline, changes, targets] = std::array::from_fn(|_| watch::Sender::new(0));
        Self {
            feed: Feed::new(bus.clone()),
            bus,
            model: Arc::default(),
            pipeline,
            changes,
            targets,
        }
    }

    /// Replays the past and follows the present, until the shutdown begins.
    pub(crate) async fn follow(self, latches: [Latch; 3], shutdown: Shutdown) {
        let [of_builds, of_rollouts, of_targets] = latches;
        // What was known of builds stays known when a stream is made anew; the new one adds to it.
        let builds = self.bus.follow(of_builds, shutdown.clone(), |told| {
            note(&self.pipeline, told, || {}, |_, build: BuildFinished| self.model().build(build));
        });
        let changes = self.bus.follow(of_rollouts, shutdown.clone(), |told| {
            let forget = || {
                self.model().standings.forget_rollouts();
                self.feed.restart();
            };
            note(&self.changes, told, forget, |sequence, change: RolloutChanged| {
                self.feed.push(sequence, &change);
                self.model().change(change);
            });
        });
        let targets = self.bus.follow(of_targets, shutdown.clone(), |told| {
            note(
                &self.targets,
                told,
                || self.model().standings.forget_targets(),
                |_, changed: TargetChanged| {
                    self.model().standings.apply_target(changed);
                },
            );
        });
        tokio::join!(builds, changes, targets);
    }

    /// A build that was accepted, by any replica, however long ago; none if there is no such build.
    pub(crate) async fn find(&self, id: BuildId) -> Result<Option<Watched>, Unknown> {
        if let Some(known) = self.model().watch(id) {
            return Ok(Some(Watched(known)));
        }
        // Another replica may have accepted it a moment ago.
        self.catch_up_with(BuildFinished::STREAM, &self.pipeline).await?;
        if let Some(known) = self.model().watch(id) {
            return Ok(Some(Watched(known)));
        }
        // It may be older than what is kept in memory.
        let changes =
            self.bus.read_all::<RolloutChanged>(&RolloutChanged::subjects_of_build(id)).await;
        let mut old = Model::default();
        for (_, change) in changes? {
            old.change(change);
        }
        Ok(old.watch(id).map(Watched))
    }

    /// Builds that fit, the newest first.
    pub(crate) async fn list(&self, filter: &Filter) -> Result<Page, Unknown> {
        self.catch_up().await?;
        Ok(self.model().list(filter))
    }

    /// What is known of all targets, with all that had been accepted when this was asked.
    pub(crate) async fn standings(&self) -> Result<Standings, Unknown> {
        self.catch_up().await?;
        Ok(self.model().standings.clone())
    }

    /// What is known of one target, and its last verdict.
    pub(crate) async fn target(
        &self,
        name: &TargetName,
    ) -> Result<Option<(Standing, Option<RolloutChanged>)>, Unknown> {
        self.catch_up().await?;
        Ok(self.model().target(name))
    }

    /// The last verdict of a target, as far as is known by now.
    pub(crate) fn last_verdict(&self, name: &TargetName) -> Option<RolloutChanged> {
        self.model().last_verdicts.get(name).cloned()
    }

    /// The newest build that made an image which succeeded somewhere, if it is among those kept.
    pub(crate) fn build_of(&self, image: &str) -> Option<BuildFinished> {
        self.model().build_of(image)
    }

    /// The changes of rollouts, from behind a place in the stream on, or from now on.
    pub(crate) async fn listen(&self, after: Option<u64>) -> Result<Subscription, Unknown> {
        self.catch_up_with(RolloutChanged::STREAM, &self.changes).await?;
        Ok(self.feed.subscribe(after))
    }

    /// What is known by now, for pages: all builds that are kept, the newest first, and all targets.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Model) -> T) -> T {
        read(&self.model())
    }

    /// Tells that something became known, of rollouts and of targets.
    pub(crate) fn news(&self) -> [watch::Receiver<u64>; 3] {
        [self.pipeline.subscribe(), self.changes.subscribe(), self.targets.subscribe()]
    }

    async fn catch_up(&self) -> Result<(), Unknown> {
        tokio::try_join!(
            self.catch_up_with(BuildFinished::STREAM, &self.pipeline),
            self.catch_up_with(RolloutChanged::STREAM, &self.changes),
            self.catch_up_with(TargetChanged::STREAM, &self.targets),
        )?;
        Ok(())
    }

    async fn catch_up_with(
        &self,
        stream: &Stream,
        known: &watch::Sender<u64>,
    ) -> Result<(), Unknown> {
        let last = self.bus.last_sequence(stream).await?;
        let mut known = known.subscribe();
        let caught_up = async { known.wait_for(|known| *known >= last).await.is_ok() };
        if tokio::time::timeout(CATCH_UP, caught_up).await == Ok(true) {
            Ok(())
        } else {
            Err(Unknown(format!("this replica is behind in {}", stream.name)))
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what a stream told.
fn note<E>(
    known: &watch::Sender<u64>,
    told: Followed<E>,
    forget: impl FnOnce(),
    apply: impl FnOnce(u64, E),
) {
    match told {
        Followed::Event { sequence, event } => {
            if let Some(event) = event {
                apply(sequence, event);
            }
            known.send_replace(sequence);
        }
        Followed::CaughtUp { sequence } => {
            known.send_if_modified(|known| {
                let further = sequence > *known;
                *known = sequence.max(*known);
                further
            });
        }
        Followed::Restart => {
            forget();
            known.send_replace(0);
        }
    }
}

/// One build, whose state can be read and waited for.
#[derive(Debug)]
pub(crate) struct Watched(watch::Receiver<Arc<BuildState>>);

impl Watched {
    /// How it stands.
    pub(crate) fn state(&self) -> Arc<BuildState> {
        self.0.borrow().clone()
    }

    /// Waits until nothing more will happen to it. Ends with the caller's patience.
    pub(crate) async fn terminal(&mut self, patience: impl Future<Output = ()>) {
        tokio::select! {
            // An error means that it was dropped from memory, and that there is nothing to wait for.
            _ = self.0.wait_for(|state| state.is_terminal()) => {}
            () = patience => {}
        }
    }

    /// Waits until it has changed since it was last read. False if it never will.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// The streams that the read model is made of.
pub(crate) fn streams() -> [&'static Stream; 3] {
    [BuildFinished::STREAM, RolloutChanged::STREAM, TargetChanged::STREAM]
}

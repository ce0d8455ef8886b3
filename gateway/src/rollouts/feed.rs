//! Every change of every rollout, as it comes, to any number of listeners.
//!
//! The changes of late are kept once for all, and each listener has just its place among them: what it has yet to hear is
//! never kept for it. Who comes back after a while is first told from the bus itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bus::Bus;
use events::RolloutChanged;
use tokio::sync::watch;

use super::{ChangeView, Unknown};

/// How many changes are kept. A listener that falls further behind is dropped, and may come back.
const KEPT: usize = 1_024;

/// How many changes are read from the bus at once.
const PAGE: usize = 128;

/// A change: its place in the stream, and its JSON.
pub(crate) type Told = (u64, Arc<str>);

/// The changes of late. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    bus: Bus,
    kept: Arc<Mutex<Kept>>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    changes: VecDeque<Told>,
    /// The last one that is no longer kept.
    forgotten: u64,
}

/// What is kept behind a place.
#[derive(Debug, PartialEq, Eq)]
enum Behind {
    Changes(VecDeque<Told>),
    /// Some of it is not kept.
    Forgotten,
}

impl Kept {
    fn push(&mut self, told: Told) {
        self.changes.push_back(told);
        if self.changes.len() > KEPT {
            self.forgotten =
                self.changes.pop_front().map_or(self.forgotten, |(sequence, _)| sequence);
        }
    }

    fn behind(&self, place: u64) -> Behind {
        if place < self.forgotten {
            return Behind::Forgotten;
        }
        let first = self.changes.partition_point(|(sequence, _)| *sequence <= place);
        Behind::Changes(self.changes.iter().skip(first).take(PAGE).cloned().collect())
    }
}

impl Feed {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, kept: Arc::default(), last: watch::Sender::new(0) }
    }

    pub(super) fn push(&self, sequence: u64, change: &RolloutChanged) {
        let json = serde_json::to_string(&ChangeView::of(change)).unwrap_or_default();
        self.kept().push((sequence, json.into()));
        self.last.send_replace(sequence);
    }

    /// The stream was made anew.
    pub(super) fn restart(&self) {
        *self.kept() = Kept::default();
        self.last.send_replace(0);
    }

    /// Listens from behind a change on, or from now on.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let last = self.last.subscribe();
        let now = *last.borrow();
        // A place that is not reached yet is of a stream that is no more.
        let place = after.filter(|place| *place <= now).unwrap_or(now);
        Subscription { feed: self.clone(), last, place, next: VecDeque::new(), live: false }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener.
#[derive(Debug)]
pub(crate) struct Subscription {
    feed: Feed,
    last: watch::Receiver<u64>,
    /// The last change that it was told.
    place: u64,
    next: VecDeque<Told>,
    /// Whether it has caught up with what is kept.
    live: bool,
}

impl Subscription {
    /// The next change, once there is one; none if the listener was too slow.
    ///
    /// # Errors
    /// What was missed cannot be read from the bus.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>, Unknown> {
        loop {
            if let Some((sequence, json)) = self.next.pop_front() {
                self.place = sequence;
                return Ok(Some((sequence, json)));
            }
            self.last.mark_unchanged();
            let behind = self.feed.kept().behind(self.place);
            match behind {
                Behind::Changes(changes) => {
                    self.live = true;
                    self.next = changes;
                    if self.next.is_empty() && self.last.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Behind::Forgotten if self.live => return Ok(None),
                // Boxed: few need it, and thousands may listen.
                Behind::Forgotten => Box::pin(self.read()).await?,
            }
        }
    }

    /// Reads a page of what is not kept any more.
    async fn read(&mut self) -> Result<(), Unknown> {
        let forgotten = self.feed.kept().forgotten;
        let page = self.feed.bus.read_after::<RolloutChanged>(self.place, PAGE).await?;
        let json = |change: &RolloutChanged| {
            serde_json::to_string(&ChangeView::of(change)).unwrap_or_default().into()
        };
        self.next = page.iter().map(|(sequence, change)| (*sequence, json(change))).collect();
        if self.next.is_empty() {
            // It is gone from the bus as well.
            self.place = forgotten;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kept: &Kept, place: u64) -> Option<Vec<u64>> {
        match kept.behind(place) {
            Behind::Changes(changes) => {
                Some(changes.into_iter().map(|(sequence, _)| sequence).collect())
            }
            Behind::Forgotten => None,
        }
    }

    #[test]
    fn each_listener_is_told_what_is_behind_its_place() {
        let mut kept = Kept::default();
        assert_eq!(told(&kept, 0), Some(vec![]));
        for sequence in [3, 5, 9] {
            kept.push((sequence, "".into()));
        }
        assert_eq!(told(&kept, 0), Some(vec![3, 5, 9]));
        assert_eq!(told(&kept, 4), Some(vec![5, 9]));
        assert_eq!(told(&kept, 9), Some(vec![]));
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_gap_is_noticed() {
        let mut kept = Kept::default();
        for sequence in 1..=KEPT as u64 + 2 {
            kept.push((sequence, "".into()));
        }
        assert_eq!(kept.changes.len(), KEPT);
        assert_eq!((told(&kept, 0), told(&kept, 1)), (None, None));
        assert_eq!(told(&kept, 2).map(|told| (told[0], told.len())), Some((3, PAGE)));
    }
}

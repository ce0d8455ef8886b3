//! The log of one rollout, as its only writer sees it.
//!
//! A change is stored only behind the one that we know as the last. Whoever was overtaken, having been paused or cut off for
//! longer than its lease, cannot write any more, and learns it at its next word.

use std::time::Duration;

use bus::{Bus, Failure, PublishError, ReadError};
use chrono::Utc;
use events::{DeployRequested, Event, RolloutChanged, RolloutState};
use prometheus::HistogramVec;

const WITHIN: Duration = Duration::from_secs(5);

/// A rollout's log, opened at its end.
pub(crate) struct RolloutLog {
    bus: Bus,
    sequence: u64,
    last: RolloutChanged,
    in_state: HistogramVec,
}

impl RolloutLog {
    /// Reads where the rollout of a request stands.
    pub(crate) async fn open(
        bus: Bus,
        request: &DeployRequested,
        in_state: HistogramVec,
    ) -> Result<Self, Failure> {
        let unavailable = |error: ReadError| Failure::Unavailable(error.into());
        let subject = RolloutChanged::subject_of(Some(&request.target), request.build_id);
        if let Some((sequence, last)) = bus.read_last(&subject).await.map_err(unavailable)? {
            return Ok(Self { bus, sequence, last, in_state });
        }
        // The planner's word is gone, by age or by hand. The request says enough to go on.
        let (target, image) = (Some(request.target.clone()), request.image.clone());
        let first = RolloutChanged::first(
            request.build_id,
            target,
            RolloutState::Accepted,
            image,
            request.requested_at,
        );
        let last = RolloutChanged { planned: Some(1), ..first };
        Ok(Self { bus, sequence: 0, last, in_state })
    }

    /// Where the rollout stands.
    pub(crate) fn last(&self) -> &RolloutChanged {
        &self.last
    }

    /// Says the last change once more, so that whoever had the rollout before cannot go on with it: being paused does not
    /// last for ever. One that has not begun has nothing to go on with.
    pub(crate) async fn take_over(&mut self) -> Result<(), Failure> {
        let state = self.last.state;
        if state.is_terminal() || state == RolloutState::Accepted {
            return Ok(());
        }
        let detail = self.last.detail.clone();
        self.advance(state, |change| change.detail = detail).await
    }

    /// Writes the next change: the last one in another state, with what `fill` adds to it.
    pub(crate) async fn advance(
        &mut self,
        state: RolloutState,
        fill: impl FnOnce(&mut RolloutChanged),
    ) -> Result<(), Failure> {
        if !state.may_follow(self.last.state) {
            let error =
                anyhow::anyhow!("a rollout that is {} cannot become {state}", self.last.state);
            return Err(Failure::Transient(error));
        }
        let mut change = self.last.next(state, Utc::now());
        fill(&mut change);
        match self.bus.publish_after(&change, self.sequence, WITHIN).await {
            Ok(published) => {
                if state != self.last.state {
                    let took = (change.at - self.last.at).to_std().unwrap_or_default();
                    self.in_state
                        .with_label_values(&[self.last.state.as_str()])
                        .observe(took.as_secs_f64());
                }
                self.sequence = published.sequence;
                self.last = change;
                Ok(())
            }
            Err(PublishError::MovedOn) => Err(Failure::Overtaken(anyhow::anyhow!(
                "another executor went on with {}",
                change.subject()
            ))),
            Err(error) => {
                Err(Failure::Unavailable(anyhow::Error::new(error).context("telling ROLLOUTS")))
            }
        }
    }
}

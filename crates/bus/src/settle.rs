//! What becomes of a message, decided in one place, by the class of what went wrong.

use std::time::Duration;

/// Why a message was not handled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// We stop before it is done; another replica may take it at once.
    #[error("interrupted by the shutdown")]
    Interrupted,
    /// Somebody else has the message by now, and settles it.
    #[error("was taken over: {0:#}")]
    Overtaken(anyhow::Error),
    /// Something that it needs is away. The message is not to blame, so it waits however long that takes.
    #[error("a dependency is away: {0:#}")]
    Unavailable(anyhow::Error),
    /// It may work next time, or it may not.
    #[error("failed, to be tried again: {0:#}")]
    Transient(anyhow::Error),
    /// It will never work.
    #[error("{0:#}")]
    Permanent(anyhow::Error),
}

impl Failure {
    /// Whether something went wrong. That we stop, or that somebody else goes on, is no error.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Interrupted | Self::Overtaken(_))
    }

    /// One word, for spans.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Overtaken(_) => "overtaken",
            Self::Unavailable(_) => "unavailable",
            Self::Transient(_) => "transient",
            Self::Permanent(_) => "permanent",
        }
    }
}

/// What to tell the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It is done.
    Ack,
    /// Nothing: it is not ours any more. If it is nobody's, it comes again when the lease is over.
    Leave,
    /// Deliver it again, after this long.
    Again(Duration),
    /// Keep it among the dead letters, for this reason, then forget it.
    DeadLetter(String),
}

const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// The first delivery has number 1.
pub(crate) fn settle(
    outcome: &Result<(), Failure>,
    delivery: u64,
    max_deliveries: u64,
) -> Settlement {
    match outcome {
        Ok(()) => Settlement::Ack,
        Err(Failure::Interrupted) => Settlement::Again(Duration::ZERO),
        Err(Failure::Overtaken(_)) => Settlement::Leave,
        Err(Failure::Unavailable(_)) => {
            Settlement::Again(delay(delivery).min(Duration::from_secs(10)))
        }
        Err(Failure::Transient(error)) if delivery >= max_deliveries => {
            Settlement::DeadLetter(format!("gave up after {delivery} deliveries: {error:#}"))
        }
        Err(Failure::Transient(_)) => Settlement::Again(delay(delivery)),
        Err(Failure::Permanent(error)) => Settlement::DeadLetter(format!("{error:#}")),
    }
}

/// Doubles from 250 ms on, up to a minute.
fn delay(delivery: u64) -> Duration {
    let exponent = u32::try_from(delivery.saturating_sub(1).min(16)).unwrap_or(16);
    Duration::from_millis(250).saturating_mul(2_u32.saturating_pow(exponent)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_class_has_its_settlement() {
        let again = |millis| Settlement::Again(Duration::from_millis(millis));
        for (outcome, delivery, expected) in [
            (Ok(()), 1, Settlement::Ack),
            (Ok(()), 99, Settlement::Ack),
            (Err(Failure::Interrupted), 1, again(0)),
            (Err(Failure::Interrupted), 99, again(0)),
            (Err(Failure::Overtaken(anyhow!("x"))), 99, Settlement::Leave),
            (Err(Failure::Unavailable(anyhow!("x"))), 1, again(250)),
            (Err(Failure::Unavailable(anyhow!("x"))), 1_000_000, again(10_000)),
            (Err(Failure::Transient(anyhow!("x"))), 1, again(250)),
            (Err(Failure::Transient(anyhow!("x"))), 4, again(2_000)),
            (
                Err(Failure::Transient(anyhow!("x"))),
                10,
                Settlement::DeadLetter("gave up after 10 deliveries: x".to_owned()),
            ),
            (
                Err(Failure::Permanent(anyhow!("x").context("y"))),
                1,
                Settlement::DeadLetter("y: x".to_owned()),
            ),
        ] {
            assert_eq!(
                settle(&outcome, delivery, 10),
                expected,
                "{outcome:?} at delivery {delivery}"
            );
        }
    }

    #[test]
    fn delays_grow_and_are_bounded() {
        let delays: Vec<_> = (1..100).map(delay).collect();
        assert!(delays.is_sorted());
        assert_eq!((delays[0], delays[98]), (Duration::from_millis(250), LONGEST_DELAY));
    }
}

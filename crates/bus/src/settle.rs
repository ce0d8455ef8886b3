//! The settlement of a message, decided in one place by the class of its failure.

use std::time::Duration;

use bytes::Bytes;

/// The extent to which a message was handled.
#[derive(Debug, Default)]
pub enum Handled {
    /// The whole message.
    #[default]
    Whole,
    /// The message except for some parts, which become dead letters.
    Except(Vec<Refused>),
}

/// A part of a message that will never be handled.
#[derive(Debug)]
pub struct Refused {
    /// The place of the part in the message.
    pub index: usize,
    /// A payload that holds this part alone, and can be published again.
    pub payload: Bytes,
    /// The reason.
    pub reason: String,
}

/// The reason why a message was not handled.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The process stops before the work is done; another replica may take the message at once.
    #[error("interrupted by the shutdown")]
    Interrupted,
    /// Another replica has the message now, and settles it.
    #[error("was taken over: {0:#}")]
    Overtaken(anyhow::Error),
    /// A dependency is away. This message and all others wait for it, without a limit of time.
    #[error("a dependency is away: {0:#}")]
    Unavailable(anyhow::Error),
    /// The message cannot be handled for now. It waits without a limit of time; the others do not.
    #[error("waits: {0:#}")]
    Blocked(anyhow::Error),
    /// The message may be handled next time. After a number of failures, it becomes a dead letter.
    #[error("failed, to be tried again: {0:#}")]
    Transient(anyhow::Error),
    /// The message will never be handled.
    #[error("{0:#}")]
    Permanent(anyhow::Error),
}

impl Failure {
    /// Returns whether the failure is an error. A shutdown and a take-over are none.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Interrupted | Self::Overtaken(_))
    }

    /// Returns one word, for spans.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Overtaken(_) => "overtaken",
            Self::Unavailable(_) => "unavailable",
            Self::Blocked(_) => "blocked",
            Self::Transient(_) => "transient",
            Self::Permanent(_) => "permanent",
        }
    }
}

/// The answer to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The message is done.
    Ack,
    /// No answer: the message belongs to another replica. If none has it, the message is delivered
    /// again when the lease ends.
    Leave,
    /// Deliver the message again, after this long.
    Again(Duration),
    /// Store the message as a dead letter, for this reason, then forget it.
    DeadLetter(String),
}

const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// The longest delay while a dependency is away. It is short, since the dependency may be back
/// soon.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);

/// Decides the answer to a message that was delivered `deliveries` times and has failed `failures`
/// times, both including this time.
pub(crate) fn settle<T>(
    outcome: &Result<T, Failure>,
    deliveries: u64,
    failures: u32,
    max_failures: u32,
) -> Settlement {
    match outcome {
        Ok(_) => Settlement::Ack,
        Err(Failure::Interrupted) => Settlement::Again(Duration::ZERO),
        Err(Failure::Overtaken(_)) => Settlement::Leave,
        Err(Failure::Unavailable(_)) => Settlement::Again(delay(deliveries).min(LONGEST_ABSENCE)),
        Err(Failure::Blocked(_)) => Settlement::Again(delay(deliveries)),
        Err(Failure::Transient(error)) if failures >= max_failures => {
            Settlement::DeadLetter(format!("gave up after {failures} failures: {error:#}"))
        }
        Err(Failure::Transient(_)) => Settlement::Again(delay(failures.into())),
        Err(Failure::Permanent(error)) => Settlement::DeadLetter(format!("{error:#}")),
    }
}

/// Returns a delay that doubles with each failure, from 250 ms to a minute.
fn delay(attempt: u64) -> Duration {
    let exponent = u32::try_from(attempt.saturating_sub(1).min(16)).unwrap_or(16);
    Duration::from_millis(250).saturating_mul(2_u32.saturating_pow(exponent)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_class_has_its_settlement() {
        let again = |millis| Settlement::Again(Duration::from_millis(millis));
        let x = || anyhow!("x");
        let gave_up = Settlement::DeadLetter("gave up after 10 failures: x".to_owned());
        let y = Settlement::DeadLetter("y: x".to_owned());
        for (outcome, deliveries, failures, expected) in [
            (Ok(()), 1, 0, Settlement::Ack),
            (Ok(()), 99, 0, Settlement::Ack),
            (Err(Failure::Interrupted), 1, 0, again(0)),
            (Err(Failure::Interrupted), 99, 99, again(0)),
            (Err(Failure::Overtaken(x())), 99, 99, Settlement::Leave),
            (Err(Failure::Unavailable(x())), 1, 0, again(250)),
            (Err(Failure::Unavailable(x())), 1_000_000, 0, again(10_000)),
            (Err(Failure::Blocked(x())), 1, 0, again(250)),
            (Err(Failure::Blocked(x())), 1_000_000, 0, again(60_000)),
            (Err(Failure::Transient(x())), 1, 1, again(250)),
            (Err(Failure::Transient(x())), 4, 4, again(2_000)),
            // Restarts, expired leases and shutdowns count as deliveries but not as failures.
            (Err(Failure::Transient(x())), 99, 1, again(250)),
            (Err(Failure::Transient(x())), 10, 10, gave_up),
            (Err(Failure::Permanent(x().context("y"))), 1, 1, y),
        ] {
            let found = settle(&outcome, deliveries, failures, 10);
            assert_eq!(found, expected, "{outcome:?} at delivery {deliveries}");
        }
    }

    #[test]
    fn delays_grow_and_are_bounded() {
        let delays: Vec<_> = (1..100).map(delay).collect();
        assert!(delays.is_sorted());
        assert_eq!((delays[0], delays[98]), (Duration::from_millis(250), LONGEST_DELAY));
    }
}

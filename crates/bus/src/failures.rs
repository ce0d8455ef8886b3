//! The number of failures of each message. Pure.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::Failure;

/// The number of failures of each message in this process, by its sequence. A restart forgets them,
/// so that a message is given up later, never earlier.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<u64, u32>>);

/// The largest number of messages with counted failures. Other replicas settle some of these
/// messages.
const MAX_FAILURES_KEPT: usize = 10_000;

impl Failures {
    /// Counts a result of a message, and returns the number of its failures so far.
    pub(crate) fn count<T>(&self, sequence: u64, result: &Result<T, Failure>) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) | Err(Failure::Permanent(_) | Failure::Overtaken(_)) => {
                failures.remove(&sequence).unwrap_or(0)
            }
            Err(Failure::Transient(_)) => {
                if failures.len() >= MAX_FAILURES_KEPT {
                    failures.clear();
                }
                let count = failures.entry(sequence).or_default();
                *count += 1;
                *count
            }
            Err(Failure::Interrupted | Failure::Unavailable(_) | Failure::Blocked(_)) => {
                failures.get(&sequence).copied().unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn only_failures_are_counted() {
        let failures = Failures::default();
        let failed = |failure| Err::<(), _>(failure);
        let transient = || failed(Failure::Transient(anyhow!("x")));
        assert_eq!(failures.count(7, &failed(Failure::Interrupted)), 0);
        assert_eq!(failures.count(7, &transient()), 1);
        assert_eq!(failures.count(7, &failed(Failure::Blocked(anyhow!("x")))), 1);
        assert_eq!(failures.count(7, &transient()), 2);
        assert_eq!(failures.count(8, &transient()), 1);
        assert_eq!(failures.count(7, &Ok(())), 2);
        assert_eq!(failures.count(7, &transient()), 1);
    }
}

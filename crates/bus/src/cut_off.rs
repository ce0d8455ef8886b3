//! Leaving a server that is cut off from its cluster. Such a server keeps its clients, but no
//! leader answers their requests.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{ReconnectToServer, Server};
use tokio::time::Instant;

/// The time without an answer of JetStream after which a server counts as cut off. An election of a
/// leader takes 4 to 9 seconds.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);

/// The silence of JetStream on the current connection, and the choice of the next server.
#[derive(Debug, Default)]
pub(crate) struct CutOff {
    silent_since: Mutex<Option<Instant>>,
    /// Set until the next attempt to connect.
    leaving: AtomicBool,
    turn: AtomicUsize,
}

impl CutOff {
    /// Records whether JetStream answered a request that was sent at `asked`. Returns whether the
    /// server has to be left.
    pub(crate) fn record(&self, asked: Instant, answered: bool) -> bool {
        let mut silent_since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *silent_since = None;
            return false;
        }
        let is_cut_off = silent_since.get_or_insert(asked).elapsed() >= CUT_OFF_AFTER;
        if is_cut_off {
            // The next server has as much time.
            *silent_since = None;
            self.leaving.store(true, Relaxed);
        }
        is_cut_off
    }

    /// Returns the server to connect to when a server is left: each of them in turn. The client by
    /// itself prefers the server whose last attempt succeeded, which is the one to leave.
    pub(crate) fn next_server(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        if servers.is_empty() || !self.leaving.swap(false, Relaxed) {
            return None;
        }
        let turn = self.turn.fetch_add(1, Relaxed) % servers.len();
        servers.get(turn).map(|server| ReconnectToServer { addr: server.addr.clone(), delay: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_is_left_after_silence_that_no_answer_interrupts() {
        let cut_off = CutOff::default();
        let begun = Instant::now();
        for (seconds, answered, expected) in [
            (2, false, false),
            (9, true, false),
            (12, false, false),
            (18, false, false),
            (21, false, true),
            // The next server has as much time.
            (23, false, false),
            (32, false, true),
        ] {
            let now = begun + Duration::from_secs(seconds);
            tokio::time::sleep_until(now).await;
            let asked = now - Duration::from_secs(2);
            assert_eq!(cut_off.record(asked, answered), expected, "{seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_server_has_its_turn_when_one_is_left() {
        let servers = ["nats://a", "nats://b"].map(|url| Server {
            addr: url.parse().unwrap(),
            failed_attempts: 0,
            did_connect: true,
            is_discovered: false,
            last_error: None,
        });
        let cut_off = CutOff::default();
        let next = || {
            let next = cut_off.next_server(&servers)?;
            Some(next.addr.host().to_owned())
        };
        assert_eq!(next(), None, "a connection that broke by itself");
        for expected in ["a", "b", "a"] {
            assert!(!cut_off.record(Instant::now(), false));
            tokio::time::sleep(CUT_OFF_AFTER).await;
            assert!(cut_off.record(Instant::now(), false));
            assert_eq!(next().as_deref(), Some(expected));
            assert_eq!(next(), None, "the client chooses, if that server cannot be reached");
        }
    }
}

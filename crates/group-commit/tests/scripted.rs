//! Tests of the mechanism alone, with a log that each test controls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use group_commit::{GroupCommit, Limits, Log, NoOutcome};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

/// Records its groups, and holds each commit back until the test lets it go.
#[derive(Clone)]
struct Scripted {
    groups: Arc<Mutex<Vec<Vec<u32>>>>,
    go: Arc<Semaphore>,
    ready: watch::Sender<bool>,
}

impl Scripted {
    fn new() -> Self {
        Self {
            groups: Arc::default(),
            go: Arc::new(Semaphore::new(0)),
            ready: watch::Sender::new(true),
        }
    }

    fn groups(&self) -> Vec<Vec<u32>> {
        self.groups.lock().unwrap().clone()
    }

    /// Waits until that many commits have begun.
    async fn begun(&self, count: usize) {
        while self.groups().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

impl Log for Scripted {
    type Message = u32;
    type Outcome = usize;

    fn size(_: &u32) -> usize {
        10
    }

    async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        ready.wait_for(|ready| *ready).await.unwrap();
    }

    /// The outcome is the number of messages in the group.
    async fn commit(&self, group: Vec<u32>, _: Instant) -> usize {
        self.groups.lock().unwrap().push(group.clone());
        self.go.acquire().await.unwrap().forget();
        assert!(!group.contains(&666), "the test wants a panic");
        group.len()
    }
}

const LIMITS: Limits =
    Limits { group_messages: 4, group_bytes: 1_000, commits_in_flight: 1, in_progress: 100 };

const LONG: Duration = Duration::from_hours(1);

type Submitted = tokio::task::JoinHandle<Result<usize, NoOutcome>>;

fn submit(commits: &GroupCommit<Scripted>, message: u32) -> Submitted {
    let commits = commits.clone();
    tokio::spawn(async move { commits.submit(message, LONG).await })
}

/// Submits one message and waits until its commit has begun, then some more that have to wait.
async fn one_and_then(
    commits: &GroupCommit<Scripted>,
    log: &Scripted,
    more: &[u32],
) -> Vec<Submitted> {
    let mut submitted = vec![submit(commits, 0)];
    log.begun(1).await;
    for message in more {
        submitted.push(submit(commits, *message));
        tokio::task::yield_now().await;
    }
    submitted
}

#[tokio::test]
async fn a_lone_message_is_committed_at_once() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    log.go.add_permits(1);
    assert_eq!(commits.submit(2, LONG).await, Ok(1));
    assert_eq!(log.groups(), [[2]]);
}

#[tokio::test]
async fn messages_that_arrive_meanwhile_form_the_next_group_and_share_its_outcome() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let submitted = one_and_then(&commits, &log, &[1, 2, 3, 4, 5]).await;
    log.go.add_permits(3);
    let mut outcomes = Vec::new();
    for one in submitted {
        outcomes.push(one.await.unwrap().unwrap());
    }
    assert_eq!(outcomes, [1, 4, 4, 4, 4, 1]);
    assert_eq!(log.groups(), [vec![0], vec![1, 2, 3, 4], vec![5]]);
}

#[tokio::test]
async fn a_group_is_bounded_by_bytes_and_keeps_the_order() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { group_bytes: 25, ..LIMITS });
    let submitted = one_and_then(&commits, &log, &[2, 4, 6, 8, 10]).await;
    log.go.add_permits(10);
    for one in submitted {
        one.await.unwrap().unwrap();
    }
    assert_eq!(log.groups(), [vec![0], vec![2, 4], vec![6, 8], vec![10]]);
}

#[tokio::test]
async fn a_message_larger_than_a_group_goes_alone() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { group_bytes: 5, ..LIMITS });
    let submitted = one_and_then(&commits, &log, &[2, 4]).await;
    log.go.add_permits(3);
    for one in submitted {
        one.await.unwrap().unwrap();
    }
    assert_eq!(log.groups(), [[0], [2], [4]]);
}

#[tokio::test]
async fn as_many_commits_as_allowed_are_on_their_way() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { commits_in_flight: 2, ..LIMITS });
    let mut submitted = one_and_then(&commits, &log, &[2]).await;
    log.begun(2).await;
    submitted.push(submit(&commits, 4));
    submitted.push(submit(&commits, 6));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.groups().len(), 2, "the third waits for its turn");
    log.go.add_permits(3);
    for one in submitted {
        one.await.unwrap().unwrap();
    }
    assert_eq!(log.groups(), [vec![0], vec![2], vec![4, 6]]);
}

#[tokio::test]
async fn a_caller_that_is_dropped_changes_nothing_for_the_others() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let mut submitted = one_and_then(&commits, &log, &[2, 4, 6]).await;
    submitted.remove(2).abort();
    tokio::task::yield_now().await;
    log.go.add_permits(2);
    for one in submitted {
        one.await.unwrap().unwrap();
    }
    assert_eq!(log.groups(), [vec![0], vec![2, 4, 6]], "it is stored all the same");
}

#[tokio::test]
async fn past_the_limit_a_message_is_refused_at_once() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { in_progress: 3, ..LIMITS });
    let submitted = one_and_then(&commits, &log, &[2, 4]).await;
    assert_eq!(commits.submit(6, LONG).await, Err(NoOutcome::Full));
    log.go.add_permits(2);
    for one in submitted {
        one.await.unwrap().unwrap();
    }
    log.go.add_permits(1);
    assert_eq!(commits.submit(8, LONG).await, Ok(1), "and taken again once there is room");
}

#[tokio::test]
async fn a_commit_that_panics_takes_only_its_own_group_along() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    log.go.add_permits(2);
    assert_eq!(commits.submit(666, LONG).await, Err(NoOutcome::Unknown));
    assert_eq!(commits.submit(2, LONG).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_up_before_its_commit_is_never_committed() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    log.ready.send_replace(false);
    log.go.add_permits(2);
    let outcome = commits.submit(2, Duration::from_secs(1)).await;
    assert_eq!(outcome, Err(NoOutcome::NotCommitted));
    log.ready.send_replace(true);
    assert_eq!(commits.submit(4, LONG).await, Ok(1));
    assert_eq!(log.groups(), [[4]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_up_behind_another_commit_is_never_committed() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let first = submit(&commits, 0);
    log.begun(1).await;
    let outcome = commits.submit(2, Duration::from_secs(1)).await;
    assert_eq!(outcome, Err(NoOutcome::NotCommitted));
    log.go.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(1));
    assert_eq!(commits.submit(4, LONG).await, Ok(1));
    assert_eq!(log.groups(), [[0], [4]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_up_during_its_commit_has_no_known_outcome() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let outcome = commits.submit(2, Duration::from_secs(1)).await;
    assert_eq!(outcome, Err(NoOutcome::Unknown));
    assert_eq!(log.groups(), [[2]]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_given_up_make_room_while_the_log_is_not_ready() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { in_progress: 1, ..LIMITS });
    log.ready.send_replace(false);
    for _ in 0..5 {
        let outcome = commits.submit(2, Duration::from_secs(1)).await;
        assert_eq!(outcome, Err(NoOutcome::NotCommitted));
    }
}

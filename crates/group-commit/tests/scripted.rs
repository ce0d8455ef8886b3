//! The mechanism alone, with a log that does what a test tells it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use group_commit::{GroupCommit, Limits, Log, NotTaken};
use tokio::sync::Semaphore;

/// Notes its groups, and holds each commit back until the test lets it go.
#[derive(Clone)]
struct Scripted {
    groups: Arc<Mutex<Vec<Vec<u32>>>>,
    go: Arc<Semaphore>,
}

impl Scripted {
    fn new() -> Self {
        Self { groups: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn groups(&self) -> Vec<Vec<u32>> {
        self.groups.lock().unwrap().clone()
    }

    /// Waits until so many commits have begun.
    async fn begun(&self, count: usize) {
        while self.groups().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

impl Log for Scripted {
    type Message = u32;
    type Outcome = Result<u32, String>;

    fn size(_: &u32) -> usize {
        10
    }

    async fn commit(&self, group: Vec<u32>) -> Vec<Result<u32, String>> {
        self.groups.lock().unwrap().push(group.clone());
        self.go.acquire().await.unwrap().forget();
        assert!(!group.contains(&666), "the test wants a panic");
        group
            .into_iter()
            .map(|message| if message % 2 == 0 { Ok(message) } else { Err("odd".to_owned()) })
            .collect()
    }
}

const LIMITS: Limits =
    Limits { group_messages: 4, group_bytes: 1_000, commits_in_flight: 1, in_progress: 100 };

type Submitted = tokio::task::JoinHandle<Result<Result<u32, String>, NotTaken>>;

fn submit(commits: &GroupCommit<Scripted>, message: u32) -> Submitted {
    let commits = commits.clone();
    tokio::spawn(async move { commits.submit(message).await })
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
    assert_eq!(commits.submit(2).await, Ok(Ok(2)));
    assert_eq!(log.groups(), [[2]]);
}

#[tokio::test]
async fn what_arrives_meanwhile_forms_the_next_group_and_each_has_its_own_outcome() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let submitted = one_and_then(&commits, &log, &[1, 2, 3, 4, 5]).await;
    log.go.add_permits(3);
    let mut outcomes = Vec::new();
    for one in submitted {
        outcomes.push(one.await.unwrap().unwrap().ok());
    }
    assert_eq!(outcomes, [Some(0), None, Some(2), None, Some(4), None]);
    assert_eq!(log.groups(), [vec![0], vec![1, 2, 3, 4], vec![5]]);
}

#[tokio::test]
async fn a_group_is_bounded_by_bytes_and_keeps_the_order() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { group_bytes: 25, ..LIMITS });
    let submitted = one_and_then(&commits, &log, &[2, 4, 6, 8, 10]).await;
    log.go.add_permits(10);
    for one in submitted {
        one.await.unwrap().unwrap().unwrap();
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
        one.await.unwrap().unwrap().unwrap();
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
        one.await.unwrap().unwrap().unwrap();
    }
    assert_eq!(log.groups(), [vec![0], vec![2], vec![4, 6]]);
}

#[tokio::test]
async fn who_hangs_up_changes_nothing_for_the_others() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    let mut submitted = one_and_then(&commits, &log, &[2, 4, 6]).await;
    submitted.remove(2).abort();
    tokio::task::yield_now().await;
    log.go.add_permits(2);
    for one in submitted {
        one.await.unwrap().unwrap().unwrap();
    }
    assert_eq!(log.groups(), [vec![0], vec![2, 4, 6]], "it is stored all the same");
}

#[tokio::test]
async fn past_the_limit_a_message_is_refused_at_once() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), Limits { in_progress: 3, ..LIMITS });
    let submitted = one_and_then(&commits, &log, &[2, 4]).await;
    assert_eq!(commits.submit(6).await, Err(NotTaken::Full));
    log.go.add_permits(2);
    for one in submitted {
        one.await.unwrap().unwrap().unwrap();
    }
    log.go.add_permits(1);
    assert_eq!(commits.submit(8).await, Ok(Ok(8)), "and taken again once there is room");
}

#[tokio::test]
async fn a_commit_that_panics_takes_only_its_own_group_along() {
    let log = Scripted::new();
    let commits = GroupCommit::start(log.clone(), LIMITS);
    log.go.add_permits(2);
    assert_eq!(commits.submit(666).await, Err(NotTaken::Ended));
    assert_eq!(commits.submit(2).await, Ok(Ok(2)));
}

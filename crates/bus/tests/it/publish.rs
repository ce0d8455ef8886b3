//! Publishing: once, in order of knowledge, or not at all.

use std::time::{Duration, Instant};

use bus::PublishError;
use events::{ContactSubmitted, Event, RolloutChanged, RolloutState};

use crate::world::{World, change, connect, contact};

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_same_event_is_stored_once() {
    let world = World::start().await;
    let event = contact();
    let first = world.bus.publish(&event, WITHIN).await.unwrap();
    let second = world.bus.publish(&event, WITHIN).await.unwrap();
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((second.sequence, second.duplicate), (1, true));
    let (sequence, found) =
        world.bus.read_last::<ContactSubmitted>(ContactSubmitted::SUBJECT).await.unwrap().unwrap();
    assert_eq!((sequence, found), (1, event));
}

#[tokio::test]
async fn only_who_has_seen_the_last_change_writes_the_next() {
    let world = World::start().await;
    let other = connect(&world.nats.url(), &world.readiness).await;
    let subject = change(0, RolloutState::Accepted).subject();
    let first =
        world.bus.publish_after(&change(0, RolloutState::Accepted), 0, WITHIN).await.unwrap();

    // Another writer with the very same words, who has not seen ours: it is not taken for a repetition of ours.
    let late = other.publish_after(&change(0, RolloutState::Accepted), 0, WITHIN).await;
    assert!(matches!(late, Err(PublishError::MovedOn)), "{late:?}");

    world
        .bus
        .publish_after(&change(1, RolloutState::Succeeded), first.sequence, WITHIN)
        .await
        .unwrap();
    let stale = other.publish_after(&change(1, RolloutState::Failed), first.sequence, WITHIN).await;
    assert!(matches!(stale, Err(PublishError::MovedOn)), "{stale:?}");
    let all = world.bus.read_all::<RolloutChanged>(&subject).await.unwrap();
    let states: Vec<_> = all.into_iter().map(|(_, change)| change.state).collect();
    assert_eq!(states, [RolloutState::Accepted, RolloutState::Succeeded]);
}

#[tokio::test]
async fn a_restart_of_the_server_is_borne_within_the_time_that_is_given() {
    let mut world = World::start().await;
    world.nats.server.kill();
    let bus = world.bus.clone();
    let event = contact();
    let publishing =
        tokio::spawn(async move { bus.publish(&event, Duration::from_secs(20)).await });
    world.nats.start_again().await.unwrap();
    assert_eq!(publishing.await.unwrap().unwrap().sequence, 1);
}

#[tokio::test]
async fn without_a_server_the_time_is_kept() {
    let mut world = World::start().await;
    world.nats.server.kill();
    let started = Instant::now();
    let result = world.bus.publish(&contact(), Duration::from_millis(300)).await;
    assert!(matches!(result, Err(PublishError::Unavailable)), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_is_frozen_is_not_believed() {
    let world = World::start().await;
    world.nats.server.signal(rustix::process::Signal::STOP).unwrap();
    let result = world.bus.publish(&contact(), Duration::from_secs(1)).await;
    assert!(matches!(result, Err(PublishError::Unavailable)), "{result:?}");
    world.nats.server.signal(rustix::process::Signal::CONT).unwrap();
    world.bus.publish(&contact(), Duration::from_secs(20)).await.unwrap();
}

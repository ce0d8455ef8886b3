//! Publishing: once, only with knowledge of the last message, or not at all.

use std::time::{Duration, Instant};

use bus::PublishError;
use events::{CONTACTS_SUBMITTED, ContactGroup, Event, RolloutChanged, RolloutState};
use service::readiness::Readiness;
use testbed::Nats;

use crate::{
    lossy::{Loss, Lossy},
    world::{World, change, connect, group},
};

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_same_event_is_stored_once() {
    let world = World::start().await;
    let event = group("Hello");
    let first = world.bus.publish(&event, WITHIN).await.unwrap();
    let second = world.bus.publish(&event, WITHIN).await.unwrap();
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((second.sequence, second.duplicate), (1, true));
    let (sequence, found) =
        world.bus.read_last::<ContactGroup>(CONTACTS_SUBMITTED).await.unwrap().unwrap();
    assert_eq!((sequence, found), (1, event));
}

#[tokio::test]
async fn only_who_has_seen_the_last_change_writes_the_next() {
    let world = World::start().await;
    let other = connect(&world.nats.url(), &world.readiness).await;
    let subject = change(0, RolloutState::Accepted).subject();
    let first =
        world.bus.publish_after(&change(0, RolloutState::Accepted), 0, WITHIN).await.unwrap();

    // Another writer publishes the same event without having read ours. Its attempt does not count
    // as a repetition of ours.
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
    let event = group("Hello");
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
    let result = world.bus.publish(&group("Hello"), Duration::from_millis(300)).await;
    // The outcome is unknown if the client has not noticed yet that its connection is gone.
    let failed = matches!(result, Err(PublishError::NotSent | PublishError::Unknown));
    assert!(failed, "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_is_frozen_is_not_believed() {
    let world = World::start().await;
    world.nats.server.signal(rustix::process::Signal::STOP).unwrap();
    let result = world.bus.publish(&group("Hello"), Duration::from_secs(1)).await;
    assert!(matches!(result, Err(PublishError::Unknown)), "{result:?}");
    world.nats.server.signal(rustix::process::Signal::CONT).unwrap();
    world.bus.publish(&group("Hello"), Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_that_was_lost_is_not_taken_for_another_writer() {
    let world = World::start().await;
    lose_an_acknowledgement(&world.nats, &world.readiness).await;
}

#[tokio::test]
async fn an_acknowledgement_of_a_cluster_that_was_lost_is_not_taken_for_another_writer() {
    let world = World::start_on_cluster().await;
    lose_an_acknowledgement(&world.nats, &world.readiness).await;
}

async fn lose_an_acknowledgement(nats: &Nats, readiness: &Readiness) {
    let lossy = Lossy::start(&nats.url(), Loss::Acknowledgement).await.unwrap();
    let bus = connect(&lossy.url, readiness).await;
    let first = change(0, RolloutState::Accepted);
    let published = bus.publish_after(&first, 0, WITHIN).await.unwrap();
    assert!(lossy.done.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!((published.sequence, published.duplicate), (1, true));
    let second = change(1, RolloutState::Succeeded);
    bus.publish_after(&second, published.sequence, WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_not_waited_for() {
    let world = World::start().await;
    world.jetstream().await.delete_stream("CONTACTS").await.unwrap();
    let started = Instant::now();
    let result = world.bus.publish(&group("Hello"), WITHIN).await;
    assert!(matches!(result, Err(PublishError::NoStream)), "{result:?}");
    assert!(started.elapsed() < WITHIN, "{:?}", started.elapsed());
    world.bus.provision_streams(&[&events::CONTACTS], None).await.unwrap();
    let published = world.bus.publish(&group("Hello"), WITHIN).await.unwrap();
    assert_eq!(published.sequence, 1, "what was reported as not sent is not stored");
}

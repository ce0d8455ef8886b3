//! Many in one durable step, on the real server: each message has its own outcome, and is stored once.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bus::{GroupPublisher, LIMITS, PublishError, Published};
use events::{CONTACTS, ContactSubmitted, Event};
use futures::future::join_all;
use serde_json::Value;

use crate::world::{World, contact};

const WITHIN: Duration = Duration::from_secs(20);

fn publisher(world: &World) -> GroupPublisher {
    // One step at a time, so that there are groups.
    let limits = group_commit::Limits { commits_in_flight: 1, ..LIMITS };
    GroupPublisher::start(world.bus.clone(), &CONTACTS, WITHIN, limits)
}

async fn publish_all(
    publisher: &GroupPublisher,
    events: &[ContactSubmitted],
) -> Vec<Result<Published, PublishError>> {
    join_all(events.iter().map(|event| publisher.publish(event))).await
}

fn contacts(count: usize) -> Vec<ContactSubmitted> {
    (0..count).map(|_| contact()).collect()
}

/// How often each message id is in the stream, and the batches that brought them.
async fn stored(world: &World) -> (HashMap<String, usize>, BTreeSet<String>) {
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    let (mut ids, mut batches) = (HashMap::new(), BTreeSet::new());
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
        *ids.entry(header("Nats-Msg-Id").unwrap()).or_default() += 1;
        batches.extend(header("Nats-Batch-Id"));
    }
    (ids, batches)
}

fn assert_each_once(ids: &HashMap<String, usize>, events: &[ContactSubmitted]) {
    assert_eq!(ids.len(), events.len());
    for event in events {
        assert_eq!(ids.get(&event.message_id()), Some(&1), "{event:?}");
    }
}

#[tokio::test]
async fn many_are_stored_in_few_steps_and_each_knows_its_place() {
    let world = World::start().await;
    let events = contacts(300);
    let outcomes = publish_all(&publisher(&world), &events).await;
    let (ids, batches) = stored(&world).await;
    assert_each_once(&ids, &events);
    assert!((1..=10).contains(&batches.len()), "{} batches", batches.len());
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    for (event, outcome) in events.iter().zip(outcomes) {
        let published = outcome.unwrap();
        let message = stream.get_raw_message(published.sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").unwrap().as_str();
        assert_eq!((id, published.duplicate), (event.message_id().as_str(), false));
    }
}

#[tokio::test]
async fn a_few_are_published_one_by_one_at_the_same_time() {
    let world = World::start().await;
    let events = contacts(8);
    let outcomes = publish_all(&publisher(&world), &events).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let (ids, batches) = stored(&world).await;
    assert_each_once(&ids, &events);
    assert!(batches.is_empty(), "a batch costs more than a few messages");
}

/// One message of a batch that is not ours; the server's answer to it if it ends the batch.
async fn foreign(
    jetstream: &async_nats::jetstream::Context,
    batch: &str,
    sequence: usize,
    commit: bool,
) -> Value {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Batch-Id", batch);
    headers.insert("Nats-Batch-Sequence", sequence.to_string());
    if commit {
        headers.insert("Nats-Batch-Commit", "1");
    }
    let request = async_nats::Request::new().headers(headers).payload("{}".into());
    let answer = jetstream.client().send_request(ContactSubmitted::SUBJECT, request).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap_or_default()
}

#[tokio::test]
async fn a_batch_with_a_gap_is_refused_whole() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    assert_eq!(foreign(&jetstream, "gap", 1, false).await, Value::Null, "the server takes it");
    // What `judge` takes for "not stored, try again".
    assert_eq!(foreign(&jetstream, "gap", 3, true).await["error"]["err_code"], 10_176);
    assert_eq!(world.bus.last_sequence(&CONTACTS).await.unwrap(), 0);
}

#[tokio::test]
async fn a_batch_waits_for_its_turn_if_too_many_are_open() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    for number in 0..50 {
        foreign(&jetstream, &format!("open-{number}"), 1, false).await;
    }
    assert_eq!(foreign(&jetstream, "one-too-many", 1, true).await["error"]["err_code"], 10_210);
    let events = contacts(20);
    let publishing = tokio::spawn({
        let (publisher, events) = (publisher(&world), events.clone());
        async move { publish_all(&publisher, &events).await }
    });
    // The server gives each of the others up after ten seconds of silence.
    let outcomes = publishing.await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let (ids, batches) = stored(&world).await;
    assert_each_once(&ids, &events);
    assert!(!batches.is_empty());
}

#[tokio::test]
async fn a_duplicate_splits_its_batch_and_is_answered_as_the_first() {
    let world = World::start().await;
    let mut events = contacts(50);
    let known = contact();
    let first = world.bus.publish(&known, WITHIN).await.unwrap();
    events.insert(25, known);
    // And one that comes twice in the same batch.
    events.push(events[30].clone());
    let outcomes = publish_all(&publisher(&world), &events).await;
    let again = outcomes[25].as_ref().unwrap();
    assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    assert_eq!(outcomes[30].as_ref().unwrap().sequence, outcomes[51].as_ref().unwrap().sequence);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    events.pop();
    assert_each_once(&stored(&world).await.0, &events);
}

#[tokio::test]
async fn a_stream_without_batches_is_published_to_one_by_one() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.allow_atomic_publish = false;
    jetstream.update_stream(config).await.unwrap();
    let events = contacts(50);
    let outcomes = publish_all(&publisher(&world), &events).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let (ids, batches) = stored(&world).await;
    assert_each_once(&ids, &events);
    assert!(batches.is_empty());
}

#[tokio::test]
async fn a_batch_over_the_servers_limit_is_published_one_by_one() {
    let world = World::start().await;
    let limits = group_commit::Limits { commits_in_flight: 1, group_messages: 2_000, ..LIMITS };
    let publisher = GroupPublisher::start(world.bus.clone(), &CONTACTS, WITHIN, limits);
    let events = contacts(1_200);
    let outcomes = publish_all(&publisher, &events).await;
    assert!(
        outcomes.iter().all(Result::is_ok),
        "{:?}",
        outcomes.iter().find(|outcome| outcome.is_err())
    );
    assert_each_once(&stored(&world).await.0, &events);
}

#[tokio::test]
async fn a_full_stream_is_told_to_everybody_it_concerns() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.max_bytes = 60_000;
    jetstream.update_stream(config).await.unwrap();
    let publisher = publisher(&world);
    let mut accepted = Vec::new();
    let mut refused = 0;
    for _ in 0..10 {
        let events = contacts(30);
        let outcomes = publish_all(&publisher, &events).await;
        for (event, outcome) in events.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => accepted.push(event),
                Err(PublishError::Full) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > 0 && !accepted.is_empty());
    assert_each_once(&stored(&world).await.0, &accepted);
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_loses_nothing_and_stores_nothing_twice() {
    let mut world = World::start().await;
    let publisher = publisher(&world);
    let publishing = tokio::spawn(async move {
        let mut accepted = Vec::new();
        for _ in 0..60 {
            let events = contacts(40);
            let outcomes = publish_all(&publisher, &events).await;
            accepted.extend(
                events
                    .into_iter()
                    .zip(outcomes)
                    .filter_map(|(event, outcome)| outcome.ok().map(|_| event)),
            );
        }
        accepted
    });
    for _ in 0..3 {
        let before = world.bus.last_sequence(&CONTACTS).await.unwrap_or_default();
        testbed::eventually("some more to be stored", || async {
            let now = world.bus.last_sequence(&CONTACTS).await.ok()?;
            (now > before || publishing.is_finished()).then_some(())
        })
        .await;
        world.nats.server.kill();
        world.nats.start_again().await.unwrap();
    }
    let accepted = publishing.await.unwrap();
    assert_eq!(accepted.len(), 60 * 40, "each has the time to be stored after all");
    world.bus.connected(WITHIN).await.unwrap();
    assert_each_once(&stored(&world).await.0, &accepted);
}

#[tokio::test]
async fn past_the_limit_nothing_waits() {
    let world = World::start().await;
    let limits = group_commit::Limits { commits_in_flight: 1, in_progress: 10, ..LIMITS };
    let publisher = GroupPublisher::start(world.bus.clone(), &CONTACTS, WITHIN, limits);
    let events = contacts(100);
    let outcomes = publish_all(&publisher, &events).await;
    let busy = outcomes.iter().filter(|outcome| matches!(outcome, Err(PublishError::Busy))).count();
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(busy > 0 && busy + accepted == 100, "{busy} and {accepted}");
}

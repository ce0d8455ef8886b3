//! Group publishing of many members in one durable step, on a real server.

use std::{collections::HashMap, time::Duration};

use bus::{GroupPublisher, Limits, PublishError, Published};
use events::{CONTACTS, Contact, ContactGroup, ContactId};
use futures::future::join_all;
use rustix::process::Signal;

use crate::world::{World, contact};

const WITHIN: Duration = Duration::from_secs(20);

fn publisher(world: &World, within: Duration) -> GroupPublisher<ContactGroup> {
    GroupPublisher::start(world.bus.clone(), within, GroupPublisher::<ContactGroup>::limits())
}

async fn publish_all(
    publisher: &GroupPublisher<ContactGroup>,
    contacts: &[Contact],
) -> Vec<Result<Published, PublishError>> {
    join_all(contacts.iter().map(|contact| publisher.publish(contact.clone()))).await
}

fn contacts(count: usize) -> Vec<Contact> {
    (0..count).map(|_| contact()).collect()
}

/// The groups of the stream, by their sequence.
async fn groups(world: &World) -> HashMap<u64, Vec<ContactId>> {
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    let mut groups = HashMap::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let names: Vec<_> = message.headers.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["Nats-Msg-Id"], "nobody reads more");
        let group: ContactGroup = serde_json::from_slice(&message.payload).unwrap();
        groups.insert(sequence, group.contacts.iter().map(|contact| contact.id).collect());
    }
    groups
}

/// The number of times that each contact is stored.
async fn stored(world: &World) -> HashMap<ContactId, usize> {
    let mut stored = HashMap::new();
    for id in groups(world).await.into_values().flatten() {
        *stored.entry(id).or_default() += 1;
    }
    stored
}

fn assert_each_once(stored: &HashMap<ContactId, usize>, contacts: &[Contact]) {
    assert_eq!(stored.len(), contacts.len());
    for contact in contacts {
        assert_eq!(stored.get(&contact.id), Some(&1), "{contact:?}");
    }
}

#[tokio::test]
async fn many_contacts_are_stored_in_few_messages_and_each_knows_its_own() {
    let world = World::start().await;
    let contacts = contacts(300);
    let outcomes = publish_all(&publisher(&world, WITHIN), &contacts).await;
    assert_each_once(&stored(&world).await, &contacts);
    let groups = groups(&world).await;
    assert!((1..=10).contains(&groups.len()), "{} messages", groups.len());
    for (contact, outcome) in contacts.iter().zip(outcomes) {
        let published = outcome.unwrap();
        assert!(groups[&published.sequence].contains(&contact.id) && !published.duplicate);
    }
}

#[tokio::test]
async fn a_group_is_no_larger_than_the_stream_allows() {
    let world = World::start().await;
    let largest = || Contact { message: "🦀".repeat(5_000), ..contact() };
    let contacts: Vec<_> = (0..200).map(|_| largest()).collect();
    let outcomes = publish_all(&publisher(&world, WITHIN), &contacts).await;
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|one| one.is_err()));
    assert_each_once(&stored(&world).await, &contacts);
    assert!(groups(&world).await.len() >= 8, "4 MB in messages of 512 KiB");
}

#[tokio::test]
async fn a_full_stream_is_reported_to_everybody_it_concerns() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.max_bytes = 60_000;
    jetstream.update_stream(config).await.unwrap();
    let publisher = publisher(&world, WITHIN);
    let mut accepted = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let contacts = contacts(30);
        let outcomes = publish_all(&publisher, &contacts).await;
        for (contact, outcome) in contacts.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => accepted.push(contact),
                Err(PublishError::Full) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > 0 && !accepted.is_empty());
    assert_each_once(&stored(&world).await, &accepted);
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_loses_nothing_and_stores_nothing_twice() {
    let mut world = World::start().await;
    let publisher = publisher(&world, WITHIN);
    let publishing = tokio::spawn(async move {
        let mut accepted = Vec::new();
        for _ in 0..60 {
            let contacts = contacts(40);
            let outcomes = publish_all(&publisher, &contacts).await;
            let outcomes = contacts.into_iter().zip(outcomes);
            accepted
                .extend(outcomes.filter_map(|(contact, outcome)| outcome.ok().map(|_| contact)));
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
    assert_each_once(&stored(&world).await, &accepted);
}

#[tokio::test]
async fn a_contact_that_was_reported_as_not_sent_is_never_stored() {
    let world = World::start().await;
    let within = Duration::from_millis(1_500);
    let publisher = publisher(&world, within);
    world.nats.server.signal(Signal::STOP).unwrap();
    // The first group is on its way; the others wait behind it, and give up one after the other.
    let mut posts = Vec::new();
    for _ in 0..4 {
        for _ in 0..10 {
            let (publisher, contact) = (publisher.clone(), contact());
            posts.push(tokio::spawn(async move { (contact.id, publisher.publish(contact).await) }));
        }
        tokio::time::sleep(within / 3).await;
    }
    let mut not_sent = Vec::new();
    let mut unknown = 0;
    for post in posts {
        match post.await.unwrap() {
            (id, Err(PublishError::NotSent)) => not_sent.push(id),
            (_, Err(PublishError::Unknown)) => unknown += 1,
            (_, other) => panic!("{other:?}"),
        }
    }
    assert!(unknown > 0, "the first group was sent");
    assert!(!not_sent.is_empty(), "an outage leaves one group in doubt, not all");
    world.nats.server.signal(Signal::CONT).unwrap();
    // A later contact is stored behind everything that was sent before.
    let last = contact();
    let late = GroupPublisher::<ContactGroup>::start(
        world.bus.clone(),
        WITHIN,
        GroupPublisher::<ContactGroup>::limits(),
    );
    late.publish(last).await.unwrap();
    let stored = stored(&world).await;
    for id in not_sent {
        assert!(!stored.contains_key(&id), "{id} was reported as not sent");
    }
    assert!(stored.values().all(|times| *times == 1));
}

#[tokio::test]
async fn past_the_limit_nothing_waits() {
    let world = World::start().await;
    let limits = Limits { in_progress: 5, ..GroupPublisher::<ContactGroup>::limits() };
    let publisher = GroupPublisher::<ContactGroup>::start(world.bus.clone(), WITHIN, limits);
    let outcomes = publish_all(&publisher, &contacts(50)).await;
    let busy = |outcome: &&Result<_, _>| matches!(outcome, Err(PublishError::Busy));
    assert_eq!(outcomes.iter().filter(busy).count(), 45);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
}

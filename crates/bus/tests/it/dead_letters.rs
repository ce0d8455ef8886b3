//! Dead letters in the hands of a person: listed, shown, redriven, erased, and counted.

use std::time::Duration;

use async_nats::HeaderMap;
use bus::DeadLettersCommand::{Erase, List, Redrive, Show};
use events::{CONTACTS, CONTACTS_SUBMITTED, PIPELINE, Stream, contact_worker_consumer};
use prometheus::Registry;
use service::shutdown::Shutdown;
use testbed::eventually;

use crate::{
    consume::{Consuming, dead_letters, header, messages},
    world::{World, group},
};

static CONSUMED: [&Stream; 1] = [&CONTACTS];

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Publishes a contact that is never handled, with the headers of a gateway.
async fn publish_never(world: &World, id: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("traceparent", TRACE);
    let payload = serde_json::to_vec(&group("never")).unwrap();
    let jetstream = world.jetstream().await;
    let sent = jetstream.publish_with_headers(CONTACTS_SUBMITTED, headers, payload.into()).await;
    sent.unwrap().await.unwrap();
}

/// Returns a bus with dead letters of contacts, which no consumer reads any longer.
async fn with_letters(count: usize) -> World {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    for number in 0..count {
        publish_never(&consuming.world, &format!("never-{number}")).await;
    }
    consuming.done().await.0
}

/// Puts a letter into the stream in the way of a process that was taken over.
async fn forge(world: &World, subject: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Dead-Letter-Stream", "CONTACTS");
    headers.insert("Dead-Letter-Subject", subject);
    let jetstream = world.jetstream().await;
    let sent = jetstream.publish_with_headers("dead.CONTACTS", headers, "{}".into()).await;
    sent.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_letter_is_redriven_with_its_bytes_and_headers_and_is_gone_then() {
    let world = with_letters(1).await;
    let letter = dead_letters(&world).await.remove(0);
    let handle = |command| world.bus.handle_dead_letters(&CONSUMED, command);

    let listed = handle(List).await.unwrap().join("\n");
    for part in ["SEQ", "\n  1  20", "contacts.submitted", "  it never works"] {
        assert!(listed.contains(part), "no {part:?} in {listed}");
    }
    let shown = handle(Show { sequence: 1, payload: false }).await.unwrap().join("\n");
    assert!(shown.contains(&format!("traceparent: {TRACE}")), "{shown}");
    assert!(!shown.contains("ada@example.org"), "personal data without a request: {shown}");
    let shown = handle(Show { sequence: 1, payload: true }).await.unwrap().join("\n");
    assert!(shown.contains("ada@example.org"), "{shown}");

    let said = handle(Redrive { sequences: vec![1], all: false }).await.unwrap();
    let [message] = messages(&world, "CONTACTS").await.try_into().unwrap();
    let place = message.sequence;
    assert_eq!(said, [format!("dead letter 1: redriven, now message {place} of CONTACTS")]);
    assert_eq!(message.payload, letter.payload);
    assert_eq!(header(&message, "traceparent"), TRACE);
    assert!(header(&message, "Nats-Msg-Id").starts_with("redrive.1."));
    let names: Vec<_> = message.headers.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(dead_letters(&world).await.is_empty());
    assert_eq!(handle(List).await.unwrap(), ["no dead letters"]);
    assert_eq!(
        handle(Redrive { sequences: vec![], all: true }).await.unwrap(),
        ["no dead letters"]
    );
}

#[tokio::test]
async fn all_letters_are_redriven_at_once_and_letters_of_others_stay() {
    let world = with_letters(3).await;
    let jetstream = world.jetstream().await;
    jetstream.publish("dead.PIPELINE", "{}".into()).await.unwrap().await.unwrap();
    let handle = |command| world.bus.handle_dead_letters(&CONSUMED, command);
    let said = handle(Redrive { sequences: vec![], all: true }).await.unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(messages(&world, "CONTACTS").await.len(), 3);
    let left = dead_letters(&world).await;
    assert_eq!((left.len(), left[0].subject.as_str()), (1, "dead.PIPELINE"));
    for command in [
        Show { sequence: 4, payload: false },
        Redrive { sequences: vec![4], all: false },
        Erase { sequences: vec![4] },
    ] {
        let error = handle(command).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("dead letter 4 is from"), "{error}");
    }
    let missing = handle(Show { sequence: 9, payload: false }).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no dead letter 9");
    assert_eq!(dead_letters(&world).await.len(), 1);
}

#[tokio::test]
async fn nothing_is_published_outside_the_stream_of_a_letter() {
    let world = World::start().await;
    forge(&world, "rollout.portfolio.1").await;
    let command = Redrive { sequences: vec![], all: true };
    let error = world.bus.handle_dead_letters(&[&CONTACTS, &PIPELINE], command).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("subject rollout.portfolio.1 of stream CONTACTS"), "{error}");
    assert_eq!(messages(&world, "ROLLOUTS").await.len(), 0);
    assert_eq!(dead_letters(&world).await.len(), 1);
}

#[tokio::test]
async fn a_letter_stays_while_its_stream_is_full() {
    let world = World::start().await;
    forge(&world, CONTACTS_SUBMITTED).await;
    let jetstream = world.jetstream().await;
    let stream = jetstream.get_stream("CONTACTS").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = 1;
    jetstream.update_stream(&config).await.unwrap();
    let handle = |command| world.bus.handle_dead_letters(&CONSUMED, command);
    let error = handle(Redrive { sequences: vec![1], all: false }).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("dead letter 1 stays") && error.contains("full"), "{error}");
    assert_eq!(dead_letters(&world).await.len(), 1);
    assert_eq!(handle(Erase { sequences: vec![1] }).await.unwrap(), ["dead letter 1: erased"]);
    assert!(dead_letters(&world).await.is_empty());
}

#[tokio::test]
async fn the_gauge_stands_until_the_last_letter_is_gone() {
    let world = World::start().await;
    forge(&world, CONTACTS_SUBMITTED).await;
    let (registry, shutdown) = (Registry::new(), Shutdown::new(Duration::from_secs(5)));
    let watch = tokio::spawn({
        let (bus, registry, shutdown) = (world.bus.clone(), registry.clone(), shutdown.clone());
        async move { bus.watch_dead_letters(&[&CONTACTS], &registry, &shutdown).await }
    });
    let shows = async |count: i64| {
        eventually("the gauge", || async {
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).ok()?;
            text.contains(&format!("dead_letters{{stream=\"CONTACTS\"}} {count}\n")).then_some(())
        })
        .await;
    };
    shows(1).await;
    let erase = Erase { sequences: vec![1] };
    world.bus.handle_dead_letters(&CONSUMED, erase).await.unwrap();
    shows(0).await;
    shutdown.begin();
    watch.await.unwrap();
}

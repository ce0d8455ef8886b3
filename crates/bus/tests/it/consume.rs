//! Consuming: a message is acknowledged when done, delivered again when not, and finally a dead
//! letter.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::anyhow;
use async_nats::{
    HeaderValue,
    jetstream::{
        consumer::{DeliverPolicy, pull},
        message::StreamMessage,
    },
};
use bus::{ConsumerMetrics, Delivery, Failure, Handled, Handler, Refused};
use events::{
    CONTACTS, CONTACTS_SUBMITTED, Consumer, ContactGroup, contact_worker_consumer,
    dead_letter_subject,
};
use futures::StreamExt;
use prometheus::Registry;
use service::shutdown::Shutdown;
use testbed::eventually;
use tokio::task::JoinHandle;

use crate::{
    lossy::{LOST_SUBJECT, Loss, Lossy},
    world::{World, connect, group},
};

/// A handler that treats each contact as the contact's message requests.
#[derive(Default)]
struct Obedient {
    deliveries: Mutex<HashMap<String, u64>>,
}

impl Handler for Obedient {
    type Event = ContactGroup;

    async fn handle(&self, batch: Vec<Delivery<ContactGroup>>) -> Vec<Result<Handled, Failure>> {
        let mut results = Vec::new();
        for delivery in batch {
            let what = delivery.event.contacts[0].message.clone();
            self.deliveries.lock().unwrap().insert(what.clone(), delivery.deliveries);
            results.push(match what.as_str() {
                "never" => Err(Failure::Permanent(anyhow!("it never works"))),
                "not now" => Err(Failure::Transient(anyhow!("it does not work now"))),
                "second time" if delivery.deliveries == 1 => {
                    Err(Failure::Unavailable(anyhow!("away")))
                }
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    Ok(Handled::Whole)
                }
                "in part" => Ok(Handled::Except(vec![Refused {
                    index: 4,
                    payload: "the part".into(),
                    reason: "this part never works".to_owned(),
                }])),
                _ => Ok(Handled::Whole),
            });
        }
        results
    }
}

pub(crate) struct Consuming {
    pub(crate) world: World,
    handler: Arc<Obedient>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Consuming {
    pub(crate) async fn start(consumer: Consumer) -> Self {
        let world = World::start().await;
        world.bus.provision_consumers(std::slice::from_ref(&consumer)).await.unwrap();
        Self::start_on(world, consumer)
    }

    fn start_on(world: World, consumer: Consumer) -> Self {
        let (handler, shutdown, registry) =
            (Arc::new(Obedient::default()), Shutdown::new(Duration::from_secs(5)), Registry::new());
        let task = tokio::spawn({
            let (bus, handler, shutdown) = (world.bus.clone(), handler.clone(), shutdown.clone());
            let (metrics, latch) =
                (ConsumerMetrics::new(&registry, "contacts"), world.readiness.latch("consumer"));
            async move {
                tokio::join!(
                    bus.watch_backlog(std::slice::from_ref(&consumer), &metrics, &shutdown),
                    bus.remove_settled_regularly(&consumer, &shutdown),
                    bus.consume(
                        consumer.clone(),
                        handler,
                        metrics.clone(),
                        latch,
                        shutdown.clone()
                    ),
                );
                bus.remove_settled(&consumer).await;
            }
        });
        Self { world, handler, shutdown, task, registry }
    }

    async fn publish(&self, what: &str) {
        self.world.bus.publish(&group(what), Duration::from_secs(5)).await.unwrap();
    }

    async fn left(&self) -> u64 {
        self.world
            .jetstream()
            .await
            .get_stream("CONTACTS")
            .await
            .unwrap()
            .cached_info()
            .state
            .messages
    }

    /// Waits until no message is left, then ends.
    pub(crate) async fn done(self) -> (World, HashMap<String, u64>) {
        eventually("an empty stream", || async { (self.left().await == 0).then_some(()) }).await;
        self.shutdown.begin();
        self.task.await.unwrap();
        let deliveries = self.handler.deliveries.lock().unwrap().clone();
        (self.world, deliveries)
    }
}

/// Consumes in the way of a planner and an executor.
fn one_at_a_time() -> Consumer {
    Consumer {
        batch: 1,
        batches_in_process: 1,
        max_ack_pending: 1,
        ack_wait: Duration::from_secs(6),
        ..contact_worker_consumer()
    }
}

pub(crate) async fn dead_letters(world: &World) -> Vec<StreamMessage> {
    messages(world, "DEAD_LETTERS").await
}

/// Returns all messages of a stream.
pub(crate) async fn messages(world: &World, stream: &str) -> Vec<StreamMessage> {
    let stream = world.jetstream().await.get_stream(stream).await.unwrap();
    let state = &stream.cached_info().state;
    let mut found = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        found.extend(stream.get_raw_message(sequence).await);
    }
    found
}

pub(crate) fn header<'a>(message: &'a StreamMessage, name: &str) -> &'a str {
    message.headers.get(name).map(HeaderValue::as_str).unwrap_or_default()
}

#[tokio::test]
async fn a_poison_message_is_put_aside_while_the_others_flow() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    let jetstream = consuming.world.jetstream().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "poison");
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let ack = jetstream
        .publish_with_headers(CONTACTS_SUBMITTED, headers, "{\"v\":1}".into())
        .await
        .unwrap();
    ack.await.unwrap();
    for number in 0..20 {
        consuming.publish(&format!("good {number}")).await;
    }
    let registry = consuming.registry.clone();
    let (world, deliveries) = consuming.done().await;
    assert_eq!(deliveries.len(), 20);
    let letters = dead_letters(&world).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.subject.as_str(), dead_letter_subject(&CONTACTS));
    assert_eq!(letter.payload, "{\"v\":1}");
    assert_eq!(
        header(letter, "Dead-Letter-Reason"),
        "not a portfolio.contact.submitted: missing field `id`"
    );
    assert_eq!(header(letter, "Dead-Letter-Stream"), "CONTACTS");
    assert_eq!(header(letter, "Dead-Letter-Sequence"), "1");
    assert_eq!(header(letter, "Dead-Letter-Consumer"), "contact-worker");
    assert_eq!(header(letter, "Original-Nats-Msg-Id"), "poison");
    assert!(header(letter, "traceparent").contains("0af7651916cd43dd8448eb211c80319c"));
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(
        text.contains(
            r#"contacts_dead_lettered_total{consumer="contact-worker",stream="CONTACTS"} 1"#
        ),
        "{text}"
    );
}

#[tokio::test]
async fn failures_are_settled_by_their_class() {
    let consuming =
        Consuming::start(Consumer { max_failures: 3, ..contact_worker_consumer() }).await;
    for what in ["never", "not now", "second time", "good"] {
        consuming.publish(what).await;
    }
    let (world, deliveries) = consuming.done().await;
    assert_eq!(deliveries["never"], 1);
    assert_eq!(deliveries["not now"], 3);
    assert_eq!(deliveries["second time"], 2);
    let mut reasons: Vec<_> = dead_letters(&world)
        .await
        .iter()
        .map(|letter| header(letter, "Dead-Letter-Reason").to_owned())
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["gave up after 3 failures: it does not work now", "it never works"]);
}

#[tokio::test]
async fn long_work_is_not_delivered_again() {
    let consumer = Consumer {
        ack_wait: Duration::from_secs(1),
        batch: 1,
        max_ack_pending: 1,
        ..contact_worker_consumer()
    };
    let consuming = Consuming::start(consumer).await;
    consuming.publish("slow").await;
    let (_, deliveries) = consuming.done().await;
    assert_eq!(deliveries["slow"], 1);
}

#[tokio::test]
async fn a_restart_of_the_server_is_borne() {
    for consumer in [contact_worker_consumer(), one_at_a_time()] {
        let mut consuming = Consuming::start(consumer).await;
        consuming.publish("before").await;
        consuming.world.nats.server.kill();
        consuming.world.nats.start_again().await.unwrap();
        consuming.world.bus.publish(&group("after"), Duration::from_secs(20)).await.unwrap();
        let (_, deliveries) = consuming.done().await;
        assert!(deliveries.contains_key("before") && deliveries.contains_key("after"));
    }
}

#[tokio::test]
async fn a_pull_request_that_gets_lost_is_made_again() {
    for consumer in [contact_worker_consumer(), one_at_a_time()] {
        let mut world = World::start().await;
        world.bus.provision_consumers(std::slice::from_ref(&consumer)).await.unwrap();
        let lossy = Lossy::start(&world.nats.url(), Loss::PullRequest).await.unwrap();
        let mut lost = world.jetstream().await.client().subscribe(LOST_SUBJECT).await.unwrap();
        world.bus = connect(&lossy.url, &world.readiness).await;
        let consuming = Consuming::start_on(world, consumer);
        consuming.publish("first").await;
        tokio::time::timeout(Duration::from_secs(10), lost.next()).await.unwrap().unwrap();
        let (_, deliveries) = consuming.done().await;
        assert_eq!(deliveries["first"], 1);
    }
}

#[tokio::test]
async fn what_was_asked_for_and_is_not_waited_for_goes_back() {
    // The lease is longer than this test waits.
    let consumer = Consumer { ack_wait: Duration::from_mins(5), ..one_at_a_time() };
    let consuming = Consuming::start(consumer.clone()).await;
    eventually("a request that waits at the server", || async {
        let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.ok()?;
        (stream.consumer_info(&consumer.name).await.ok()?.num_waiting == 1).then_some(())
    })
    .await;
    let (world, _) = consuming.done().await;
    world.bus.publish(&group("Hello"), Duration::from_secs(5)).await.unwrap();
    eventually("its delivery to who does not wait any more", || async {
        let stream = world.jetstream().await.get_stream("CONTACTS").await.ok()?;
        (stream.consumer_info(&consumer.name).await.ok()?.delivered.consumer_sequence >= 1)
            .then_some(())
    })
    .await;
    let (_, deliveries) = Consuming::start_on(world, consumer).done().await;
    assert_eq!(deliveries["Hello"], 2);
}

#[tokio::test]
async fn a_consumer_that_is_removed_and_made_again_goes_on() {
    for consumer in [contact_worker_consumer(), one_at_a_time()] {
        let consuming = Consuming::start(consumer.clone()).await;
        consuming.publish("before").await;
        eventually("an empty stream", || async { (consuming.left().await == 0).then_some(()) })
            .await;
        let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
        stream.delete_consumer(&consumer.name).await.unwrap();
        let detail = || consuming.world.readiness.report().dependencies["consumer"].detail.clone();
        let missing =
            || std::future::ready(detail().contains("is missing: run provision").then_some(()));
        eventually("what is missing", missing).await;
        consuming.world.bus.provision_consumers(&[consumer]).await.unwrap();
        consuming.publish("after").await;
        let (_, deliveries) = consuming.done().await;
        assert!(deliveries.contains_key("after"));
    }
}

#[tokio::test]
async fn a_consumer_that_is_missing_is_named_until_it_is_there() {
    let world = World::start().await;
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let (handler, registry) = (Arc::new(Obedient::default()), Registry::new());
    let task = tokio::spawn({
        let (bus, shutdown, latch) =
            (world.bus.clone(), shutdown.clone(), world.readiness.latch("consumer"));
        let metrics = ConsumerMetrics::new(&registry, "contacts");
        let consumer = contact_worker_consumer();
        async move { bus.consume(consumer, handler, metrics, latch, shutdown).await }
    });
    let detail = || world.readiness.report().dependencies["consumer"].detail.clone();
    eventually("what is missing", || {
        std::future::ready(
            detail().starts_with("consumer contact-worker is missing: run provision").then_some(()),
        )
    })
    .await;
    world.bus.provision_consumers(&[contact_worker_consumer()]).await.unwrap();
    eventually("it to consume", || std::future::ready((detail() == "consuming").then_some(())))
        .await;
    shutdown.begin();
    task.await.unwrap();
}

#[tokio::test]
async fn a_backlog_of_a_cluster_that_exceeds_a_request_flows() {
    let world = World::start_on_cluster().await;
    let consumer = contact_worker_consumer();
    world.bus.provision_consumers(std::slice::from_ref(&consumer)).await.unwrap();
    let padding = "x".repeat(40_000);
    for number in 0..100 {
        let large = group(&format!("good {number} {padding}"));
        world.bus.publish(&large, Duration::from_secs(10)).await.unwrap();
    }
    let (_, deliveries) = Consuming::start_on(world, consumer).done().await;
    assert_eq!(deliveries.len(), 100);
    assert!(deliveries.values().all(|times| *times == 1), "{:?}", deliveries.values());
}

#[tokio::test]
async fn what_is_settled_leaves_the_stream_and_what_is_not_stays() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    for what in ["good 1", "good 2", "not now", "good 3"] {
        consuming.publish(what).await;
    }
    // The third message waits for its next delivery, and the one behind it waits, too.
    eventually("the first two to leave", || async { (consuming.left().await == 2).then_some(()) })
        .await;
    let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    assert_eq!(stream.cached_info().state.first_sequence, 3);
    // The consumer removes messages once more at its end, without waiting for the next round.
    consuming.publish("good 4").await;
    consuming.shutdown.begin();
    consuming.task.await.unwrap();
    let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    assert_eq!(stream.cached_info().state.first_sequence, 3, "it has not been settled");
}

#[tokio::test]
async fn nothing_is_removed_while_nothing_is_settled() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    consuming.publish("not now").await;
    consuming.publish("good").await;
    eventually("the delivery of both", || {
        std::future::ready((consuming.handler.deliveries.lock().unwrap().len() == 2).then_some(()))
    })
    .await;
    // The removal at the consumer's end finds that the first message is not settled.
    consuming.shutdown.begin();
    consuming.task.await.unwrap();
    let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
}

#[tokio::test]
async fn a_part_that_is_refused_becomes_a_dead_letter_and_the_message_is_settled() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    consuming.publish("in part").await;
    let (world, deliveries) = consuming.done().await;
    assert_eq!(deliveries["in part"], 1);
    let letters = dead_letters(&world).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload, "the part");
    assert_eq!(header(&letters[0], "Dead-Letter-Part"), "4");
    assert_eq!(header(&letters[0], "Dead-Letter-Reason"), "this part never works");
    assert_eq!(header(&letters[0], "Nats-TTL"), "", "a dead contact has no age");
}

#[tokio::test]
async fn a_payload_of_an_unknown_version_waits_while_the_others_flow() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    let jetstream = consuming.world.jetstream().await;
    let newer = "{\"v\":3,\"contacts\":[]}";
    jetstream.publish(CONTACTS_SUBMITTED, newer.into()).await.unwrap().await.unwrap();
    consuming.publish("good").await;
    eventually("the other one to be handled, and the new one to come again", || async {
        let stream = jetstream.get_stream("CONTACTS").await.ok()?;
        let info = stream.consumer_info("contact-worker").await.ok()?;
        let handled = consuming.handler.deliveries.lock().unwrap().contains_key("good");
        (handled && info.num_redelivered > 0).then_some(())
    })
    .await;
    assert_eq!(consuming.left().await, 2, "nothing is settled from the first message on");
    assert!(dead_letters(&consuming.world).await.is_empty());
    consuming.shutdown.begin();
    consuming.task.await.unwrap();
}

/// Ten contacts wait, and an operator has made the consumer by hand.
async fn with_a_consumer_made_by_hand(change: impl FnOnce(&mut pull::Config)) {
    let world = World::start().await;
    let consumer = contact_worker_consumer();
    for _ in 0..10 {
        world.bus.publish(&group("waiting"), Duration::from_secs(5)).await.unwrap();
    }
    let mut config: pull::Config = serde_json::from_value(consumer.to_json()).unwrap();
    change(&mut config);
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    stream.create_consumer(config).await.unwrap();
    let consuming = Consuming::start_on(world, consumer);
    let detail = || consuming.world.readiness.report().dependencies["consumer"].detail.clone();
    eventually("the setting that differs", || {
        std::future::ready(detail().contains("is misconfigured").then_some(()))
    })
    .await;
    // The consumer checks once more at the end of the process.
    consuming.shutdown.begin();
    consuming.task.await.unwrap();
    let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 10, "nothing is removed");
    assert!(consuming.handler.deliveries.lock().unwrap().is_empty(), "nothing is taken");
}

#[tokio::test]
async fn a_consumer_that_skips_what_waits_is_not_believed() {
    with_a_consumer_made_by_hand(|config| config.deliver_policy = DeliverPolicy::New).await;
}

#[tokio::test]
async fn a_consumer_that_gives_up_by_itself_is_not_believed() {
    with_a_consumer_made_by_hand(|config| config.max_deliver = 1).await;
}

#[tokio::test]
async fn messages_are_not_removed_from_a_stream_that_loses_some_by_itself() {
    let consuming = Consuming::start(contact_worker_consumer()).await;
    let jetstream = consuming.world.jetstream().await;
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.max_messages_per_subject = 1_000;
    jetstream.update_stream(config).await.unwrap();
    consuming.publish("good").await;
    eventually("the contact to be handled", || {
        std::future::ready(
            consuming.handler.deliveries.lock().unwrap().contains_key("good").then_some(()),
        )
    })
    .await;
    consuming.shutdown.begin();
    consuming.task.await.unwrap();
    let stream = consuming.world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
}

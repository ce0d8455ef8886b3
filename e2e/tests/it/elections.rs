//! Three servers of the bus, of which one leads each stream: leaders that step down, leaders that
//! are killed, and connections that break.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Stream};
use bson::doc;
use futures::{TryStreamExt, future::join_all};
use serde_json::{Value, json};
use testbed::{Gateway, Nats, Scratch, Service, eventually, within};

use crate::{
    kills::rounds,
    relay::Relay,
    visitors::{Contacts, Promise, Refusal, Visitors, messages},
    world::image,
};

/// The time for which a request waits for the bus.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time by which a clock and a busy machine may be off.
const TOLERANCE: Duration = Duration::from_millis(500);

/// The time after which a message without an answer is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of kills, unless told otherwise: one of the server that the gateway is connected to,
/// and one of another.
const KILLS: u32 = 2;

#[tokio::test]
async fn no_visitor_is_refused_while_a_leader_steps_down() {
    let world = Contacts::start_on_cluster(3).await;
    let visitors = Visitors::start_many(&world.gateway, 32);
    for _ in 0..5 {
        visitors.more(200).await;
        let former = leader(&world.nats, "CONTACTS").await;
        step_down(&world.nats, "CONTACTS", &json!({})).await;
        eventually("another leader", || async {
            (leader(&world.nats, "CONTACTS").await != former).then_some(())
        })
        .await;
    }
    visitors.more(200).await;
    let (promised, refused) = visitors.stop_and_tell().await;
    report("leaders that stepped down", &promised, &refused);
    assert!(refused.is_empty(), "{refused:?}");
    world.stored_once(&promised).await;
}

#[tokio::test]
async fn a_leader_that_is_killed_delays_visitors_and_loses_nothing() {
    let mut world = Contacts::start_on_cluster(3).await;
    let visitors = Visitors::start_many(&world.gateway, 32);
    for round in 0..rounds(KILLS) {
        visitors.more(200).await;
        let near = connected_to(&world.nats, "gateway").await;
        let killed = if round % 2 == 0 { near } else { (near + 1) % world.nats.len() };
        lead(&world.nats, "CONTACTS", killed).await;
        visitors.more(20).await;
        world.nats[killed].server.kill();
        visitors.more(200).await;
        world.nats[killed].start_again().await.unwrap();
        world.has_all_copies().await;
    }
    visitors.more(200).await;
    let (promised, refused) = visitors.stop_and_tell().await;
    report("leaders that were killed", &promised, &refused);
    for refusal in &refused {
        assert!(refusal.waited + TOLERANCE > PATIENCE, "refused too early: {refusal:?}");
    }
    world.stored_once(&promised).await;
    let denied: Vec<_> = refused
        .iter()
        .filter(|refusal| refusal.detail.contains("nothing was accepted"))
        .map(|refusal| refusal.message.as_str())
        .collect();
    let contacts = world.collection().await;
    let stored = contacts.count_documents(doc! {"message": {"$in": denied}}).await.unwrap();
    assert_eq!(stored, 0, "stored, and reported as not accepted");
}

#[tokio::test]
async fn a_connection_that_breaks_and_returns_costs_no_timeout() {
    let scratch = Scratch::new().unwrap();
    let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
    let relay = Relay::start(&nats.url()).await;
    let spec = Gateway::spec(&scratch.folder("gateway").unwrap(), &relay.url).unwrap();
    Service::run(&spec, "provision").await.unwrap();
    let mut gateway = Gateway::start_unready(spec).unwrap();
    gateway.ready().await.unwrap();
    let mut shortest = Duration::MAX;
    let mut stored = 0;
    // A busy machine may be slow at any one time; a timeout would be waited for every time.
    for _ in 0..5 {
        relay.mute();
        let contact = json!({"name": "Ada", "email": "a@example.org", "message": "Hello"});
        let begun = Instant::now();
        let posts = join_all((0..40).map(|_| gateway.http.post_json("/api/contact", &contact)));
        let breaking = async {
            // The bus has stored some of them, and the gateway does not know.
            eventually("a message that is not acknowledged", || async {
                (messages(&nats.url(), "CONTACTS").await? > stored).then_some(())
            })
            .await;
            relay.cut();
        };
        let (answers, ()) = tokio::join!(posts, breaking);
        shortest = shortest.min(begun.elapsed());
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        stored = messages(&nats.url(), "CONTACTS").await.unwrap();
        gateway.ready().await.unwrap();
    }
    say(&format!("a connection that broke: 40 posts within {shortest:?}"));
    assert!(shortest < ANSWER_TIMEOUT, "{shortest:?}");
}

#[tokio::test]
async fn a_server_that_is_lost_with_the_consumer_of_a_read_model_does_not_blind_it() {
    let mut world = Contacts::start_on_cluster(3).await;
    let near = connected_to(&world.nats, "gateway").await;
    let streams = ["PIPELINE", "ROLLOUTS", "TARGETS"];
    for stream in streams {
        lead(&world.nats, stream, near).await;
    }
    // A server that leads nothing, so that its end needs no election.
    let lost = within(Duration::from_mins(1), "a consumer elsewhere", || async {
        let meta = world.nats[near].meta_leader().await.ok()??;
        for stream in streams {
            let stream = stream_of(&world.nats, stream).await?;
            let consumers: Vec<_> = stream.consumers().try_collect().await.ok()?;
            for info in consumers.into_iter().filter(|info| info.name.starts_with("gateway-")) {
                let holder = info.cluster?.leader?;
                let holder = world.nats.iter().position(|nats| nats.name() == holder)?;
                if holder != near && world.nats[holder].name() != meta {
                    return Some(holder);
                }
                // The follower makes another one, perhaps elsewhere.
                stream.delete_consumer(&info.name).await.ok()?;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        None
    })
    .await
    .unwrap();
    world.gateway.ready().await.unwrap();
    world.nats[lost].server.kill();
    let killed = Instant::now();
    let build =
        json!({"job": "portfolio", "number": 1, "status": "success", "image": image("v1-abc1234")});
    let answer = world.gateway.ci().post_json("/api/builds", &build).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let path = format!("/api/builds/{}", answer.json()["id"].as_str().unwrap());
    eventually("the build that was posted", || async {
        let answer = world.gateway.ci().get(&path).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let blind = killed.elapsed();
    say(&format!("a consumer that was lost: the build can be read after {blind:?}"));
    assert_eq!(connected_to(&world.nats, "gateway").await, near, "the connection was not lost");
    assert!(blind < Duration::from_secs(10), "{blind:?}");
}

/// The place of the server that a client is connected to.
async fn connected_to(nats: &[Nats], client: &str) -> usize {
    eventually("the client's server", || async {
        for (index, server) in nats.iter().enumerate() {
            let clients = server.clients().await.unwrap_or_default();
            if clients.iter().any(|name| name == client) {
                return Some(index);
            }
        }
        None
    })
    .await
}

async fn stream_of(nats: &[Nats], stream: &str) -> Option<Stream> {
    let client = async_nats::connect(nats[0].url()).await.ok()?;
    jetstream::new(client).get_stream(stream).await.ok()
}

/// The name of the server that leads a stream.
async fn leader(nats: &[Nats], stream: &str) -> String {
    eventually("a leader", || async {
        stream_of(nats, stream).await?.cached_info().cluster.clone()?.leader
    })
    .await
}

/// Asks the leader of a stream to step down, until it does.
async fn step_down(nats: &[Nats], stream: &str, body: &Value) {
    eventually("a leader that steps down", || async {
        let client = async_nats::connect(nats[0].url()).await.ok()?;
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
        let answer = client.request(subject, body.to_string().into()).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        (answer["success"] == true).then_some(())
    })
    .await;
}

/// Makes a server the leader of a stream.
async fn lead(nats: &[Nats], stream: &str, index: usize) {
    let name = nats[index].name();
    while leader(nats, stream).await != name {
        step_down(nats, stream, &json!({"placement": {"preferred": name}})).await;
    }
}

fn report(what: &str, promised: &[Promise], refused: &[Refusal]) {
    let longest = promised.iter().map(|promise| promise.waited).max();
    say(&format!(
        "{what}: {} contacts accepted, the longest after {longest:?}; {} refused",
        promised.len(),
        refused.len()
    ));
}

#[expect(clippy::print_stderr, reason = "a figure for people who ask for it with --nocapture")]
fn say(figure: &str) {
    eprintln!("{figure}");
}

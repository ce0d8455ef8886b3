//! A store that answers late, or that cannot promise what it was asked for.

use std::{
    fs,
    time::{Duration, Instant},
};

use bson::doc;
use serde_json::{Value, json};
use testbed::{Mongo, Scratch, Server, eventually, within};

use crate::visitors::{Contacts, Visitors};

/// The largest number of inserts of one worker, including those that it no longer waits for.
const INSERTS: usize = 6;

/// More than a worker takes with three inserts, and less than its pod may have (128 MiB).
const MEMORY_KIB: u64 = 96 * 1024;

/// An insert of the worker is given up after 10 s. This is some rounds of them.
const WITHOUT_A_MAJORITY: Duration = Duration::from_secs(45);

/// Returns the inserts in progress whose client is the worker.
async fn inserts(primary: &Mongo) -> usize {
    let command = doc! {
        "aggregate": 1, "cursor": {},
        "pipeline": [
            {"$currentOp": {"allUsers": true}},
            {"$match": {"appName": "contact-worker", "op": "insert"}},
        ],
    };
    let answer = primary.admin(command).await.unwrap();
    answer.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len()
}

/// Returns the number of sockets that a process holds.
fn sockets(server: &Server) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid().unwrap())).unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[tokio::test]
async fn without_a_majority_the_worker_stays_small_and_goes_on_afterwards() {
    let scratch = Scratch::new().unwrap();
    let mut set = Mongo::start_set(&scratch.folder("mongo").unwrap(), 3).await.unwrap();
    let others = set.split_off(1);
    let world = Contacts::start_with(scratch, set.remove(0)).await;
    let worker = &world.worker.server;
    let visitors = Visitors::start(&world.gateway);
    visitors.more(100).await;
    let (memory, connections) = (worker.resident_kib().unwrap(), sockets(worker));

    // A primary that is ahead of the others slows down writes, here at once: an insert of many
    // contacts takes longer than the worker waits, although the write concern has a limit.
    let ahead = doc! {"setParameter": 1, "flowControlTargetLagSeconds": 1};
    world.mongo.admin(ahead).await.unwrap();
    for other in &others {
        other.server.pause().unwrap();
    }
    let frozen = Instant::now();
    let (mut most_inserts, mut rounds) = (0, 0);
    while frozen.elapsed() < WITHOUT_A_MAJORITY {
        visitors.more(1).await;
        let inserts = inserts(&world.mongo).await;
        rounds += usize::from(inserts > 0);
        most_inserts = most_inserts.max(inserts);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(rounds > 0, "the worker did not try");
    assert!(most_inserts <= INSERTS, "{most_inserts} inserts at once");
    let more_connections = sockets(worker).saturating_sub(connections);
    assert!(more_connections <= INSERTS + 2, "{more_connections} more connections");
    let peak = worker.peak_kib().unwrap();
    assert!(peak <= MEMORY_KIB, "the worker took {peak} KiB, and {memory} before");

    for other in &others {
        other.server.resume().unwrap();
    }
    let promised = visitors.stop().await;
    world.stored_once(&promised).await;
}

/// A group of contacts, as a gateway publishes it.
fn group(contacts: usize) -> Value {
    let contact = || {
        json!({
            "id": uuid::Uuid::now_v7(), "name": "Ada", "email": "ada@example.org",
            "message": "x".repeat(1_000), "received_at": "2026-01-01T00:00:00.123Z",
        })
    };
    json!({"v": 2, "contacts": (0..contacts).map(|_| contact()).collect::<Vec<_>>()})
}

/// The server delays each insert by so much.
async fn delay_inserts(mongo: &Mongo, delay: Duration) {
    let mode = if delay.is_zero() { "off" } else { "alwaysOn" };
    let millis = i32::try_from(delay.as_millis()).unwrap();
    let data = doc! {"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": millis};
    let command = doc! {"configureFailPoint": "failCommand", "mode": mode, "data": data};
    mongo.admin(command).await.unwrap();
}

#[tokio::test]
async fn a_slow_store_gets_each_contact_once() {
    /// Together longer than a lease, which is 15 s.
    const DELAY: Duration = Duration::from_secs(7);
    const GROUPS: usize = 60;
    const MEMBERS: usize = 100;
    let scratch = Scratch::new().unwrap();
    let folder = scratch.folder("mongo").unwrap();
    let mongo =
        Mongo::start_adapted(&folder, |spec| spec.args(["--setParameter", "enableTestCommands=1"]));
    let mongo = mongo.await.unwrap();
    let mut world = Contacts::start_with(scratch, mongo).await;
    world.worker.server.kill();
    let client = async_nats::connect(world.nats[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    for _ in 0..GROUPS {
        let payload = group(MEMBERS).to_string();
        jetstream.publish("contacts.submitted", payload.into()).await.unwrap().await.unwrap();
    }
    delay_inserts(&world.mongo, DELAY).await;
    let started = Instant::now();
    world.worker.server.start_again().unwrap();
    within(Duration::from_mins(2), "all to be stored", || async {
        let stored = world.mongo.count("portfolio", "contacts").await.ok()?;
        (stored == (GROUPS * MEMBERS) as u64).then_some(())
    })
    .await
    .unwrap();
    assert!(
        started.elapsed() > Duration::from_secs(15),
        "none had to wait for longer than a lease"
    );
    let stream = jetstream.get_stream_no_info("CONTACTS").await.unwrap();
    let info = eventually("all to be settled", || async {
        let info = stream.consumer_info("contact-worker").await.ok()?;
        (info.num_pending == 0 && info.num_ack_pending == 0).then_some(info)
    })
    .await;
    assert_eq!(info.num_redelivered, 0);
    assert_eq!(info.delivered.consumer_sequence, GROUPS as u64, "each is delivered once");
    delay_inserts(&world.mongo, Duration::ZERO).await;
}

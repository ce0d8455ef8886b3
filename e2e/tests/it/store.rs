//! The store as an owner may have it: with an index or a document of the owner's own, or far
//! behind.

use bson::doc;
use mongodb::{IndexModel, options::IndexOptions};
use serde_json::{Value, json};
use testbed::{Service, eventually};

use crate::visitors::Contacts;

/// Returns a message as a former version published it: a single contact.
fn version_1(id: uuid::Uuid, message: &str) -> Value {
    json!({
        "v": 1, "id": id, "name": "Ada", "email": "ada@example.org", "message": message,
        "received_at": "2026-01-01T00:00:00.123Z",
    })
}

async fn publish(world: &Contacts, messages: impl IntoIterator<Item = Value>) {
    let client = async_nats::connect(world.nats[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    for message in messages {
        let sent = jetstream.publish("contacts.submitted", message.to_string().into()).await;
        sent.unwrap().await.unwrap();
    }
}

async fn dead_letters(world: &Contacts, count: u64) -> Vec<String> {
    eventually("the dead letters", || async {
        (world.messages("DEAD_LETTERS").await? == count).then_some(())
    })
    .await;
    let client = async_nats::connect(world.nats[0].url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("DEAD_LETTERS").await.unwrap();
    let mut reasons = Vec::new();
    for sequence in 1..=count {
        let letter = stream.get_raw_message(sequence).await.unwrap();
        reasons.push(letter.headers.get("Dead-Letter-Reason").unwrap().as_str().to_owned());
        assert!(letter.headers.get("Nats-TTL").is_none(), "a dead contact has no age");
    }
    reasons
}

#[tokio::test]
async fn a_unique_index_of_the_owner_loses_no_contact() {
    let mut world = Contacts::start().await;
    let unique = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! {"email": 1}).options(unique).build();
    world.collection().await.create_index(index).await.unwrap();
    // Whatever groups the contacts are in, they become dead letters one by one.
    world.worker.server.kill();
    for _ in 0..3 {
        let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
        let answer = world.gateway.http.post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    world.worker.server.start_again().unwrap();
    let reasons = dead_letters(&world, 2).await;
    assert!(
        reasons.iter().all(|reason| reason.contains("a unique index has its value already")),
        "{reasons:?}"
    );
    assert_eq!(world.mongo.count("portfolio", "contacts").await.unwrap(), 1);
    eventually("an empty queue", || async {
        (world.messages("CONTACTS").await? == 0).then_some(())
    })
    .await;
    // As in the runbook, the cause is removed and the contacts are redriven.
    let command = async |command: &str| {
        Service::run(world.worker.server.spec(), &format!("dead-letters {command}")).await.unwrap()
    };
    let listed = command("list").await;
    assert!(listed.lines().count() == 3 && !listed.contains("ada@example.org"), "{listed}");
    world.collection().await.drop_index("email_1").await.unwrap();
    let said = command("redrive --all").await;
    assert_eq!(said.matches(": redriven, now message ").count(), 2, "{said}");
    eventually("all three to be stored", || async {
        (world.mongo.count("portfolio", "contacts").await.ok()? == 3).then_some(())
    })
    .await;
    assert_eq!(command("list").await.trim(), "no dead letters");
}

#[tokio::test]
async fn a_contact_whose_id_another_document_has_is_not_taken_for_stored() {
    let world = Contacts::start().await;
    let id = uuid::Uuid::now_v7();
    publish(&world, [version_1(id, "Hello"), version_1(id, "Hello"), version_1(id, "Other")]).await;
    let reasons = dead_letters(&world, 1).await;
    assert_eq!(reasons, ["MongoDB holds another contact under the same id"]);
    let found = world.collection().await.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(found.get_str("message").unwrap(), "Hello");
}

#[tokio::test]
async fn what_a_former_version_left_on_the_bus_is_stored() {
    let mut world = Contacts::start().await;
    world.worker.server.kill();
    let ids: Vec<_> = (0..50).map(|_| uuid::Uuid::now_v7()).collect();
    publish(&world, ids.iter().map(|id| version_1(*id, "Hello"))).await;
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let answer = world.gateway.http.post_json("/api/contact", &contact).await.unwrap();
    world.worker.server.start_again().unwrap();
    let mut ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    world.stored(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn the_largest_contacts_fit_the_memory_of_a_worker() {
    const CONTACTS: usize = 3_200;
    let mut world = Contacts::start().await;
    world.worker.server.kill();
    let text = "🦀".repeat(5_000);
    let waiting = (0..CONTACTS).map(|_| version_1(uuid::Uuid::now_v7(), &text));
    publish(&world, waiting).await;
    world.worker.server.start_again().unwrap();
    eventually("all of them to be stored", || async {
        let stored = world.mongo.count("portfolio", "contacts").await.ok()?;
        (stored == CONTACTS as u64).then_some(())
    })
    .await;
    let peak = world.worker.server.peak_kib().unwrap();
    assert!(peak <= 64 * 1024, "the worker took {peak} KiB");
}

//! Contacts on their way to MongoDB: each is stored once, whatever happens.

use bson::doc;
use serde_json::json;
use testbed::eventually;

use crate::{
    visitors::{Contacts, Visitors},
    world::logged,
};

#[tokio::test]
async fn a_contact_ends_in_mongodb_with_its_trace() {
    let world = Contacts::start().await;
    let trace = "1af7651916cd43dd8448eb211c80319c";
    let client = world.gateway.http.with("traceparent", &format!("00-{trace}-b7ad6b7169203331-00"));
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let answer = client.post_json("/api/contact", &contact).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = bson::Uuid::parse_str(answer.json()["id"].as_str().unwrap()).unwrap();

    let contacts = world.collection().await;
    let found =
        eventually("the document", || async { contacts.find_one(doc! {"_id": id}).await.ok()? })
            .await;
    assert_eq!(found.get_str("email").unwrap(), "ada@example.org");
    assert_eq!(found.get("subject"), Some(&bson::Bson::Null));
    // Times are compared, not texts, which may leave out the zeros at the end.
    let received = found.get_datetime("received_at").unwrap().to_chrono();
    let told = answer.json()["received_at"]
        .as_str()
        .unwrap()
        .parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap();
    assert_eq!(received, told);
    assert!(found.get_datetime("stored_at").is_ok());

    let indexes = contacts.list_index_names().await.unwrap();
    assert_eq!(indexes, ["_id_", "received_at_-1", "email_1_received_at_-1"]);
    let line =
        logged(&world.worker.server, "contact stored", |line| line["message"] == "contact stored")
            .await;
    assert_eq!(line["trace_id"], trace);
    assert_eq!(line["contact.id"], answer.json()["id"]);
}

#[tokio::test]
async fn nothing_is_lost_when_each_part_is_killed_under_traffic() {
    let mut world = Contacts::start().await;
    let visitors = Visitors::start(&world.gateway);
    visitors.more(50).await;

    world.nats[0].server.kill();
    world.nats[0].start_again().await.unwrap();
    visitors.more(50).await;

    world.mongo.server.kill();
    visitors.more(50).await;
    world.mongo.start_again().await.unwrap();
    visitors.more(50).await;

    world.gateway.kill_and_start_again().unwrap();
    visitors.more(50).await;

    world.worker.kill_and_start_again().unwrap();
    visitors.more(50).await;

    // All parts are killed at once.
    world.nats[0].server.kill();
    world.mongo.server.kill();
    world.gateway.server.kill();
    world.worker.server.kill();
    world.nats[0].start_again().await.unwrap();
    world.mongo.start_again().await.unwrap();
    world.gateway.server.start_again().unwrap();
    world.worker.server.start_again().unwrap();
    visitors.more(50).await;

    let promised = visitors.stop().await;
    world.stored_once(&promised).await;
}

#[tokio::test]
async fn contacts_wait_while_mongodb_is_away() {
    let mut world = Contacts::start().await;
    world.mongo.server.kill();
    let unready = || async {
        let report = world.worker.admin.get("/readyz").await.ok()?;
        (report.status == 503 && report.json()["dependencies"]["mongodb"]["ready"] == false)
            .then_some(())
    };
    eventually("an unready worker", unready).await;
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let mut ids = Vec::new();
    for _ in 0..20 {
        let answer = world.gateway.http.post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.messages("CONTACTS").await, Some(20));
    world.mongo.start_again().await.unwrap();
    world.stored(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.worker.ready().await.unwrap();
    assert!((world.worker.metric("contacts_stored_total ").await.unwrap() - 20.0).abs() < 0.5);
}

#[tokio::test]
async fn the_same_id_is_stored_once_and_poison_stops_nobody() {
    let world = Contacts::start().await;
    let jetstream =
        async_nats::jetstream::new(async_nats::connect(world.nats[0].url()).await.unwrap());
    let id = "01980000-0000-7000-8000-000000000001";
    let contact = json!({"v": 1, "id": id, "name": "Ada", "email": "canary@example.org", "message": "Hello",
        "received_at": "2026-01-01T00:00:00Z"});
    // There is no message id, so that the store has to recognise the duplicate.
    for payload in [
        contact.to_string(),
        "canary@example.org".to_owned(),
        contact.to_string(),
        contact.to_string(),
    ] {
        jetstream.publish("contacts.submitted", payload.into()).await.unwrap().await.unwrap();
    }
    eventually("an empty queue", || async {
        (world.messages("CONTACTS").await? == 0).then_some(())
    })
    .await;
    world.stored(&[id]).await;
    assert_eq!(world.collection().await.count_documents(doc! {}).await.unwrap(), 1);
    assert_eq!(world.messages("DEAD_LETTERS").await, Some(1));
    let log = world.worker.server.log();
    assert!(log.contains("dead letter: not a portfolio.contact.submitted: "), "{log}");
    assert!(!log.contains("canary"), "contact data in the log: {log}");
    let series = r#"contacts_dead_lettered_total{consumer="contact-worker",stream="CONTACTS"} "#;
    assert!((world.worker.metric(series).await.unwrap() - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_receipt_and_its_document_have_the_same_time() {
    let world = Contacts::start().await;
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let posts = (0..200).map(|_| world.gateway.http.post_json("/api/contact", &contact));
    let answers = futures::future::join_all(posts).await;
    let receipts: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().json()).collect();
    let ids: Vec<_> = receipts.iter().map(|receipt| receipt["id"].as_str().unwrap()).collect();
    world.stored(&ids).await;
    let contacts = world.collection().await;
    for receipt in &receipts {
        let id = bson::Uuid::parse_str(receipt["id"].as_str().unwrap()).unwrap();
        let document = contacts.find_one(doc! {"_id": id}).await.unwrap().unwrap();
        let told: chrono::DateTime<chrono::Utc> =
            receipt["received_at"].as_str().unwrap().parse().unwrap();
        let received = document.get_datetime("received_at").unwrap();
        assert_eq!(received.timestamp_millis(), told.timestamp_millis(), "{receipt}");
        assert!(document.get_datetime("stored_at").unwrap() >= received, "{document}");
    }
}

/// Posts contacts, 64 at once, until one is refused. Returns the ids of the accepted ones.
async fn accepted_until_full(world: &Contacts) -> Vec<String> {
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "x".repeat(5_000)});
    let mut ids = Vec::new();
    for _ in 0..100 {
        let posts = (0..64).map(|_| world.gateway.http.post_json("/api/contact", &contact));
        let mut full = false;
        for answer in futures::future::join_all(posts).await {
            let answer = answer.unwrap();
            if answer.status == 202 {
                ids.push(answer.json()["id"].as_str().unwrap().to_owned());
                continue;
            }
            full = true;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.text().contains("nothing was accepted"), "{}", answer.text());
            assert!(!answer.header("retry-after").is_empty());
        }
        if full {
            return ids;
        }
    }
    panic!("the stream takes more than it has room for");
}

#[tokio::test]
async fn what_a_full_stream_accepted_is_stored_and_nothing_else() {
    let mut world = Contacts::start().await;
    let client = async_nats::connect(world.nats[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let mut ids = Vec::new();
    for (bytes, messages) in [(1024 * 1024, -1), (i64::from(u32::MAX), 10)] {
        world.worker.server.kill();
        let stream = jetstream.get_stream("CONTACTS").await.unwrap();
        let mut config = stream.cached_info().config.clone();
        (config.max_bytes, config.max_messages) = (bytes, messages);
        jetstream.update_stream(config).await.unwrap();
        ids.extend(accepted_until_full(&world).await);
        world.worker.server.start_again().unwrap();
        eventually("an empty queue", || async {
            (world.messages("CONTACTS").await? == 0).then_some(())
        })
        .await;
        let stored = world.collection().await.count_documents(doc! {}).await.unwrap();
        assert_eq!(stored, ids.len() as u64);
    }
    world.stored(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let answer = world.gateway.http.post_json("/api/contact", &contact).await.unwrap();
    assert_eq!(answer.status, 202, "room again, without a restart: {}", answer.text());
}

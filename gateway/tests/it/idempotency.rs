//! The same request again gets the same answer: at once, over two gateways, and over restarts.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use testbed::{Gateway, eventually, http::Answer};
use tokio::task::JoinSet;

use crate::world::{World, build, contact};

async fn post(gateway: &Gateway, key: &str, body: &serde_json::Value) -> Answer {
    gateway.http.with("idempotency-key", key).post_json("/api/contact", body).await.unwrap()
}

#[tokio::test]
async fn the_same_again_is_answered_alike_and_stored_once() {
    let mut world = World::start().await;
    let mut other =
        Gateway::start(&world.scratch.folder("other").unwrap(), &world.nats).await.unwrap();
    let first = post(&world.gateway, "key-1", &contact()).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let second = post(&other, "key-1", &contact()).await;
    assert_eq!((second.status, second.body), (first.status, first.body.clone()));

    world.gateway.kill_and_start_again().unwrap();
    other.kill_and_start_again().unwrap();
    world.nats.server.kill();
    world.nats.start_again().await.unwrap();
    world.gateway.ready().await.unwrap();
    other.ready().await.unwrap();
    assert_eq!(post(&world.gateway, "key-1", &contact()).await.body, first.body);
    assert_eq!(post(&other, "key-1", &contact()).await.body, first.body);
    assert_eq!(world.messages("CONTACTS").await, 1);
}

#[tokio::test]
async fn another_request_needs_another_key() {
    let world = World::start().await;
    assert_eq!(post(&world.gateway, "key-1", &contact()).await.status, 202);
    let mut body = contact();
    body["message"] = "Something else".into();
    let answer = post(&world.gateway, "key-1", &body).await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("another request"),
        "{}",
        answer.text()
    );
    assert_eq!(post(&world.gateway, "key 1", &contact()).await.status, 400);
    assert_eq!(post(&world.gateway, &"x".repeat(256), &contact()).await.status, 400);
    assert_eq!(world.messages("CONTACTS").await, 1);

    // A key belongs to its route: the same one may be used for a build.
    let ci = world.gateway.ci().with("idempotency-key", "key-1");
    let first = ci.post_json("/api/builds", &build()).await.unwrap();
    let second = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!((first.status.as_u16(), &first.body), (202, &second.body));
    assert_eq!(world.messages("PIPELINE").await, 1);
}

#[tokio::test]
async fn what_was_refused_may_be_mended_under_the_same_key() {
    let world = World::start().await;
    let answer = post(&world.gateway, "key-1", &json!({"name": "Ada"})).await;
    assert_eq!(answer.status, 422);
    assert_eq!(post(&world.gateway, "key-1", &contact()).await.status, 202);
}

#[tokio::test]
async fn a_thousand_clients_with_a_hundred_keys_make_a_hundred_contacts() {
    let world = World::start().await;
    let other = Gateway::start(&world.scratch.folder("other").unwrap(), &world.nats).await.unwrap();
    let mut clients = JoinSet::new();
    for number in 0..1_000 {
        let http = if number % 2 == 0 { world.gateway.http.clone() } else { other.http.clone() };
        let key = format!("key-{}", number % 100);
        clients.spawn(async move {
            let client = http.with("idempotency-key", &key);
            let receipt = eventually("a receipt", || async {
                let answer = client.post_json("/api/contact", &contact()).await.unwrap();
                match answer.status.as_u16() {
                    202 => Some(answer.text()),
                    // In progress elsewhere, or too many at once.
                    409 | 503 => None,
                    _ => panic!("{}", answer.text()),
                }
            })
            .await;
            (key, receipt)
        });
    }
    let mut receipts: HashMap<String, HashSet<String>> = HashMap::new();
    while let Some(result) = clients.join_next().await {
        let (key, receipt) = result.unwrap();
        receipts.entry(key).or_default().insert(receipt);
    }
    assert_eq!(receipts.len(), 100);
    assert!(receipts.values().all(|receipts| receipts.len() == 1), "{receipts:?}");
    assert_eq!(world.contacts().await, 100);
}

#[tokio::test]
async fn of_a_batch_all_is_taken_or_nothing() {
    let world = World::start().await;
    let ci = world.gateway.ci();
    let event = |id: &str, number: u64| {
        let mut data = build();
        data["number"] = number.into();
        json!({"specversion": "1.0", "id": id, "source": "ci", "type": "portfolio.build.finished.v1", "data": data})
    };
    let post = |events: Vec<serde_json::Value>| {
        let (ci, body) = (ci.clone(), json!(events).to_string());
        async move { ci.post("/api/builds", "application/cloudevents-batch+json", body).await.unwrap() }
    };
    assert_eq!(post(vec![event("c", 1)]).await.status, 202);
    assert_eq!(world.messages("PIPELINE").await, 1);

    // The last one says something else than before under the same name.
    let refused = post(vec![event("a", 2), event("b", 3), event("c", 4)]).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["errors"][0]["pointer"], "/2", "{}", refused.text());
    assert_eq!(world.messages("PIPELINE").await, 1);

    // The keys of the others are free again.
    let taken = post(vec![event("a", 2), event("b", 3), event("c", 1)]).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    assert_eq!(taken.json()["builds"].as_array().unwrap().len(), 3);
    assert_eq!(world.messages("PIPELINE").await, 3);
    let again = post(vec![event("a", 2), event("b", 3), event("c", 1)]).await;
    assert_eq!(again.body, taken.body);
}

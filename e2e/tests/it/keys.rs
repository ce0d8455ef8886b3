//! Contacts with an `Idempotency-Key`, over outages of the bus and beyond its duplicate window.

use std::time::Duration;

use bson::doc;
use serde_json::json;
use testbed::{http::Answer, within};
use tokio::time::sleep;

use crate::visitors::Contacts;

async fn post(world: &Contacts, key: &str) -> Answer {
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": key});
    let http = world.gateway.http.with("idempotency-key", key);
    http.post_json("/api/contact", &contact).await.unwrap()
}

/// Posts with a key until the contact is accepted. Returns the answer.
async fn insist(world: &Contacts, key: &str) -> Answer {
    within(Duration::from_mins(1), "a contact that is accepted", || async {
        let answer = post(world, key).await;
        // 409: the claim of the request without an answer has not expired.
        assert!([202, 409, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        (answer.status == 202).then_some(answer)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_contact_with_a_key_is_stored_once_however_the_bus_freezes() {
    let world = Contacts::start().await;
    let keys: Vec<_> = (0..50).map(|number| format!("key-{number}")).collect();
    // Some are posted before the bus freezes, so that the pause interrupts them at different steps.
    let posts = futures::future::join_all(keys.iter().enumerate().map(|(number, key)| {
        let world = &world;
        async move {
            // Each is posted at another moment.
            sleep(Duration::from_millis(number as u64 / 5)).await;
            post(world, key).await
        }
    }));
    let frozen = async {
        sleep(Duration::from_millis(5)).await;
        world.nats[0].server.pause().unwrap();
        // The pause is longer than a request waits for the bus.
        sleep(Duration::from_secs(11)).await;
        world.nats[0].server.resume().unwrap();
    };
    let (first, ()) = tokio::join!(posts, frozen);
    let again = futures::future::join_all(keys.iter().map(|key| insist(&world, key))).await;
    for (first, again) in first.iter().zip(&again) {
        if first.status == 202 {
            assert_eq!(first.body, again.body);
        }
    }
    let ids: Vec<_> =
        again.iter().map(|answer| answer.json()["id"].as_str().unwrap().to_owned()).collect();
    world.stored(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let contacts = world.collection().await;
    for key in &keys {
        let found = contacts.count_documents(doc! {"message": key}).await.unwrap();
        assert_eq!(found, 1, "{key}");
    }
}

#[tokio::test]
async fn a_key_is_known_beyond_the_duplicate_window_of_the_bus() {
    let mut world = Contacts::start().await;
    let client = async_nats::connect(world.nats[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let window = Duration::from_secs(1);
    for name in ["CONTACTS", "IDEMPOTENCY_VISITORS"] {
        let stream = jetstream.get_stream(name).await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.duplicate_window = window;
        jetstream.update_stream(config).await.unwrap();
    }
    let first = post(&world, "key").await;
    assert_eq!(first.status, 202, "{}", first.text());
    // The duplicate window has to end first.
    sleep(window * 2).await;
    assert_eq!(post(&world, "key").await.body, first.body);
    world.gateway.kill_and_start_again().unwrap();
    world.gateway.ready().await.unwrap();
    sleep(window * 2).await;
    assert_eq!(post(&world, "key").await.body, first.body);
    world.stored(&[first.json()["id"].as_str().unwrap()]).await;
    assert_eq!(world.collection().await.count_documents(doc! {}).await.unwrap(), 1);
}

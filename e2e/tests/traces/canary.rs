//! What visitors write is in the bus and in the store, and nowhere else: not in a span, a log line, a metric or an error.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    contacts::Contacts,
    world::{Caller, shared},
};

/// In every field, and nowhere by chance.
const CANARY: &str = "kanarienvogel";

fn contact() -> Value {
    json!({
        "name": format!("Ada {CANARY}"),
        "email": format!("{CANARY}@example.org"),
        "subject": format!("About {CANARY}"),
        "message": format!("Hello {CANARY}"),
    })
}

/// With one field that is other.
fn with(field: &str, value: &Value) -> Value {
    let mut contact = contact();
    contact[field] = value.clone();
    contact
}

#[tokio::test]
async fn what_visitors_write_is_told_nowhere() {
    let mut world = Contacts::start().await;
    let caller = Caller::new();
    let client = world.gateway.http.with("traceparent", &caller.traceparent());
    let mut told = Vec::new();
    let mut stored = 0;
    let long = CANARY.repeat(2_000);
    for (body, status) in [
        (contact(), 202),
        (with("email", &json!(format!("{CANARY} at example"))), 422),
        (with("email", &json!({ CANARY: CANARY })), 422),
        (with("name", &json!([CANARY])), 422),
        (with("message", &json!(long)), 422),
        // What nobody asked for is left out.
        (with(CANARY, &json!(CANARY)), 202),
        (json!(CANARY), 422),
    ] {
        let answer = client.post_json("/api/contact", &body).await.unwrap();
        told.push(format!("{} {:?}", answer.text(), answer.headers));
        assert!(
            answer.status == status || (answer.status == 400 && status == 422),
            "{} {}",
            answer.status,
            answer.text()
        );
        if status == 202 {
            stored += 1;
            world.stored(stored).await;
        }
    }
    // Where it does not belong at all.
    for path in
        [format!("/{CANARY}"), format!("/api/builds/{CANARY}"), format!("/health?email={CANARY}")]
    {
        let answer = client
            .with("user-agent", CANARY)
            .with("referer", &format!("http://{CANARY}.example"))
            .get(&path)
            .await;
        told.push(answer.unwrap().text());
    }
    // The same key with another body is refused, and so is a key that is none.
    let keyed = client.with("idempotency-key", CANARY);
    assert_eq!(keyed.post_json("/api/contact", &contact()).await.unwrap().status, 202);
    let other = keyed.post_json("/api/contact", &with("name", &json!("Ada"))).await.unwrap();
    assert_eq!(other.status, 422);
    told.push(other.text());
    for key in [format!("{CANARY} {CANARY}"), CANARY.repeat(20), format!("{CANARY}\u{e9}")] {
        let refused = client
            .with("idempotency-key", &key)
            .post_json("/api/contact", &contact())
            .await
            .unwrap();
        assert_eq!(refused.status, 400, "{}", refused.text());
        told.push(refused.text());
    }
    world.stored(stored + 1).await;

    // What MongoDB refuses becomes a dead letter, and what the worker cannot read too.
    world.refuse(&format!("About {CANARY}")).await;
    assert_eq!(client.post_json("/api/contact", &contact()).await.unwrap().status, 202);
    let client = async_nats::connect(world.nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", caller.traceparent());
    for poison in [json!({"v": 1, "id": CANARY, "name": CANARY}).to_string(), CANARY.to_owned()] {
        let published = jetstream
            .publish_with_headers("contacts.submitted", headers.clone(), poison.into())
            .await;
        published.unwrap().await.unwrap();
    }
    eventually("three dead letters", || async {
        let series =
            "contacts_dead_lettered_total{consumer=\"contact-worker\",stream=\"CONTACTS\"}";
        (world.worker.metric(series).await.ok()? >= 3.0).then_some(())
    })
    .await;

    for service in [&*world.gateway, &world.worker] {
        told.push(service.admin.get("/metrics").await.unwrap().text());
        told.push(service.admin.get("/readyz").await.unwrap().text());
    }
    // All of their spans have left when they have ended.
    for service in [&mut *world.gateway, &mut world.worker] {
        service.server.stop(Duration::from_secs(20)).await.unwrap();
        told.push(service.server.log());
    }
    let jaeger = &shared().await.jaeger;
    jaeger
        .eventually(&caller.trace, "the spans of dead letters", |spans| {
            let dead = spans.iter().filter(|span| span.tag("error.type") == "permanent").count();
            (dead == 3 && spans.iter().any(|span| span.name == "insert contacts")).then_some(())
        })
        .await
        .unwrap();
    for service in ["gateway", "contact-worker"] {
        told.push(jaeger.all(service).await.unwrap());
    }
    for text in told {
        if let Some(at) = text.to_lowercase().find(CANARY) {
            let around: String = text.chars().skip(at.saturating_sub(300)).take(600).collect();
            panic!("it is told: …{around}…");
        }
    }
}

//! The stream `CONTACTS`, by the client alone.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_nats::{
    Client, HeaderMap, Request,
    jetstream::{self, message::PublishMessage},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

const SUBJECT: &str = "contacts.submitted";

/// Headers and payload as the gateway sends them, so that the consumer can read what is stored.
fn message() -> (HeaderMap, String) {
    let id = Uuid::now_v7();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", id.to_string()),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", id.to_string()),
        ("ce-source", "/direct".to_owned()),
        ("ce-type", "portfolio.contact.submitted.v1".to_owned()),
        ("ce-time", "2026-01-01T00:00:00.000Z".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("traceparent", format!("00-{}-{:016x}-00", id.simple(), id.as_u64_pair().1)),
    ] {
        headers.insert(name, value);
    }
    let payload = json!({
        "v": 1, "id": id, "name": format!("Visitor {}", id.as_u64_pair().1), "email": "visitor@example.org",
        "subject": "Hello", "message": "x".repeat(100), "received_at": "2026-01-01T00:00:00.000Z",
    });
    (headers, payload.to_string())
}

pub(crate) async fn batches(
    url: &str,
    size: usize,
    time: Duration,
    most: usize,
) -> anyhow::Result<Value> {
    let client = async_nats::connect(url).await?;
    let (started, mut sent) = (Instant::now(), 0);
    while sent < most && started.elapsed() < time {
        let count = size.min(most - sent);
        batch(&client, count).await?;
        sent += count;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({"messages": sent, "seconds": seconds}))
}

async fn batch(client: &Client, count: usize) -> anyhow::Result<()> {
    let name = Uuid::new_v4().simple().to_string();
    for number in 1..=count {
        let (mut headers, payload) = message();
        headers.insert("Nats-Batch-Id", name.as_str());
        headers.insert("Nats-Batch-Sequence", number.to_string());
        if number < count {
            client.publish_with_headers(SUBJECT, headers, payload.into()).await?;
            continue;
        }
        headers.insert("Nats-Batch-Commit", "1");
        let request = Request::new().headers(headers).payload(payload.into());
        let answer = client.send_request(SUBJECT, request).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["count"] == count, "the batch was not stored: {answer}");
    }
    Ok(())
}

pub(crate) async fn singles(url: &str, in_flight: usize, time: Duration) -> anyhow::Result<Value> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let started = Instant::now();
    let sent = stream::repeat_with(|| one(&jetstream))
        .take_while(|_| std::future::ready(started.elapsed() < time))
        .buffer_unordered(in_flight)
        .fold(Ok(0_usize), |sum, outcome| {
            std::future::ready(sum.and_then(|sum| outcome.map(|()| sum + 1)))
        })
        .await
        .context("a message was not stored")?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({"messages": sent, "seconds": seconds}))
}

async fn one(jetstream: &jetstream::Context) -> anyhow::Result<()> {
    let (headers, payload) = message();
    let message = PublishMessage::build().headers(headers).payload(payload.into());
    jetstream.send_publish(SUBJECT, message).await?.await?;
    Ok(())
}

//! The stream `CONTACTS`, through the NATS client alone.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_nats::{
    Client, Request,
    jetstream::{self, message::PublishMessage},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::contact::{self, Message, Size};

const SUBJECT: &str = "contacts.submitted";

/// The number of messages in flight while the stream is filled.
const FILLING: usize = 8;

/// Publishes groups for a time, each once the one before is acknowledged.
pub(crate) async fn publish(url: &str, group: usize, time: Duration) -> anyhow::Result<Value> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let begun = Instant::now();
        send(&jetstream, contact::group(Size::Usual, group)).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
    Ok(json!({
        "contacts": times.len() * group, "seconds": seconds, "p50_ms": at(50), "p99_ms": at(99),
    }))
}

/// Publishes a number of contacts, in groups that are a message each.
pub(crate) async fn fill_groups(
    url: &str,
    size: Size,
    contacts: usize,
    group: usize,
) -> anyhow::Result<Value> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let messages = stream::iter(parts(contacts, group))
        .map(|count| send(&jetstream, contact::group(size, count)))
        .buffer_unordered(FILLING)
        .try_fold(0_usize, |sum, ()| std::future::ready(Ok(sum + 1)))
        .await?;
    Ok(json!({"contacts": contacts, "messages": messages}))
}

/// Publishes a number of contacts, each a message of its own, in atomic batches.
pub(crate) async fn fill_batches(
    url: &str,
    size: Size,
    contacts: usize,
    batch: usize,
) -> anyhow::Result<Value> {
    let client = async_nats::connect(url).await?;
    for count in parts(contacts, batch) {
        send_batch(&client, size, count).await?;
    }
    Ok(json!({"contacts": contacts, "messages": contacts}))
}

/// Splits contacts into parts of the same size, of which the last one may be smaller.
fn parts(contacts: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..contacts).step_by(size).map(move |done| size.min(contacts - done))
}

async fn send(jetstream: &jetstream::Context, message: Message) -> anyhow::Result<()> {
    let Message { headers, payload } = message;
    let message = PublishMessage::build().headers(headers).payload(payload.into());
    let acknowledged = jetstream.send_publish(SUBJECT, message).await?.await;
    acknowledged.context("a message was not stored")?;
    Ok(())
}

async fn send_batch(client: &Client, size: Size, count: usize) -> anyhow::Result<()> {
    let name = Uuid::new_v4().simple().to_string();
    for number in 1..=count {
        let Message { mut headers, payload } = contact::single(size);
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

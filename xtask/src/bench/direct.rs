//! Measures the bus and the store by themselves, with `bench/baselines/direct`, which also makes
//! contacts wait.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use testbed::Mongo;

use super::{
    build::Build,
    servers::{Bus, number},
};
use crate::run::{command, output};

/// The number of documents in one `insert_many`.
pub(crate) const BATCH: u64 = 500;

/// The result of publishing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// The number of contacts that were acknowledged.
    pub(crate) contacts: f64,
    /// The number of contacts a second.
    pub(crate) rate: f64,
    /// The median of the time until a group is acknowledged, in milliseconds.
    pub(crate) p50: f64,
    /// The time that one group in a hundred exceeds, in milliseconds.
    pub(crate) p99: f64,
}

/// Contacts that wait for a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The number of contacts.
    pub(crate) contacts: u64,
    /// The number of contacts that were committed together.
    pub(crate) group: u64,
    /// Set if the contacts are as large as the form allows.
    pub(crate) largest: bool,
}

/// Publishes groups, each once the one before is acknowledged.
pub(crate) async fn publish(url: &str, group: usize, time: Duration) -> anyhow::Result<Published> {
    let (group, seconds) = (group.to_string(), time.as_secs().to_string());
    let args = ["publish", "--url", url, "--group", &group, "--seconds", &seconds];
    let result = run(&args).await?;
    let get = |name| number(&result, name);
    let (contacts, seconds) = (get("contacts")?, get("seconds")?);
    Ok(Published { contacts, rate: contacts / seconds, p50: get("p50_ms")?, p99: get("p99_ms")? })
}

/// Publishes contacts that wait for a worker, in the format that the worker reads.
pub(crate) async fn fill(bus: &Bus, waiting: Waiting) -> anyhow::Result<()> {
    let (url, contacts) = (bus.url_of_one(), waiting.contacts.to_string());
    let group = waiting.group.to_string();
    let format = match bus.build() {
        Build::This => "v2",
        Build::Before => "v1",
    };
    let mut args = vec!["fill", "--url", &url, "--contacts", &contacts];
    args.extend(["--group", &group, "--format", format]);
    args.extend(waiting.largest.then_some("--largest"));
    run(&args).await.map(drop)
}

/// Inserts documents like the worker's. Returns the number of documents a second.
pub(crate) async fn insert(mongo: &Mongo, database: &str, documents: u64) -> anyhow::Result<f64> {
    let (uri, batch, documents) = (mongo.uri(), BATCH.to_string(), documents.to_string());
    let mut args = vec!["insert", "--uri", &uri, "--database", database];
    args.extend(["--batch", &batch, "--documents", &documents]);
    let result = run(&args).await?;
    Ok(number(&result, "documents")? / number(&result, "seconds")?)
}

async fn run(args: &[&str]) -> anyhow::Result<Value> {
    let mut run = command(&Build::This.program("direct")?.to_string_lossy(), ["--"; 0]);
    run.args(args);
    let text = tokio::task::spawn_blocking(move || output(run)).await??;
    serde_json::from_str(&text).with_context(|| format!("the baseline said {text}"))
}

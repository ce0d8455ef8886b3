//! The collection `contacts`, through the MongoDB driver alone.

use std::time::Instant;

use bson::Document;
use mongodb::{
    Client,
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};
use serde_json::{Value, json};

use crate::contact::document;

/// Inserts a number of documents, one batch after the other, and waits for each batch.
pub(crate) async fn insert(
    uri: &str,
    database: &str,
    size: usize,
    documents: usize,
) -> anyhow::Result<Value> {
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let options = CollectionOptions::builder().write_concern(durable).build();
    let client = Client::with_uri_str(uri).await?;
    let contacts =
        client.database(database).collection_with_options::<Document>("contacts", options);
    let (started, mut inserted) = (Instant::now(), 0);
    while inserted < documents {
        let batch: Vec<_> = (0..size.min(documents - inserted)).map(|_| document()).collect();
        inserted += contacts.insert_many(batch).ordered(false).await?.inserted_ids.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({"documents": inserted, "seconds": seconds}))
}

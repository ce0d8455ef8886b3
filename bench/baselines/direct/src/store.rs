//! The collection `contacts`, by the driver alone.

use std::time::Instant;

use bson::{DateTime, Document, doc};
use mongodb::{
    Client,
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A document as the worker stores it.
fn document() -> Document {
    let id = Uuid::now_v7();
    doc! {
        "_id": bson::Uuid::from_bytes(id.into_bytes()), "name": format!("Visitor {}", id.as_u64_pair().1),
        "email": "visitor@example.org", "subject": "Hello", "message": "x".repeat(100),
        "received_at": DateTime::now(), "stored_at": DateTime::now(),
    }
}

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

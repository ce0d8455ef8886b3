//! From the bus to the store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bus::{
    Bus, ConsumerMetrics, Delivery, Failure, Handler,
    config::{Nats, ProvisionArgs},
};
use events::{CONTACTS, ContactSubmitted, DEAD_LETTERS, Stream, contact_worker_consumer};
use service::{process::Process, readiness::Latch, shutdown::Shutdown};

use crate::{
    config::Settings,
    document,
    metrics::Metrics,
    store::{Store, Stored},
};

/// Up to so many contacts a batch, each has a log line of its own; a flood is told in sums.
const LOGGED_ONE_BY_ONE: usize = 16;

/// How often the store is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Stores contacts until the shutdown begins and the batch in hand is stored.
pub(crate) async fn run(settings: Settings, nats: Nats, process: Process) -> anyhow::Result<()> {
    let bus = Bus::of_process(&process, &nats).await?;
    let Process { readiness, registry, shutdown, .. } = process;
    let store = Store::open(&settings.mongodb_uri, &settings.mongodb_database)
        .await
        .context("MONGODB_URI")?;
    let consumers = ConsumerMetrics::new(&registry, "contacts");
    let consumer = contact_worker_consumer();
    let handler = Arc::new(Contacts { store: store.clone(), metrics: Metrics::new(&registry) });
    let streams = streams();
    let [of_store, of_streams, of_consumer] =
        ["mongodb", "streams", "consumer"].map(|name| readiness.latch(name));
    readiness.started();
    tokio::join!(
        watch_store(&store, of_store, &shutdown),
        bus.watch_streams(&streams, of_streams, shutdown.clone()),
        bus.watch_backlog(std::slice::from_ref(&consumer), &consumers, &shutdown),
        bus.consume(consumer.clone(), handler, consumers.clone(), of_consumer, shutdown.clone()),
    );
    bus.remove_settled(&consumer).await;
    bus.flush().await;
    Ok(())
}

/// Creates or updates what the worker reads from, where it puts what it cannot store, and the store's indexes.
pub(crate) async fn provision(
    nats: Nats,
    settings: Settings,
    args: ProvisionArgs,
) -> anyhow::Result<Vec<String>> {
    let bus = Bus::of_command("contact-worker", &nats).await?;
    let mut said = bus.provision_streams(&streams(), args.replicas).await?;
    said.extend(bus.provision_consumers(&[contact_worker_consumer()]).await?);
    let store = Store::open(&settings.mongodb_uri, &settings.mongodb_database)
        .await
        .context("MONGODB_URI")?;
    said.extend(store.make_indexes().await?);
    Ok(said)
}

fn streams() -> [&'static Stream; 2] {
    [&CONTACTS, &DEAD_LETTERS]
}

/// Tells whether the store is there, until the shutdown begins.
async fn watch_store(store: &Store, latch: Latch, shutdown: &Shutdown) {
    loop {
        let Some(answer) = shutdown.unless_begun(store.ping()).await else { return };
        match answer {
            Ok(()) => latch.set("connected"),
            Err(error) => latch.unset(error),
        }
        if shutdown.unless_begun(tokio::time::sleep(PING_EVERY)).await.is_none() {
            return;
        }
    }
}

/// Stores batches of contacts.
struct Contacts {
    store: Store,
    metrics: Metrics,
}

impl Handler for Contacts {
    type Event = ContactSubmitted;

    /// Contacts wait on the bus while the store is away, so that none of them is delivered in vain.
    async fn ready(&self) {
        let mut pause = Duration::from_millis(100);
        while self.store.ping().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn handle(&self, batch: Vec<Delivery<ContactSubmitted>>) -> Vec<Result<(), Failure>> {
        let now = bson::DateTime::now();
        let documents =
            batch.iter().map(|delivery| document::of_contact(&delivery.event, now)).collect();
        self.metrics.batch.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        let started = Instant::now();
        let (results, how) = self.store.insert(documents).await;
        self.metrics.inserted(how, started.elapsed());
        let stored = results.iter().filter(|result| matches!(result, Ok(Stored::New))).count();
        self.metrics.stored.inc_by(stored as u64);
        if batch.len() <= LOGGED_ONE_BY_ONE {
            for (delivery, result) in batch.iter().zip(&results) {
                log(delivery, result);
            }
        } else {
            tracing::info!(contacts = stored, batch = batch.len(), "contacts stored");
        }
        results.into_iter().map(|result| result.map(|_| ())).collect()
    }
}

/// Failures are told where they are settled.
fn log(delivery: &Delivery<ContactSubmitted>, result: &Result<Stored, Failure>) {
    let trace_id = delivery.trace_id();
    match result {
        Ok(Stored::New) => {
            tracing::info!(contact.id = %delivery.event.id, %trace_id, "contact stored");
        }
        Ok(Stored::Already) => {
            tracing::info!(contact.id = %delivery.event.id, %trace_id, "contact was stored already");
        }
        Err(_) => {}
    }
}

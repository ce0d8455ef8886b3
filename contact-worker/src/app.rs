//! The worker's tasks.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{
    Bus, ConsumerMetrics, DeadLettersCommand,
    config::{Nats, ProvisionArgs},
};
use events::{CONTACTS, DEAD_LETTERS, Stream, contact_worker_consumer};
use service::{process::Process, readiness::Latch, shutdown::Shutdown};

use crate::{config::Settings, ingest::Contacts, metrics::Metrics, store::Store};

/// The interval between two checks of the store.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Stores contacts until the shutdown begins and the batches in process are stored.
pub(crate) async fn run(settings: Settings, nats: Nats, process: Process) -> anyhow::Result<()> {
    let bus = Bus::of_process(&process, &nats).await?;
    let Process { readiness, registry, shutdown, .. } = process;
    let store = Store::open(&settings.mongodb_uri, &settings.mongodb_database)
        .await
        .context("MONGODB_URI")?;
    let consumers = ConsumerMetrics::new(&registry, "contacts");
    let consumer = contact_worker_consumer();
    let handler = Arc::new(Contacts::new(store.clone(), Metrics::new(&registry)));
    let streams = streams();
    let [of_store, of_streams, of_consumer] =
        ["mongodb", "streams", "consumer"].map(|name| readiness.latch(name));
    readiness.started();
    tokio::join!(
        watch_store(&store, of_store, &shutdown),
        bus.watch_streams(&streams, of_streams, shutdown.clone()),
        bus.watch_backlog(std::slice::from_ref(&consumer), &consumers, &shutdown),
        bus.watch_dead_letters(&CONSUMED, &registry, &shutdown),
        bus.remove_settled_regularly(&consumer, &shutdown),
        bus.consume(consumer.clone(), handler, consumers.clone(), of_consumer, shutdown.clone()),
    );
    bus.remove_settled(&consumer).await;
    bus.flush().await;
    Ok(())
}

/// Creates or updates the streams, the consumer and the indexes that the worker needs.
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

/// The streams that the worker consumes.
static CONSUMED: [&Stream; 1] = [&CONTACTS];

/// Handles contacts that could not be stored.
pub(crate) async fn dead_letters(
    nats: Nats,
    command: DeadLettersCommand,
) -> anyhow::Result<Vec<String>> {
    let bus = Bus::of_command("contact-worker", &nats).await?;
    bus.handle_dead_letters(&CONSUMED, command).await
}

fn streams() -> [&'static Stream; 2] {
    [&CONTACTS, &DEAD_LETTERS]
}

/// Watches the store until the shutdown begins.
async fn watch_store(store: &Store, latch: Latch, shutdown: &Shutdown) {
    loop {
        let Some(answer) = shutdown.unless_begun(store.check()).await else { return };
        match answer {
            Ok(()) => latch.set("connected"),
            Err(error) => latch.unset(error),
        }
        if shutdown.unless_begun(tokio::time::sleep(CHECK_EVERY)).await.is_none() {
            return;
        }
    }
}

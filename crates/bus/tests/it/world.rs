//! A bus for one test, with a consumer's streams on it.

use bus::Bus;
use clap::Parser;
use events::{
    CONTACTS, Contact, ContactGroup, ContactId, DEAD_LETTERS, ROLLOUTS, RolloutChanged,
    RolloutState,
};
use service::{config, readiness::Readiness};
use testbed::{Nats, Scratch};

pub(crate) struct World {
    pub(crate) nats: Nats,
    /// The other servers of a cluster.
    _others: Vec<Nats>,
    pub(crate) bus: Bus,
    pub(crate) readiness: Readiness,
    _scratch: Scratch,
}

#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) nats: bus::config::Nats,
}

impl World {
    pub(crate) async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(scratch.path()).await.unwrap();
        Box::pin(Self::on(scratch, nats, Vec::new())).await
    }

    /// The same on three servers, each of which has a copy of everything.
    pub(crate) async fn start_on_cluster() -> Self {
        let scratch = Scratch::new().unwrap();
        let mut servers = Nats::start_cluster(scratch.path(), 3).await.unwrap();
        let nats = servers.remove(0);
        Box::pin(Self::on(scratch, nats, servers)).await
    }

    async fn on(scratch: Scratch, nats: Nats, others: Vec<Nats>) -> Self {
        let readiness = Readiness::default();
        let bus = connect(&nats.url(), &readiness).await;
        let replicas = others.len() + 1;
        let streams = [&CONTACTS, &ROLLOUTS, &DEAD_LETTERS];
        bus.provision_streams(&streams, Some(replicas)).await.unwrap();
        Self { nats, _others: others, bus, readiness, _scratch: scratch }
    }

    /// A client that is not ours.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.nats.url()).await.unwrap())
    }
}

pub(crate) async fn connect(url: &str, readiness: &Readiness) -> Bus {
    let cli: Cli = config::parse_from(["test", "--nats-url", url]).unwrap();
    let bus =
        Bus::connect("test", &cli.nats, readiness.latch("nats"), &prometheus::Registry::new())
            .await
            .unwrap();
    bus.connected(std::time::Duration::from_secs(10)).await.unwrap();
    bus
}

pub(crate) fn contact() -> Contact {
    Contact {
        id: ContactId::new(),
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
        subject: None,
        message: "Hello".to_owned(),
        received_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        traceparent: None,
    }
}

/// A group of one contact, with this message.
pub(crate) fn group(message: &str) -> ContactGroup {
    vec![Contact { message: message.to_owned(), ..contact() }].into()
}

pub(crate) fn change(step: u32, state: RolloutState) -> RolloutChanged {
    serde_json::from_value(serde_json::json!({
        "v": 1, "build_id": "01980000-0000-7000-8000-000000000001", "target": "portfolio",
        "step": step, "state": state, "at": "2026-01-01T00:00:00Z", "image": "a/b:v1-abcd",
        "started_at": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

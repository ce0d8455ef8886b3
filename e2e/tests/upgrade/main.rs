//! An upgrade from a former version under load, in the order that `docs/install.md` gives. The
//! former version is built from its commit: where git does not have it, as in a shallow clone, this
//! says so and passes, unless `REQUIRE_HISTORY` is set.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../it/visitors.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod visitors;

mod load;

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream;
use load::{Accepted, Load};
use serde_json::Value;
use testbed::{
    FORMER, Former, Gateway, Mongo, Nats, Scratch, Service, Spec, eventually, free_port, system,
};
use visitors::{Promise, messages, stored_once};

/// The longest time for the build of the former version, which happens once.
const BUILD_WITHIN: Duration = Duration::from_mins(30);

const END_WITHIN: Duration = Duration::from_secs(15);

fn can_run() -> bool {
    let what = format!("the history of this repository, with {FORMER}");
    let there = Former::Debug.is_built() || Former::is_in_history();
    testbed::can_run(there, &what, "REQUIRE_HISTORY")
}

/// The servers, and the start of each process in its former and its new version.
struct World {
    nats: Nats,
    mongo: Mongo,
    /// It goes last: a test that fails shows the logs that are in it.
    scratch: Scratch,
}

impl World {
    async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let mongo = Mongo::start(&scratch.folder("mongo").unwrap()).await.unwrap();
        Self { nats, mongo, scratch }
    }

    fn gateway(&self, folder: &str) -> Spec {
        Gateway::spec(&self.scratch.folder(folder).unwrap(), &self.nats.url()).unwrap()
    }

    fn worker(&self, folder: &str) -> Spec {
        let folder = self.scratch.folder(folder).unwrap();
        system::worker_spec(&folder, &self.nats.url(), &self.mongo, "portfolio").unwrap()
    }

    async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.nats.url()).await.unwrap())
    }

    /// Returns the payloads of a stream.
    async fn payloads(&self, stream: &str) -> Vec<Value> {
        let stream = self.jetstream().await.get_stream(stream).await.unwrap();
        let state = &stream.cached_info().state;
        let mut payloads = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            payloads.push(serde_json::from_slice(&message.payload).unwrap());
        }
        payloads
    }
}

async fn start_gateway(spec: Spec) -> Gateway {
    let mut gateway = Gateway::start_at(spec, &format!("127.0.0.1:{}", free_port())).unwrap();
    gateway.ready().await.unwrap();
    gateway
}

async fn start_worker(spec: Spec) -> Service {
    let mut worker = Service::start(spec).unwrap();
    worker.ready().await.unwrap();
    worker
}

async fn is_ready(service: &Service) -> bool {
    service.admin.get("/readyz").await.is_ok_and(|report| report.status == 200)
}

#[tokio::test]
async fn an_upgrade_under_load_loses_nothing_and_repeats_nothing() {
    if !can_run() {
        return;
    }
    Former::Debug.build(BUILD_WITHIN).unwrap();
    let world = World::start().await;
    let before = |spec| Former::Debug.of(spec);

    // The former version, on what its own commands have made.
    for spec in [world.gateway("old-gateway"), world.worker("old-worker")] {
        Service::run(&before(spec), "provision").await.unwrap();
    }
    let mut old_gateway = start_gateway(before(world.gateway("old-gateway"))).await;
    let mut old_worker = start_worker(before(world.worker("old-worker"))).await;
    let load = Load::start(&old_gateway.http);
    load.more(200).await;
    let status = old_worker.server.stop(END_WITHIN).await.unwrap();
    assert!(status.success(), "{status}");
    // Its messages wait for the new worker.
    load.more(200).await;
    let waiting = world.payloads("CONTACTS").await;
    assert!(waiting.iter().any(|payload| payload["v"] == 1), "nothing waits");

    // First, what the new version needs on the bus.
    for spec in [world.gateway("gateway"), world.worker("worker")] {
        Service::run(&spec, "provision").await.unwrap();
    }
    load.more(200).await;
    // Pods of the former version may start again meanwhile.
    let mut again = start_gateway(before(world.gateway("old-gateway-again"))).await;
    again.server.stop(END_WITHIN).await.unwrap();
    assert!(is_ready(&old_gateway).await, "{}", old_gateway.server.log());

    // Then the worker.
    let worker = start_worker(world.worker("worker")).await;
    load.more(200).await;
    assert!(is_ready(&old_gateway).await, "{}", old_gateway.server.log());

    // Then the gateway: the new one serves before the former one ends.
    let of_former = load.accepted();
    let gateway = start_gateway(world.gateway("gateway")).await;
    eventually("the keys of the former version to be copied", || async {
        let (url, copies) = (world.nats.url(), ["IDEMPOTENCY_CALLERS", "IDEMPOTENCY_VISITORS"]);
        let former = messages(&url, "IDEMPOTENCY").await?;
        let [callers, visitors] = copies.map(|stream| messages(&url, stream));
        (callers.await? >= former && visitors.await? >= former).then_some(())
    })
    .await;
    load.enter_by(&gateway.http).await;
    let status = old_gateway.server.stop(END_WITHIN).await.unwrap();
    assert!(status.success(), "{status}");
    load.more(200).await;
    let accepted = load.stop().await;
    assert!(is_ready(&gateway).await && is_ready(&worker).await);

    // A request of before the upgrade that is sent again gets the same answer.
    for Accepted { request, id } in of_former.iter().filter(|accepted| accepted.request.has_key()) {
        let answer = request.send(&gateway.http).await.unwrap();
        assert_eq!(answer.status, 202, "{request:?}: {}", answer.text());
        assert_eq!(answer.json()["id"], **id, "{request:?}");
    }

    // Each contact is stored once, and each build is on the bus once.
    let promises: Vec<_> = accepted
        .iter()
        .filter(|accepted| accepted.request.is_contact())
        .map(|accepted| Promise {
            id: accepted.id.clone(),
            message: accepted.request.name.clone(),
            waited: Duration::ZERO,
        })
        .collect();
    let contacts = world.mongo.collection("portfolio", "contacts").await.unwrap();
    stored_once(&contacts, &world.nats.url(), &promises).await;
    let mut builds = HashMap::<_, u32>::new();
    for build in world.payloads("PIPELINE").await {
        *builds.entry(build["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let posted: Vec<_> =
        accepted.iter().filter(|accepted| !accepted.request.is_contact()).collect();
    assert!(posted.iter().all(|accepted| builds.get(&accepted.id) == Some(&1)), "{builds:?}");
    assert_eq!(builds.len(), posted.len(), "a build that nobody was promised");
}

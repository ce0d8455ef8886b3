//! Cuts the power of the bus while visitors post, again and again: every contact that was answered
//! with 202 is there afterwards. The tests need QEMU and a kernel, which are no part of the tools.
//! If these are missing, the tests print that and pass, unless `REQUIRE_QEMU` is set. `TEST_CUTS`
//! is the number of power cuts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../it/visitors.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod visitors;

use std::{fs, time::Duration};

use async_nats::jetstream::context::GetStreamErrorKind;
use testbed::{Gateway, Mongo, Scratch, Service, VirtualMachine, system, workspace_folder};
use visitors::{Visitors, stored_once};

/// The number of power cuts, unless `TEST_CUTS` is set.
const CUTS: u32 = 3;

#[expect(clippy::disallowed_methods, reason = "how a person says how long it may take")]
fn cuts() -> u32 {
    std::env::var("TEST_CUTS").map_or(CUTS, |text| text.parse().unwrap())
}

fn can_run() -> bool {
    testbed::can_run(
        VirtualMachine::programs().is_some(),
        "QEMU, mkfs.ext4 and a kernel for it (ci/get-kernel)",
        "REQUIRE_QEMU",
    )
}

/// A gateway whose bus is in a virtual machine, and visitors who post to the gateway.
struct Intake {
    machine: VirtualMachine,
    gateway: Gateway,
    visitors: Visitors,
    /// The folder of all parts. It is dropped last, since a test that fails shows the logs in it.
    scratch: Scratch,
}

impl Intake {
    /// Starts the gateway, and its bus with this configuration.
    async fn start(config: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.folder("machine").unwrap();
        let machine = VirtualMachine::start(&folder, config).await.unwrap();
        let spec = Gateway::spec(&scratch.folder("gateway").unwrap(), &machine.url()).unwrap();
        Service::run(&spec, "provision").await.unwrap();
        let mut gateway = Gateway::start_unready(spec).unwrap();
        gateway.ready().await.unwrap();
        let visitors = Visitors::start(&gateway);
        Self { machine, gateway, visitors, scratch }
    }

    /// Cuts the power at a random moment of the traffic, and boots the machine again.
    async fn cut(&mut self) {
        self.visitors.more(100).await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..500_000))).await;
        self.machine.cut_power();
        self.machine.boot().await.unwrap();
        // The gateway gets ready only if nothing that was provisioned is missing.
        self.gateway.ready().await.unwrap();
    }
}

fn shipped_config() -> String {
    fs::read_to_string(workspace_folder().join("nats/nats-server.conf")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_outlasts_power_cuts() {
    if !can_run() {
        return;
    }
    let mut intake = Intake::start(&shipped_config()).await;
    // At first, no worker takes the contacts from the bus; for the last cut, one does.
    for _ in 1..cuts() {
        intake.cut().await;
    }
    let mongo = Mongo::start(&intake.scratch.folder("mongo").unwrap()).await.unwrap();
    let (bus, folder) = (intake.machine.url(), intake.scratch.folder("worker").unwrap());
    let worker = system::worker_spec(&folder, &bus, &mongo, "portfolio").unwrap();
    let _worker = system::start(worker).await.unwrap();
    intake.cut().await;
    intake.visitors.more(100).await;

    let promised = intake.visitors.stop().await;
    let contacts = mongo.collection("portfolio", "contacts").await.unwrap();
    stored_once(&contacts, &bus, &promised).await;
    println!("{} contacts were accepted, {} power cuts lost none", promised.len(), cuts());
}

/// Shows that the cuts are real: a bus that acknowledges first and syncs later, as is its default,
/// loses what was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_synced_is_lost() {
    if !can_run() {
        return;
    }
    let config = shipped_config().replace("sync_interval: always", "sync_interval: 1h");
    assert_ne!(config, shipped_config());
    let mut intake = Intake::start(&config).await;
    intake.visitors.more(100).await;
    intake.machine.cut_power();
    let promised = intake.visitors.stop().await.len() as u64;
    intake.machine.boot().await.unwrap();

    let client = async_nats::connect(intake.machine.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("CONTACTS").await;
    let left = match stream.map_err(|error| error.kind()) {
        Ok(stream) => stream.cached_info().state.messages,
        // The stream itself is lost.
        Err(GetStreamErrorKind::JetStream(error)) if error.code() == 404 => 0,
        Err(error) => panic!("{error}"),
    };
    assert!(left < promised, "{left} of {promised} contacts are there");
}

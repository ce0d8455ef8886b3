//! Connections to the bus, and the names of the consumers that read from it.

use std::time::Duration;

use bus::{Bus, GroupPublisher};
use events::{CONTACTS, ContactGroup, RolloutChanged, RolloutState};
use futures::TryStreamExt;
use prometheus::Registry;
use service::{
    config::{ConfigError, parse_from},
    readiness::Readiness,
};

use testbed::{Nats, Scratch, within};

use crate::world::{Cli, World, change, connect, contact};

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_wrong_configuration() {
    for (args, variable) in [
        (["--nats-user=me", "--nats-password-file=/nowhere"].as_slice(), "NATS_PASSWORD_FILE"),
        (&["--nats-creds-file=/nowhere"], "NATS_CREDS_FILE"),
        (&["--nats-ca-file=/nowhere"], "NATS_CA_FILE"),
    ] {
        let cli: Cli = parse_from(["test"].iter().chain(args)).unwrap();
        let latch = Readiness::default().latch("nats");
        let error = Bus::connect("test", &cli.nats, latch, &Registry::new()).await.unwrap_err();
        let wrong = error.downcast_ref::<ConfigError>().unwrap();
        assert!(wrong.0.starts_with(&format!("{variable}: cannot read /nowhere: ")), "{wrong}");
    }
}

#[tokio::test]
async fn a_stream_is_read_by_consumers_with_names_of_their_own() {
    let world = World::start().await;
    world.bus.publish(&change(1, RolloutState::Accepted), Duration::from_secs(5)).await.unwrap();
    let read = world.bus.read_after::<RolloutChanged>(0, 10).await.unwrap();
    let all = world.bus.read_all::<RolloutChanged>("rollout.*.*").await.unwrap();
    assert_eq!((read.len(), all.len()), (1, 1));
    let stream = world.jetstream().await.get_stream("ROLLOUTS").await.unwrap();
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with("test-")), "{names:?}");
}

#[tokio::test]
async fn a_server_that_is_cut_off_from_its_cluster_is_left() {
    let scratch = Scratch::new().unwrap();
    let mut world = World::start().await;
    let cut_off = Nats::start_cut_off(scratch.path()).await.unwrap();
    // The only way to begin with: from then on, the client prefers it.
    world.nats.server.kill();
    let urls = format!("{},{}", world.nats.url(), cut_off.url());
    let bus = connect(&urls, &world.readiness).await;
    world.nats.start_again().await.unwrap();
    let limits = GroupPublisher::<ContactGroup>::limits();
    let publisher =
        GroupPublisher::<ContactGroup>::start(bus.clone(), Duration::from_secs(2), limits);
    within(Duration::from_mins(1), "a contact that is published", || async {
        publisher.publish(contact()).await.ok()
    })
    .await
    .unwrap();
    assert_eq!(bus.last_sequence(&CONTACTS).await.unwrap(), 1);
}

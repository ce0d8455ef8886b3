//! Three servers of the bus, which are lost one after the other, each with its disk.

use std::time::Duration;

use async_nats::jetstream;
use futures::TryStreamExt;
use testbed::within;

use crate::visitors::{Contacts, Visitors};

#[tokio::test]
async fn no_contact_is_lost_with_a_server_and_its_disk() {
    let mut world = Contacts::start_on_cluster(3).await;
    // Whatever is promised stays on the bus until the end.
    world.worker.server.kill();
    let visitors = Visitors::start(&world.gateway);
    for lost in 0..world.nats.len() {
        visitors.more(20).await;
        world.nats[lost].lose_disk().unwrap();
        // Two are a majority.
        visitors.more(20).await;
        world.nats[lost].start_again().await.unwrap();
        world.has_all_copies().await;
    }
    visitors.more(20).await;
    world.worker.server.start_again().unwrap();
    world.stored_once(&visitors.stop().await).await;
}

impl Contacts {
    /// Waits until each server has all that it should have.
    pub(crate) async fn has_all_copies(&self) {
        within(Duration::from_mins(2), "as many copies as servers", || async {
            let client = async_nats::connect(self.nats[0].url()).await.ok()?;
            let mut streams = jetstream::new(client).streams();
            while let Some(stream) = streams.try_next().await.ok()? {
                let cluster = stream.cluster?;
                let current =
                    cluster.replicas.iter().filter(|replica| replica.current && !replica.offline);
                if cluster.leader.is_none() || current.count() + 1 < self.nats.len() {
                    return None;
                }
            }
            Some(())
        })
        .await
        .unwrap();
    }
}

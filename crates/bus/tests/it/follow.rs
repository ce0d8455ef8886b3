//! Read models: all events in order, even from a stream that has lost its messages.

use std::{sync::Arc, time::Duration};

use bus::Followed;
use events::{ROLLOUTS, RolloutChanged, RolloutState};
use service::shutdown::Shutdown;
use testbed::eventually;
use tokio::sync::watch;

use crate::world::{World, change};

/// The steps of a follower: the sequence up to which it knows the stream, and the events it read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    caught_up: Option<u64>,
    events: Vec<u64>,
    restarts: usize,
}

struct Following {
    known: Arc<watch::Sender<Known>>,
    shutdown: Shutdown,
}

impl Following {
    fn start(world: &World) -> Self {
        let known = Arc::<watch::Sender<Known>>::default();
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let (bus, latch) = (world.bus.clone(), world.readiness.latch("rollouts"));
        tokio::spawn({
            let (known, shutdown) = (known.clone(), shutdown.clone());
            async move {
                bus.follow(latch, shutdown, |step: Followed<RolloutChanged>| {
                    known.send_modify(|known| match step {
                        Followed::Event { sequence, .. } => known.events.push(sequence),
                        Followed::Restart => known.restarts += 1,
                        Followed::CaughtUp { sequence } => known.caught_up = Some(sequence),
                    });
                })
                .await;
            }
        });
        Self { known, shutdown }
    }

    async fn wait_for(&self, what: &str, holds: impl Fn(&Known) -> bool) {
        eventually(what, || std::future::ready(holds(&self.known.borrow()).then_some(()))).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn publish(world: &World, steps: std::ops::Range<u32>) {
    for step in steps {
        let change = change(step, RolloutState::Progressing);
        world.bus.publish(&change, Duration::from_secs(5)).await.unwrap();
    }
}

async fn purge(world: &World) {
    world.jetstream().await.get_stream("ROLLOUTS").await.unwrap().purge().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_has_been_emptied_is_known_at_once() {
    let world = World::start().await;
    publish(&world, 0..3).await;
    purge(&world).await;
    assert_eq!(world.bus.last_sequence(&ROLLOUTS).await.unwrap(), 3);
    let following = Following::start(&world);
    following.wait_for("the end of an empty stream", |known| known.caught_up == Some(3)).await;
    publish(&world, 3..4).await;
    following.wait_for("what comes then", |known| known.events == [4]).await;
}

#[tokio::test]
async fn a_stream_that_has_lost_its_last_messages_is_known_at_once() {
    let world = World::start().await;
    publish(&world, 0..3).await;
    let stream = world.jetstream().await.get_stream("ROLLOUTS").await.unwrap();
    stream.delete_message(3).await.unwrap();
    let following = Following::start(&world);
    following.wait_for("the end", |known| known.caught_up == Some(3)).await;
    assert_eq!(following.known.borrow().events, [1, 2]);
}

#[tokio::test]
async fn the_past_and_the_present_are_read_in_order_over_a_restart_of_the_server() {
    let mut world = World::start().await;
    publish(&world, 0..600).await;
    let following = Following::start(&world);
    following.wait_for("the past", |known| known.caught_up == Some(600)).await;
    world.nats.server.kill();
    world.nats.start_again().await.unwrap();
    world.bus.connected(Duration::from_secs(20)).await.unwrap();
    publish(&world, 600..610).await;
    following.wait_for("the present", |known| known.events.len() >= 610).await;
    let known = following.known.borrow().clone();
    assert_eq!(known.events, (1..=610).collect::<Vec<_>>());
    assert_eq!(known.restarts, 0);
}

#[tokio::test]
async fn a_follower_whose_consumer_is_gone_begins_again() {
    let world = World::start().await;
    publish(&world, 0..3).await;
    let following = Following::start(&world);
    following.wait_for("the past", |known| known.caught_up == Some(3)).await;
    // The consumer is gone, as with a lost server of a cluster.
    let stream = world.jetstream().await.get_stream("ROLLOUTS").await.unwrap();
    let names: Vec<String> =
        futures::TryStreamExt::try_collect(stream.consumer_names()).await.unwrap();
    for name in names {
        stream.delete_consumer(&name).await.unwrap();
    }
    publish(&world, 3..5).await;
    following.wait_for("what came meanwhile", |known| known.events == [1, 2, 3, 4, 5]).await;
}

//! A rolling restart under load: no client that tries again on a closed connection sees an error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use testbed::{Gateway, eventually, http};
use tokio::task::JoinSet;

use crate::world::{World, contact};

/// Posts without a pause, to one gateway until it refuses a connection, then to the other. Counts what was accepted.
async fn client(gateways: [http::Client; 2], stop: Arc<AtomicBool>, accepted: Arc<AtomicUsize>) {
    let mut current = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut failures = 0;
        loop {
            match gateways[current].post_json("/api/contact", &contact()).await {
                Ok(answer) => {
                    assert_eq!(answer.status, 202, "{}", answer.text());
                    accepted.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    failures += 1;
                    assert!(failures < 3, "both gateways refuse: {error:#}");
                    current = 1 - current;
                }
            }
        }
    }
}

#[tokio::test]
async fn every_request_that_was_begun_is_answered() {
    let mut world = World::start().await;
    let mut other =
        Gateway::start(&world.scratch.folder("other").unwrap(), &world.nats).await.unwrap();
    let (stop, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        // Connections of its own, as a client elsewhere has.
        let gateways = [&world.gateway.url, &other.url].map(|url| http::Client::new(url));
        clients.spawn(client(gateways, stop.clone(), accepted.clone()));
    }
    let more = || async {
        let before = accepted.load(Ordering::Relaxed);
        let enough =
            || std::future::ready((accepted.load(Ordering::Relaxed) > before + 200).then_some(()));
        eventually("more contacts", enough).await;
    };
    for _ in 0..2 {
        for gateway in [&mut world.gateway, &mut other] {
            more().await;
            let status = gateway.server.stop(Duration::from_secs(10)).await.unwrap();
            assert!(status.success(), "{status}");
            gateway.server.start_again().unwrap();
            gateway.ready().await.unwrap();
        }
    }
    more().await;
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = clients.join_next().await {
        result.unwrap();
    }
    // None was taken whose client did not hear of it.
    assert_eq!(world.contacts().await, accepted.load(Ordering::Relaxed));
}

//! Listeners and waiters: each hears everything once and in order, over restarts, and none of them is kept for ever.

use std::time::Duration;

use async_nats::jetstream;
use chrono::Utc;
use events::{BuildId, Event as _, RolloutChanged, RolloutState};
use futures::future::{join_all, try_join_all};
use testbed::{
    eventually,
    http::{Client, Events},
    system::CI_TOKEN,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::world::World;

const PATH: &str = "/api/rollouts/events";

/// Says changes of rollouts, as a deployer would.
struct Deployer(jetstream::Context);

impl Deployer {
    fn change(id: BuildId, step: u32, state: RolloutState) -> RolloutChanged {
        let (target, image) = ("portfolio".parse().unwrap(), "a/b:v42-abc1234".to_owned());
        let first = RolloutChanged::first(id, Some(target), state, image, Utc::now());
        RolloutChanged { step, planned: (step == 0).then_some(1), ..first }
    }

    async fn say(&self, change: &RolloutChanged) -> u64 {
        let payload = serde_json::to_vec(change).unwrap();
        let sent = self.0.publish(change.subject(), payload.into()).await.unwrap();
        sent.await.unwrap().sequence
    }

    /// Says many, of one rollout.
    async fn say_many(&self, count: u32, detail: &str) -> u64 {
        let id = BuildId::new();
        let mut last = 0;
        for first in (0..count).step_by(100) {
            let steps = first..count.min(first + 100);
            let said = steps.map(|step| async move {
                let change = Self::change(id, step, RolloutState::Progressing);
                self.say(&RolloutChanged { detail: Some(detail.to_owned()), ..change }).await
            });
            last = join_all(said).await.into_iter().max().unwrap_or(last);
        }
        last
    }
}

/// Reads on until an event, and gives the places of all.
async fn up_to(events: &mut Events, last: u64) -> Vec<u64> {
    let mut places: Vec<u64> = Vec::new();
    while places.last().is_none_or(|place| *place < last) {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.event, "rollout");
        places.push(event.id.parse().unwrap());
    }
    places
}

#[tokio::test]
async fn who_comes_back_misses_nothing_and_hears_nothing_twice() {
    let mut world = World::start().await;
    let deployer = Deployer(world.jetstream().await);
    deployer.say_many(5, "before anybody listened").await;
    let mut events = world.gateway.ci().listen(PATH).await.unwrap();
    let mut heard = Vec::new();
    for round in 0..3 {
        let last = deployer.say_many(7, "heard").await;
        heard.extend(up_to(&mut events, last).await);
        if round == 2 {
            break;
        }
        // What is said while the gateway is away is told when it is back.
        world.gateway.server.kill();
        deployer.say_many(7, "missed").await;
        world.gateway.server.start_again().unwrap();
        world.gateway.ready().await.unwrap();
        let place = heard.last().unwrap().to_string();
        events = world.gateway.ci().with("last-event-id", &place).listen(PATH).await.unwrap();
    }
    assert_eq!(heard, (6..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn who_was_away_for_long_is_told_from_the_bus() {
    let world = World::start().await;
    let deployer = Deployer(world.jetstream().await);
    let last = deployer.say_many(1_500, "long ago").await;
    let again = world.gateway.ci().with("last-event-id", "3");
    let mut events = again.listen(PATH).await.unwrap();
    assert_eq!(up_to(&mut events, last).await, (4..=1_500).collect::<Vec<u64>>());
    let newest = deployer.say_many(1, "now").await;
    assert_eq!(up_to(&mut events, newest).await, [1_501]);
    let wrong = world.gateway.ci().with("last-event-id", "soon").get(PATH).await.unwrap();
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let world = World::start().await;
    let deployer = Deployer(world.jetstream().await);
    let address = world.gateway.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut slow: TcpStream = socket.connect(address).await.unwrap();
    let head =
        format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CI_TOKEN}\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    slow.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let quick = world.gateway.ci().listen(PATH).await.unwrap();
    let quick = tokio::spawn(async move {
        let mut quick = quick;
        up_to(&mut quick, 900).await.len()
    });
    deployer.say_many(900, &"x".repeat(20_000)).await;
    assert_eq!(quick.await.unwrap(), 900, "others hear all of it");
    // The kernel holds some of it; the rest is never asked for, so the connection ends before its time.
    let active = "http_server_active_connections";
    eventually("the end of the connection", || async {
        (world.gateway.metric(active).await.ok()? < 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn thousands_listen_and_wait_at_once() {
    const EACH: u16 = 1_000;
    let mut world = World::start().await;
    world.gateway.ready().await.unwrap();
    let deployer = Deployer(world.jetstream().await);
    let id = BuildId::new();
    deployer.say(&Deployer::change(id, 0, RolloutState::Accepted)).await;
    let path = format!("/api/builds/{id}?wait=60s");
    eventually("the build", || async {
        (world.gateway.ci().get(&format!("/api/builds/{id}")).await.ok()?.status == 200)
            .then_some(())
    })
    .await;
    let client = || Client::new(&world.gateway.url).bearer(CI_TOKEN);
    let listeners =
        try_join_all((0..EACH).map(|_| async move { client().listen(PATH).await })).await.unwrap();
    let waiters: Vec<_> = (0..EACH)
        .map(|_| {
            let (client, path) = (client(), path.clone());
            tokio::spawn(async move { client.get(&path).await.unwrap().json()["state"].clone() })
        })
        .collect();
    let active =
        r#"http_server_active_requests{http_request_method="GET",http_route="/api/builds/{id}"}"#;
    eventually("all of them waiting", || async {
        (world.gateway.metric(active).await.ok()? >= f64::from(EACH)).then_some(())
    })
    .await;
    let last = deployer.say(&Deployer::change(id, 1, RolloutState::Succeeded)).await;
    for mut listener in listeners {
        assert_eq!(up_to(&mut listener, last).await, [last]);
    }
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), "succeeded");
    }
    let peak = world.gateway.server.peak_kib().unwrap();
    assert!(peak < 100 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn a_listener_does_not_hold_up_the_end() {
    let mut world = World::start().await;
    let mut events = world.gateway.ci().listen(PATH).await.unwrap();
    let status = world.gateway.server.stop(Duration::from_secs(10)).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(events.next().await.is_ok_and(|event| event.is_none()), "it ends in order");
}

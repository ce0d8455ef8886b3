//! More than there is room for: refused at once, and taken again as soon as there is room.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rustix::process::Signal;
use testbed::{Gateway, eventually, system::CI_TOKEN};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::world::{World, build, contact};

/// Waits until so many POSTs of a route are in progress: then the next one meets what the test wants it to.
async fn in_progress(gateway: &Gateway, route: &str, count: f64) {
    let series = format!(
        r#"http_server_active_requests{{http_request_method="POST",http_route="{route}"}} "#
    );
    eventually("requests to be in progress", || async {
        (gateway.metric(&series).await.ok()? >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn past_the_room_for_requests_the_answer_is_503_at_once() {
    let world = World::start().await;
    let gateway = &world.gateway;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    // Each announces 64 KiB and keeps them to itself. There is room for 455 of them.
    let announce = || async {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = "POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 65536\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let held = join_all((0..470).map(|_| announce())).await;
    in_progress(gateway, "/api/contact", 455.0).await;
    let started = Instant::now();
    let answer = gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    let took = started.elapsed();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("too many requests are in progress"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("retry-after"), "1");
    assert!(took < Duration::from_secs(2), "refused after {took:?}");
    assert_eq!(gateway.http.get("/health").await.unwrap().status, 200, "reading goes on");

    drop(held);
    eventually("room again", || async {
        (gateway.http.post_json("/api/contact", &contact()).await.ok()?.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_token_alone_hears_429_once_it_has_too_many_builds_in_progress() {
    let world = World::start().await;
    let address = world.gateway.url.trim_start_matches("http://").to_owned();
    let begin = || async {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /api/builds HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CI_TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let held = join_all((0..64).map(|_| begin())).await;
    let ci = world.gateway.ci();
    in_progress(&world.gateway, "/api/builds", 64.0).await;
    let answer = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "1");
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("64 builds of this token"),
        "{}",
        answer.text()
    );
    assert_eq!(world.gateway.http.post_json("/api/contact", &contact()).await.unwrap().status, 202);

    drop(held);
    eventually("room again", || async {
        (ci.post_json("/api/builds", &build()).await.ok()?.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn past_the_contacts_that_may_wait_for_the_bus_the_answer_is_503_at_once() {
    let world = World::start().await;
    let spec = world.gateway.server.spec().clone().env("MAX_CONTACTS_IN_PROGRESS", "5");
    let mut gateway = Gateway::start_unready(spec).unwrap();
    gateway.ready().await.unwrap();
    // A bus that is frozen acknowledges nothing.
    world.nats.server.signal(Signal::STOP).unwrap();
    let post = || async { gateway.http.post_json("/api/contact", &contact()).await.unwrap() };
    let mut answers = JoinSet::new();
    for _ in 0..5 {
        let http = gateway.http.clone();
        answers.spawn(async move { http.post_json("/api/contact", &contact()).await.unwrap() });
    }
    in_progress(&gateway, "/api/contact", 5.0).await;
    let full =
        || async { Some(post().await).filter(|answer| answer.text().contains("wait for the bus")) };
    let answer = eventually("a refusal", full).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after"), answer.header("connection")),
        (503, "1", "close")
    );
    world.nats.server.signal(Signal::CONT).unwrap();
    eventually("room again", || async { (post().await.status == 202).then_some(()) }).await;
    while let Some(answer) = answers.join_next().await {
        assert!([202, 503].contains(&answer.unwrap().status.as_u16()));
    }
}

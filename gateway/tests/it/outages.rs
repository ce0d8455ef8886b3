//! The bus away, full, slow, or without its streams: nothing is answered 202 that is not on it.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream;
use serde_json::{Value, json};
use testbed::{Gateway, Nats, Scratch, Service, eventually};

use crate::world::{World, build, contact};

#[tokio::test]
async fn without_the_bus_nothing_is_accepted_and_the_gateway_comes_back_by_itself() {
    let mut world = World::start().await;
    world.nats.server.kill();
    for (client, path, body) in [
        (world.gateway.http.clone(), "/api/contact", contact()),
        (world.gateway.ci(), "/api/builds", build()),
    ] {
        let started = Instant::now();
        let answer = client.post_json(path, &body).await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(5), "{path} took {:?}", started.elapsed());
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
        assert!(answer.json()["detail"].as_str().unwrap().contains("nothing was accepted"));
    }
    let health = world.gateway.http.get("/health").await.unwrap();
    assert_eq!(health.status, 200, "the process serves, whatever it serves");
    let ready = world.gateway.admin.get("/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["dependencies"]["nats"]["ready"], false);
    assert_eq!(world.gateway.admin.get("/livez").await.unwrap().status, 200);

    world.nats.start_again().await.unwrap();
    world.gateway.ready().await.unwrap();
    assert_eq!(world.messages("CONTACTS").await, 0, "what was refused does not come after all");
    let answer = world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    assert_eq!(answer.status, 202);
    assert_eq!(world.messages("CONTACTS").await, 1);
}

#[tokio::test]
async fn a_full_stream_is_told_and_loses_nothing() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.max_bytes = 4096;
    jetstream.update_stream(config).await.unwrap();
    let mut accepted = 0;
    let mut answer = world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    while answer.status == 202 && accepted < 100 {
        accepted += 1;
        answer = world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    }
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().unwrap().contains("full"));
    assert!(!answer.header("retry-after").is_empty());
    assert!(accepted > 0);
    assert_eq!(world.messages("CONTACTS").await, accepted);
}

#[tokio::test]
async fn missing_streams_are_named_until_they_are_provisioned() {
    let scratch = Scratch::new().unwrap();
    let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
    let spec = Gateway::spec(&scratch.folder("gateway").unwrap(), &nats.url()).unwrap();
    let mut gateway = Gateway::start_unready(spec.clone()).unwrap();
    let detail = eventually("what is missing", || async {
        let report = gateway.admin.get("/readyz").await.ok()?.json();
        let detail = report["dependencies"]["streams"]["detail"].as_str()?.to_owned();
        detail.contains("missing").then_some(detail)
    })
    .await;
    assert_eq!(detail, "stream CONTACTS is missing: run provision as a privileged user");
    let answer = gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());

    let said = Service::run(&spec, "provision").await.unwrap();
    assert_eq!(
        said,
        "stream CONTACTS: created\nstream PIPELINE: created\nstream ROLLOUTS: created\nstream TARGETS: created\n\
         stream IDEMPOTENCY: created\n"
    );
    gateway.ready().await.unwrap();
    let again = Service::run(&spec, "provision").await.unwrap();
    assert!(again.contains("stream CONTACTS: as it shall be"), "{again}");
}

#[tokio::test]
async fn provision_updates_what_it_may_and_refuses_what_would_lose_messages() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let spec = world.gateway.server.spec().clone();
    let mut config = jetstream.get_stream("CONTACTS").await.unwrap().cached_info().config.clone();
    config.max_bytes = 1_000_000;
    jetstream.update_stream(config).await.unwrap();
    let run = |spec: testbed::Spec, name: &str| {
        let mut spec = spec;
        spec.name = name.to_owned();
        async move { Service::run(&spec, "provision").await }
    };
    let said = run(spec.clone(), "first").await.unwrap();
    assert!(said.contains("stream CONTACTS: updated, max_bytes 1000000 → 1073741824"), "{said}");

    // A stream of another kind, with a message in it: to make it ours would lose that.
    jetstream.delete_stream("ROLLOUTS").await.unwrap();
    let foreign = stream::Config {
        name: "ROLLOUTS".to_owned(),
        subjects: vec!["rollout.*.*".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    jetstream.create_stream(foreign).await.unwrap();
    jetstream.publish("rollout.a.b", "x".into()).await.unwrap().await.unwrap();
    let error = run(spec, "second").await.unwrap_err().to_string();
    assert!(error.contains("stream ROLLOUTS: refused, since it could lose messages: "), "{error}");
    assert_eq!(world.messages("ROLLOUTS").await, 1);
}

#[tokio::test]
async fn a_message_says_who_it_is_and_carries_the_clients_trace() {
    let world = World::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let client = world.gateway.http.with("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"));
    let answer = client.post_json("/api/contact", &contact()).await.unwrap();
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let header = |name: &str| {
        message.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
    };
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((header("Nats-Msg-Id"), header("ce-id")), (id.clone(), id.clone()));
    assert_eq!(header("ce-type"), "portfolio.contact.submitted.v1");
    assert_eq!(header("ce-source"), "/gateway");
    assert!(
        header("traceparent").starts_with(&format!("00-{trace}-")),
        "{}",
        header("traceparent")
    );
    assert_ne!(
        header("traceparent"),
        format!("00-{trace}-b7ad6b7169203331-01"),
        "our own span is the parent"
    );
    let event: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&event["v"], &event["id"]), (&json!(1), &json!(id)));
}

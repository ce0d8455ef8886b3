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
    eventually("the gateway to miss the bus", || async {
        let ready = world.gateway.admin.get("/readyz").await.ok()?;
        (ready.json()["dependencies"]["nats"]["ready"] == false).then_some(())
    })
    .await;
    for (client, path, body) in [
        (world.gateway.http.clone(), "/api/contact", contact()),
        (world.gateway.ci(), "/api/builds", build()),
    ] {
        let started = Instant::now();
        let answer = client.post_json(path, &body).await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(15), "{path} took {:?}", started.elapsed());
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
    assert_eq!(world.contacts().await, 0, "what was refused does not come after all");
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
    assert_eq!(world.contacts().await, accepted);
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
         stream IDEMPOTENCY_CALLERS: created\nstream IDEMPOTENCY_VISITORS: created\n"
    );
    gateway.ready().await.unwrap();
    let again = Service::run(&spec, "provision").await.unwrap();
    assert!(again.contains("stream CONTACTS: unchanged"), "{again}");
}

#[tokio::test]
async fn a_stream_that_is_removed_is_told_at_once_and_used_again_once_it_is_there() {
    let world = World::start().await;
    world.jetstream().await.delete_stream("CONTACTS").await.unwrap();
    let started = Instant::now();
    let answer = world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("nothing was accepted"), "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty());
    // Without a look at the stream, it would be waited for as long as for a leader.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    eventually("the missing stream", || async {
        let report = world.gateway.admin.get("/readyz").await.ok()?.json();
        let detail = report["dependencies"]["streams"]["detail"].as_str()?.to_owned();
        detail.contains("stream CONTACTS is missing").then_some(())
    })
    .await;
    Service::run(world.gateway.server.spec(), "provision").await.unwrap();
    let answer = world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(world.contacts().await, 1);
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
async fn a_contact_carries_its_id_and_the_clients_trace() {
    let world = World::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let client = world.gateway.http.with("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"));
    let answer = client.post_json("/api/contact", &contact()).await.unwrap();
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let names: Vec<_> = message.headers.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["Nats-Msg-Id"], "nobody reads more");
    let group: Value = serde_json::from_slice(&message.payload).unwrap();
    let contact = &group["contacts"][0];
    assert_eq!((&group["v"], &contact["id"]), (&json!(2), &json!(id)));
    let parent = contact["traceparent"].as_str().unwrap();
    assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
    let own = format!("00-{trace}-b7ad6b7169203331-01");
    assert_ne!(parent, own, "our own span is the parent");
}

#[tokio::test]
async fn a_bus_that_is_frozen_for_some_seconds_loses_nothing_and_is_not_complained_about() {
    let world = World::start().await;
    world.nats.server.signal(rustix::process::Signal::STOP).unwrap();
    let posts: Vec<_> = (0..40)
        .map(|_| {
            let http = world.gateway.http.clone();
            tokio::spawn(async move { http.post_json("/api/contact", &contact()).await.unwrap() })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.nats.server.signal(rustix::process::Signal::CONT).unwrap();
    for post in posts {
        let answer = post.await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(world.contacts().await, 40);
}

#[tokio::test]
async fn nothing_that_was_refused_during_an_outage_is_stored_afterwards() {
    let world = World::start().await;
    world.nats.server.signal(rustix::process::Signal::STOP).unwrap();
    let mut posts = Vec::new();
    for _ in 0..4 {
        for _ in 0..10 {
            let http = world.gateway.http.clone();
            posts.push(tokio::spawn(async move {
                http.post_json("/api/contact", &contact()).await.unwrap()
            }));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (mut in_doubt, mut refused) = (0, 0);
    for post in posts {
        let answer = post.await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        match (detail.contains("nothing was accepted"), detail.contains("not known")) {
            (true, false) => refused += 1,
            (false, true) => in_doubt += 1,
            _ => panic!("{detail}"),
        }
    }
    assert!(in_doubt >= 1 && refused >= 1, "{in_doubt} in doubt, {refused} refused");
    world.nats.server.signal(rustix::process::Signal::CONT).unwrap();
    eventually("a contact to be accepted again", || async {
        let answer = world.gateway.http.post_json("/api/contact", &contact()).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await;
    let stored = world.contacts().await;
    assert!(stored <= in_doubt + 1, "{stored} stored, {in_doubt} were in doubt");
}

#[tokio::test]
async fn visitors_cannot_use_up_the_room_for_the_keys_of_callers() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let visitors = jetstream.get_stream("IDEMPOTENCY_VISITORS").await.unwrap();
    let mut config = visitors.cached_info().config.clone();
    config.max_bytes = 4_096;
    jetstream.update_stream(config).await.unwrap();
    for number in 0..40 {
        let visitor = world.gateway.http.with("idempotency-key", &format!("visitor-{number}"));
        let answer = visitor.post_json("/api/contact", &contact()).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let kept = world.messages("IDEMPOTENCY_VISITORS").await;
    assert!((1..40).contains(&kept), "{kept} keys are kept: the oldest are forgotten");
    let ci = world.gateway.ci().with("idempotency-key", "build-1");
    let first = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(first.status, 202, "{}", first.text());
    let again = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(first.json()["id"], again.json()["id"]);
}

#[tokio::test]
async fn a_gateway_starts_on_streams_that_have_been_emptied() {
    let mut world = World::start().await;
    let answer = world.gateway.ci().post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let jetstream = world.jetstream().await;
    for stream in ["PIPELINE", "ROLLOUTS", "TARGETS"] {
        jetstream.get_stream(stream).await.unwrap().purge().await.unwrap();
    }
    world.gateway.server.kill();
    world.gateway.server.start_again().unwrap();
    world.gateway.ready().await.unwrap();
}

#[tokio::test]
async fn the_keys_of_callers_outlast_the_upgrade_from_the_stream_that_all_keys_shared() {
    let world = World::start().await;
    let jetstream = world.jetstream().await;
    let ci = world.gateway.ci().with("idempotency-key", "before-the-upgrade");
    let first = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(first.status, 202, "{}", first.text());
    // The record as a former version wrote it: under another subject, in a stream of its own.
    let callers = jetstream.get_stream("IDEMPOTENCY_CALLERS").await.unwrap();
    let last = callers.cached_info().state.last_sequence;
    let record = callers.get_raw_message(last).await.unwrap();
    let key = record.subject.rsplit('.').next().unwrap();
    jetstream.delete_stream("IDEMPOTENCY_CALLERS").await.unwrap();
    let former = stream::Config {
        name: "IDEMPOTENCY".to_owned(),
        subjects: vec!["idempotency.*".to_owned()],
        max_messages_per_subject: 1,
        ..Default::default()
    };
    jetstream.create_stream(former).await.unwrap();
    let subject = format!("idempotency.{key}");
    jetstream.publish(subject, record.payload).await.unwrap().await.unwrap();

    let mut spec = world.gateway.server.spec().clone();
    "upgrade".clone_into(&mut spec.name);
    let said = Service::run(&spec, "provision").await.unwrap();
    assert!(said.contains("stream IDEMPOTENCY_CALLERS: created"), "{said}");
    assert!(said.contains("stream IDEMPOTENCY_VISITORS: updated, sources"), "{said}");
    eventually("the record to be copied", || async {
        (world.messages("IDEMPOTENCY_CALLERS").await > 0).then_some(())
    })
    .await;
    let again = ci.post_json("/api/builds", &build()).await.unwrap();
    assert_eq!(again.json()["id"], first.json()["id"], "{}", again.text());
    assert_eq!(world.messages("PIPELINE").await, 1);

    "again".clone_into(&mut spec.name);
    let said = Service::run(&spec, "provision").await.unwrap();
    assert!(said.contains("stream IDEMPOTENCY_CALLERS: unchanged"), "{said}");
    jetstream.delete_stream("IDEMPOTENCY").await.unwrap();
    "last".clone_into(&mut spec.name);
    let said = Service::run(&spec, "provision").await.unwrap();
    assert!(said.contains("stream IDEMPOTENCY_CALLERS: updated, sources"), "{said}");
}

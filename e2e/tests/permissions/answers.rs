//! Who asks also says where the answer shall go, and the server does not check that subject. It leads nowhere all the same.

use std::time::Duration;

use events::{
    ALL_STREAMS, Consumer, Stream, contact_worker_consumer, executor_consumer, planner_consumer,
};
use futures::StreamExt;
use serde_json::{Value, json};
use testbed::{Access, Nats, Scratch, eventually};
use tokio::time::timeout;

use crate::user::User;

/// A bus with all its streams and consumers.
async fn provisioned(nats: &Nats, access: &Access) {
    let provision = User::sign_in(nats, access, "provision").await;
    for stream in ALL_STREAMS {
        let made =
            provision.ask(&format!("STREAM.CREATE.{}", stream.name), &stream.to_json(1)).await;
        assert_eq!(made["error"], Value::Null, "{}: {made}", stream.name);
    }
    let executor = executor_consumer(&"portfolio".parse().unwrap());
    for Consumer { name, stream, filter, .. } in
        [&contact_worker_consumer(), &planner_consumer(), &executor]
    {
        let config =
            json!({"durable_name": name, "filter_subject": filter, "ack_policy": "explicit"});
        let made = provision
            .ask(
                &format!("CONSUMER.CREATE.{}.{name}.{filter}", stream.name),
                &json!({"stream_name": stream.name, "config": config}),
            )
            .await;
        assert_eq!(made["error"], Value::Null, "{name}: {made}");
    }
}

/// A consumer of the user's own, to read a stream with; one that pushes, if it shall deliver somewhere.
async fn make_consumer(user: &User, stream: &str, name: &str, deliver_to: Option<&str>) {
    let config = json!({"name": name, "ack_policy": "none", "deliver_subject": deliver_to, "inactive_threshold": 60_000_000_000_u64});
    let request = json!({"stream_name": stream, "config": config});
    let made = user.ask(&format!("CONSUMER.CREATE.{stream}.{name}"), &request).await;
    assert_eq!(made["error"], Value::Null, "{made}");
}

async fn taken(operator: &User) -> Vec<(&'static str, u64)> {
    let mut all = Vec::new();
    for Stream { name, .. } in ALL_STREAMS {
        all.push((*name, operator.taken(name).await));
    }
    all
}

#[tokio::test]
async fn a_process_cannot_have_the_server_write_what_it_may_not_write_itself() {
    let scratch = Scratch::new().unwrap();
    let (nats, access) = Nats::start_secured(scratch.path()).await.unwrap();
    provisioned(&nats, &access).await;
    let operator = User::sign_in(&nats, &access, "operator").await;
    for _ in 0..20 {
        operator.client.request("contacts.submitted", "{}".into()).await.unwrap();
    }
    // Each has something of its own making in a stream that it may take from.
    for (name, stream, subject, consumer) in [
        ("gateway", "PIPELINE", "pipeline.build.portfolio", "own"),
        ("deployer", "ROLLOUTS", "rollout.portfolio.build", "own"),
        ("contact-worker", "CONTACTS", "", "contact-worker"),
    ] {
        let mut user = User::sign_in(&nats, &access, name).await;
        if consumer == "own" {
            make_consumer(&user, stream, consumer, None).await;
        }
        let take = format!("BUS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        for wanted in [
            "contacts.submitted",
            "pipeline.build.other",
            "deploy.portfolio",
            "rollout.portfolio.other",
            "target.portfolio.freeze",
            "target.portfolio.state",
            "dead.CONTACTS",
            "$JS.API.STREAM.PURGE.ROLLOUTS",
            "BUS.API.STREAM.PURGE.ROLLOUTS",
        ] {
            if user.may_say(wanted).await {
                continue;
            }
            if !subject.is_empty() {
                for _ in 0..2 {
                    user.client.request(subject, "{}".into()).await.unwrap();
                }
            }
            let before = taken(&operator).await;
            user.client.publish_with_reply(take.clone(), wanted, "1".into()).await.unwrap();
            // A consumer serves in order: once the next request has its message, there is nothing to come of this one.
            let inbox = user.client.new_inbox();
            let mut messages = user.client.subscribe(inbox.clone()).await.unwrap();
            user.client.publish_with_reply(take.clone(), inbox, "1".into()).await.unwrap();
            timeout(Duration::from_secs(10), messages.next()).await.unwrap().unwrap();
            assert_eq!(taken(&operator).await, before, "{name} takes from {stream}, for {wanted}");
        }
    }
}

/// One subject cannot be kept from it: whatever a user may read, it may have delivered where somebody listens by the full name,
/// and `CONTACTS` listens so on its only subject. Contacts come from anybody anyway.
#[tokio::test]
async fn a_consumer_that_pushes_reaches_no_stream_but_that_of_the_contacts() {
    let scratch = Scratch::new().unwrap();
    let (nats, access) = Nats::start_secured(scratch.path()).await.unwrap();
    provisioned(&nats, &access).await;
    let operator = User::sign_in(&nats, &access, "operator").await;
    let deployer = User::sign_in(&nats, &access, "deployer").await;
    deployer.client.request("rollout.portfolio.build", "{}".into()).await.unwrap();
    let before = taken(&operator).await;
    for (number, to) in [
        "pipeline.build.other",
        "target.portfolio.freeze",
        "idempotency.caller.key",
        "$JS.API.STREAM.PURGE.ROLLOUTS",
    ]
    .into_iter()
    .enumerate()
    {
        make_consumer(&deployer, "ROLLOUTS", &format!("push-{number}"), Some(to)).await;
    }
    // It is made last, and delivers.
    make_consumer(&deployer, "ROLLOUTS", "push", Some("contacts.submitted")).await;
    eventually("what was pushed", || async {
        (operator.taken("CONTACTS").await == 1).then_some(())
    })
    .await;
    let after = taken(&operator).await;
    let changed: Vec<_> =
        before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert_eq!(changed, [(&("CONTACTS", 0), &("CONTACTS", 1))]);
}

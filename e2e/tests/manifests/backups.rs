//! `docs/backup.md`: a system is backed up, and restored into an empty one, by the commands that stand there.

use std::{collections::BTreeMap, fs, process::Command};

use async_nats::jetstream::{message::StreamMessage, response::Response, stream::Stream};
use bson::{Document, doc};
use events::IDEMPOTENCY_CALLERS;
use futures::TryStreamExt;
use serde_json::{Value, json};
use testbed::workspace_folder;

use crate::{
    documented::{Shell, blocks},
    installed::{Installed, NAMESPACE},
    processes::{System, make_secrets, secrets_folder, with},
};

/// What is compared of a message.
#[derive(Debug, PartialEq)]
struct Message {
    subject: String,
    headers: BTreeMap<String, Vec<String>>,
    content: Vec<u8>,
    time: String,
}

/// What is compared of a stream.
#[derive(Debug, PartialEq)]
struct Kept {
    /// As it was asked for, but for the number of copies.
    config: Value,
    /// By sequence.
    messages: BTreeMap<u64, Message>,
    /// By name: up to where all is handled, and how much is still to do.
    consumers: BTreeMap<String, (u64, u64)>,
}

/// Whatever both stores hold.
#[derive(Debug, PartialEq)]
struct Stored {
    streams: BTreeMap<String, Kept>,
    contacts: Vec<Document>,
}

/// What waits at the time of the backup.
struct Waiting {
    contact: bson::Uuid,
    build: String,
    rolled_out: String,
}

pub(crate) async fn restore_everything() {
    let document = fs::read_to_string(workspace_folder().join("docs/backup.md")).unwrap();
    let [sign_in, back_up, stores, restore, rest] = &blocks(&document)[..] else {
        panic!("docs/backup.md has other blocks of commands")
    };
    let before = Installed::start("k8s/overlays/kind").await;
    before.all_ready().await;
    make_secrets(&before).await;
    let shell = Shell::new(&before);
    let mut found = None;
    with(&before, async |system| {
        let waiting = leave_something(system).await;
        shell.may_enter(system.pods);
        shell.run_in(system, sign_in);
        let told = shell.run_in(system, back_up);
        assert!(told.ends_with("{\"contacts\":1}\n"), "{told}");
        found = Some((waiting, stored(system).await));
        // A stream that is there is left alone.
        let commands = "! nats --context portfolio backup restore stream --no-progress backup/jetstream/CONTACTS 2>error && cat error";
        let told = shell.run_in(system, commands);
        assert!(told.contains("Stream \"CONTACTS\" already exist"), "{told}");
        let told = shell.run_in(system, &restore.split_once("done\nkubectl").map(|(_, rest)| format!("kubectl{rest}")).unwrap());
        assert!(told.contains("restored 0 contacts; 1 were there already"), "{told}");
    })
    .await;
    let (waiting, before_it) = found.unwrap();

    let after = Installed::empty().await;
    let copied = Command::new("cp")
        .arg("-a")
        .args([secrets_folder(&before), secrets_folder(&after)])
        .status();
    assert!(copied.unwrap().success());
    let new_shell = Shell::new(&after);
    new_shell.copy_from(&shell, "backup");
    drop(before);
    new_shell.run(&after, stores);
    let get = ["--namespace", NAMESPACE, "get", "deployments,jobs", "--output", "name"];
    assert_eq!(after.cluster.kubectl(&get).await.unwrap(), "", "only the stores are there");
    new_shell.run(&after, rest);
    let after = after.with_folder("k8s/overlays/production");
    after.all_ready().await;
    with(&after, async |system| {
        system.start("nats").await;
        system.start("mongodb-stateful").await;
        new_shell.may_enter(system.pods);
        new_shell.run_in(system, sign_in);
        break_off_a_restore(system).await;
        let told = new_shell.run_in(system, restore);
        assert!(told.contains("restored 1 contacts; 0 were there already"), "{told}");
        system.run("provision").await;
        assert_eq!(stored(system).await, before_it);
        for stream in streams(system).await {
            assert_eq!(
                stream.cached_info().config.num_replicas,
                3,
                "{}",
                stream.cached_info().config.name
            );
        }

        system.start_services().await;
        system.has_stored(waiting.contact).await;
        system.has_rolled_out(&waiting.build).await;
        system.has_rolled_out(&waiting.rolled_out).await;
        let contacts = system.mongodb(Some("admin")).await.collection::<Document>("contacts");
        assert_eq!(contacts.count_documents(doc! {}).await.unwrap(), 2);
    })
    .await;
}

/// A contact that is stored and a build that is rolled out; and one of each that wait.
async fn leave_something(system: &mut System<'_>) -> Waiting {
    system.start_all().await;
    let contact = system.posts_a_contact("Ada").await;
    system.has_stored(contact).await;
    let rolled_out = system.posts_a_build("mastereflex123/portfolio", 2).await;
    system.has_rolled_out(&rolled_out).await;
    system.stop("contact-worker").await;
    system.stop("deployer").await;
    let contact = system.posts_a_contact("Grace").await;
    let build = system.posts_a_build("mastereflex123/portfolio-contact-worker", 3).await;
    Waiting { contact, build, rolled_out }
}

/// Asks for a stream to be restored, and sends nothing: as a restore that does not reach the server which waits for it.
async fn break_off_a_restore(system: &System<'_>) {
    let bus = system.bus("operator").await;
    let state = json!({"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0,
        "first_ts": "0001-01-01T00:00:00Z", "last_ts": "0001-01-01T00:00:00Z"});
    let request = json!({"config": IDEMPOTENCY_CALLERS.to_json(1), "state": state});
    let answer: Response<Value> =
        bus.request("STREAM.RESTORE.IDEMPOTENCY_CALLERS", &request).await.unwrap();
    let Response::Ok(begun) = answer else { panic!("{answer:?}") };
    assert!(begun["deliver_subject"].is_string(), "{begun}");
}

async fn stored(system: &System<'_>) -> Stored {
    let mut all = BTreeMap::new();
    for stream in streams(system).await {
        all.insert(stream.cached_info().config.name.clone(), kept(&stream).await);
    }
    assert_eq!(all.len(), 8, "{all:#?}");
    assert!(!all["CONTACTS"].messages.is_empty() && !all["ROLLOUTS"].messages.is_empty());
    let contacts = system.mongodb(Some("admin")).await.collection::<Document>("contacts");
    let contacts =
        contacts.find(doc! {}).sort(doc! {"_id": 1}).await.unwrap().try_collect().await.unwrap();
    Stored { streams: all, contacts }
}

/// All streams, as the operator sees them.
async fn streams(system: &System<'_>) -> Vec<Stream> {
    let bus = system.bus("operator").await;
    let names: Vec<String> = bus.stream_names().try_collect().await.unwrap();
    let mut streams = Vec::new();
    for name in names {
        streams.push(bus.get_stream(name).await.unwrap());
    }
    streams
}

fn whole(message: &StreamMessage) -> Message {
    let headers = message.headers.iter().map(|(name, values)| {
        let values = values.iter().map(|value| value.as_str().to_owned());
        (name.to_string(), values.collect())
    });
    Message {
        subject: message.subject.to_string(),
        headers: headers.collect(),
        content: message.payload.to_vec(),
        time: message.time.to_string(),
    }
}

async fn kept(stream: &Stream) -> Kept {
    let info = stream.cached_info();
    let mut config = serde_json::to_value(&info.config).unwrap();
    config["num_replicas"] = json!(null);
    let mut messages = BTreeMap::new();
    for sequence in info.state.first_sequence..=info.state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        // What has an end of its own may have come to it.
        if message.headers.get("Nats-TTL").is_none() {
            messages.insert(sequence, whole(&message));
        }
    }
    let consumers: Vec<_> = stream.consumers().try_collect().await.unwrap();
    let consumers = consumers.into_iter().map(|consumer| {
        (
            consumer.name,
            (
                consumer.ack_floor.stream_sequence,
                consumer.num_pending + consumer.num_ack_pending as u64,
            ),
        )
    });
    Kept { config, messages, consumers: consumers.collect() }
}

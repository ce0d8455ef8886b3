//! Compares two forms of a group's payload: our own, and the JSON batch format of CloudEvents 1.0.
//! Run with `cargo run --release -p events --example payload`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::ensure;
use events::{Contact, ContactGroup, ContactId, Event, Group};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The time for which each form is written and read.
const TIME: Duration = Duration::from_secs(1);

/// A contact as an event in structured mode, with the attributes that the gateway would set.
#[derive(Debug, Serialize, Deserialize)]
struct CloudEvent {
    specversion: String,
    id: ContactId,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    datacontenttype: String,
    traceparent: Option<String>,
    data: Contact,
}

/// The number of contacts in a group.
const CONTACTS: usize = 256;

fn main() -> anyhow::Result<()> {
    let members: Vec<_> = (0..CONTACTS).map(|_| contact()).collect();
    let own = || {
        // Written one by one and joined, as the gateway does it.
        let encoded: Vec<_> = members.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?;
        anyhow::Ok(ContactGroup::join(encoded.iter().map(Vec::as_slice)))
    };
    let read_own = |payload: &[u8]| Ok(serde_json::from_slice::<ContactGroup>(payload)?.contacts);
    let cloud_events = || {
        let events: Vec<_> = members.iter().map(cloud_event).collect();
        anyhow::Ok(serde_json::to_vec(&events)?)
    };
    let read_cloud_events = |payload: &[u8]| {
        let events = serde_json::from_slice::<Vec<CloudEvent>>(payload)?;
        Ok(events.into_iter().map(|event| event.data).collect())
    };
    report("own", &members, own, read_own)?;
    report("CloudEvents batch", &members, cloud_events, read_cloud_events)
}

/// Prints the bytes of a contact, and the time to write and to read it.
#[expect(clippy::print_stdout, reason = "the example's result")]
fn report(
    name: &str,
    members: &[Contact],
    write: impl Fn() -> anyhow::Result<Vec<u8>>,
    read: impl Fn(&[u8]) -> anyhow::Result<Vec<Contact>>,
) -> anyhow::Result<()> {
    let payload = write()?;
    ensure!(read(&payload)? == members, "what is read is not what was written");
    let written = nanoseconds(members.len(), || write().map(|payload| drop(black_box(payload))))?;
    let seen =
        nanoseconds(members.len(), || read(&payload).map(|contacts| drop(black_box(contacts))))?;
    let bytes = payload.len() / members.len();
    println!("{name:<18} {bytes:>4} bytes, write {written:>5} ns, read {seen:>5} ns a contact");
    Ok(())
}

/// Repeats some work on a group and returns the time that it takes for each contact.
fn nanoseconds(contacts: usize, work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<u128> {
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        work()?;
        done += contacts as u128;
    }
    Ok(started.elapsed().as_nanos() / done)
}

fn contact() -> Contact {
    let id = Uuid::now_v7();
    Contact {
        id: ContactId(id),
        name: format!("Visitor {}", id.as_u64_pair().1),
        email: "visitor@example.org".to_owned(),
        subject: Some("Hello".to_owned()),
        message: "x".repeat(100),
        received_at: chrono::DateTime::UNIX_EPOCH,
        traceparent: Some(format!("00-{}-{:016x}-00", id.simple(), id.as_u64_pair().1)),
    }
}

fn cloud_event(contact: &Contact) -> CloudEvent {
    CloudEvent {
        specversion: "1.0".to_owned(),
        id: contact.id,
        source: "/gateway".to_owned(),
        kind: format!("{}.v2", ContactGroup::TYPE),
        datacontenttype: "application/json".to_owned(),
        traceparent: contact.traceparent.clone(),
        data: contact.clone(),
    }
}

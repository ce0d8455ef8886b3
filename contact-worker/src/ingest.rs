//! Stores the contacts of a group that comes from the bus. Each contact has its own outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use bson::DateTime;
use bus::{Delivery, Failure, Handled, Handler, Refused};
use events::{Contact, ContactGroup, Group, contact_worker_consumer};
use opentelemetry::Context;
use service::propagation;

use crate::{
    document::StoredContact,
    metrics::Metrics,
    store::{Store, Stored},
};

/// The largest number of contacts that get a log line each. More contacts share one line.
const LOGGED_ONE_BY_ONE: usize = 16;

/// The pauses between two checks of a store that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Stores groups of contacts.
pub(crate) struct Contacts {
    store: Store,
    metrics: Metrics,
}

impl Contacts {
    pub(crate) fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics }
    }
}

/// The outcome of one contact.
type Outcome = Result<Stored, Failure>;

impl Handler for Contacts {
    type Event = ContactGroup;

    /// Waits for the store, and for inserts that had no answer in time. Meanwhile, contacts stay on
    /// the bus, so that none is delivered in vain.
    async fn ready(&self) {
        let mut pause = FIRST_PAUSE;
        let batches = contact_worker_consumer().batches_in_process;
        while !self.store.has_room_for(batches) || self.store.check().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A large group is linked only to the traces that are recorded.
    fn member_traces(&self, group: &ContactGroup) -> Vec<Context> {
        let contacts = &group.contacts;
        let is_recorded = |trace: &&str| contacts.len() == 1 || trace.ends_with("-01");
        let traces = contacts.iter().filter_map(|contact| contact.traceparent.as_deref());
        traces
            .filter(is_recorded)
            .map(|trace| propagation::extract(|name| (name == "traceparent").then_some(trace)))
            .collect()
    }

    async fn handle(&self, batch: Vec<Delivery<ContactGroup>>) -> Vec<Result<Handled, Failure>> {
        let sizes: Vec<_> = batch.iter().map(|delivery| delivery.event.contacts.len()).collect();
        let total: usize = sizes.iter().sum();
        let one_by_one = total <= LOGGED_ONE_BY_ONE;
        let trace_ids: Vec<_> =
            if one_by_one { batch.iter().flat_map(trace_ids).collect() } else { Vec::new() };
        let now = DateTime::now();
        let contacts = batch.into_iter().flat_map(|delivery| delivery.event.contacts);
        let documents: Arc<[_]> =
            contacts.map(|contact| StoredContact::new(contact, now)).collect();

        self.metrics.batch.observe(f64::from(u32::try_from(total).unwrap_or(u32::MAX)));
        let started = Instant::now();
        let (outcomes, how) = self.store.insert(&documents).await;
        self.metrics.inserted(how, started.elapsed());
        let stored = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Stored::New))).count();
        self.metrics.stored.inc_by(stored as u64);
        if one_by_one {
            for ((document, trace_id), outcome) in documents.iter().zip(trace_ids).zip(&outcomes) {
                log(document, &trace_id, outcome);
            }
        } else {
            tracing::info!(contacts = stored, batch = total, "contacts stored");
        }
        by_message(&sizes, &documents, outcomes)
    }
}

/// Returns the trace id of each contact: its own, or that of the message.
fn trace_ids(delivery: &Delivery<ContactGroup>) -> Vec<Arc<str>> {
    let of_message = delivery.trace_id();
    let own = |contact: &Contact| {
        contact.traceparent.as_deref().and_then(|trace| trace.split('-').nth(1)).map(Arc::from)
    };
    let contacts = delivery.event.contacts.iter();
    contacts.map(|contact| own(contact).unwrap_or_else(|| of_message.to_string().into())).collect()
}

/// Logs a contact that is stored. Failures are logged where they are settled.
fn log(contact: &StoredContact, trace_id: &str, outcome: &Outcome) {
    match outcome {
        Ok(Stored::New) => {
            tracing::info!(contact.id = %contact.id, %trace_id, "contact stored");
        }
        Ok(Stored::Already) => {
            tracing::info!(contact.id = %contact.id, %trace_id, "contact was stored already");
        }
        Err(_) => {}
    }
}

/// Combines the outcomes of the contacts into one result for each message.
fn by_message(
    sizes: &[usize],
    documents: &[StoredContact],
    outcomes: Vec<Outcome>,
) -> Vec<Result<Handled, Failure>> {
    let mut outcomes = outcomes.into_iter();
    let mut rest = documents;
    sizes
        .iter()
        .map(|&size| {
            let (documents, behind) = rest.split_at(size);
            rest = behind;
            of_group(documents, outcomes.by_ref().take(size).collect())
        })
        .collect()
}

/// Decides about a group. If one contact may still be stored, the whole group is delivered again;
/// its other contacts are then found in the store.
fn of_group(documents: &[StoredContact], outcomes: Vec<Outcome>) -> Result<Handled, Failure> {
    let mut refused = Vec::new();
    let mut waiting = None;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(_) => {}
            Err(Failure::Permanent(error)) => refused.push((index, error)),
            Err(failure @ Failure::Unavailable(_)) => return Err(failure),
            Err(failure) => waiting = Some(failure),
        }
    }
    if let Some(failure) = waiting {
        return Err(failure);
    }
    match (refused.len(), documents.len()) {
        (0, _) => Ok(Handled::Whole),
        (1, 1) => {
            let error = refused.pop().map_or_else(|| anyhow!("refused"), |(_, error)| error);
            Err(Failure::Permanent(error))
        }
        _ => Ok(Handled::Except(
            refused
                .into_iter()
                .map(|(index, error)| Refused {
                    index,
                    payload: alone(&documents[index]).into(),
                    reason: format!("{error:#}"),
                })
                .collect(),
        )),
    }
}

/// Returns a group that holds this contact alone.
fn alone(document: &StoredContact) -> Vec<u8> {
    // A contact that was read from JSON can be written as JSON.
    let contact = serde_json::to_vec(&document.to_contact()).unwrap_or_default();
    ContactGroup::join([contact.as_slice()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(count: u128) -> Vec<StoredContact> {
        let contact = |number| Contact {
            id: events::ContactId(uuid::Uuid::from_u128(number)),
            name: format!("Visitor {number}"),
            email: "ada@example.org".to_owned(),
            subject: None,
            message: "hello".to_owned(),
            received_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            traceparent: None,
        };
        (0..count).map(|number| StoredContact::new(contact(number), DateTime::now())).collect()
    }

    fn permanent() -> Outcome {
        Err(Failure::Permanent(anyhow!("never")))
    }

    fn blocked() -> Outcome {
        Err(Failure::Blocked(anyhow!("quota")))
    }

    #[test]
    fn each_message_gets_the_outcomes_of_its_own_contacts() {
        let outcomes = vec![Ok(Stored::New), permanent(), Ok(Stored::Already), Ok(Stored::New)];
        let results = by_message(&[1, 1, 2], &documents(4), outcomes);
        assert!(matches!(results[0], Ok(Handled::Whole)));
        assert!(matches!(results[1], Err(Failure::Permanent(_))));
        assert!(matches!(results[2], Ok(Handled::Whole)));
    }

    #[test]
    fn a_refused_contact_of_a_group_is_set_aside_alone() {
        let results =
            by_message(&[3], &documents(3), vec![Ok(Stored::New), permanent(), Ok(Stored::New)]);
        let [Ok(Handled::Except(parts))] = results.as_slice() else { panic!("{results:?}") };
        assert_eq!((parts.len(), parts[0].index, parts[0].reason.as_str()), (1, 1, "never"));
        let group: ContactGroup = serde_json::from_slice(&parts[0].payload).unwrap();
        assert_eq!(group.contacts.len(), 1);
        assert_eq!(group.contacts[0].name, "Visitor 1");
    }

    #[test]
    fn a_contact_that_may_still_be_stored_brings_its_group_back() {
        let results =
            by_message(&[3], &documents(3), vec![Ok(Stored::New), permanent(), blocked()]);
        assert!(matches!(results[0], Err(Failure::Blocked(_))));
    }
}

//! Group publishing: the contacts that arrive while a commit is on its way share the next one, as
//! one message.
//!
//! A message costs the server one write and one fsync, whatever its size.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use events::Group;
use group_commit::{GroupCommit, Limits, Log, NoOutcome};
use service::{propagation, spans};
use tokio::time::{Instant, sleep};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{
    Bus, PublishError, Published, headers,
    publish::{self, Sending},
};

/// The pause between two checks whether the bus answers again.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// Publishes the members of one kind of group, many in one step. Clones share the groups.
#[derive(Clone, Debug)]
pub struct GroupPublisher<G: Group> {
    bus: Bus,
    commits: GroupCommit<GroupLog<G>>,
    within: Duration,
}

/// A member that is ready to be sent.
pub(crate) struct Member {
    payload: Vec<u8>,
    /// The span of the member alone, if it has one.
    span: Option<Span>,
}

/// A stream as a log that stores many members in one step.
#[derive(Debug)]
pub(crate) struct GroupLog<G> {
    bus: Bus,
    /// Set if nobody answered the last commit. The next commit then waits until the bus answers, so
    /// that an outage leaves one group in doubt and not all that wait behind it.
    unanswered: Arc<AtomicBool>,
    group: PhantomData<fn() -> G>,
}

/// A [`PublishError`] that many callers share.
type Shared = Result<Published, Arc<PublishError>>;

impl<G: Group> GroupPublisher<G> {
    /// Returns the limits of the payload. One commit at a time is the fastest at every load: more
    /// of them only split the groups.
    pub const fn limits() -> Limits {
        Limits {
            group_messages: G::MAX_MEMBERS,
            group_bytes: G::MAX_BYTES,
            commits_in_flight: 1,
            in_progress: 8_192,
        }
    }

    /// Starts a publisher, with the longest time that each member may take.
    pub fn start(bus: Bus, within: Duration, limits: Limits) -> Self {
        let log = GroupLog { bus: bus.clone(), unanswered: Arc::default(), group: PhantomData };
        Self { bus, commits: GroupCommit::start(log, limits), within }
    }

    /// Publishes a member and waits for the acknowledgement of its group.
    ///
    /// # Errors
    /// [`PublishError::Busy`] if too many members wait already, and the errors of [`Bus::publish`].
    pub async fn publish(&self, mut member: G::Member) -> Result<Published, PublishError> {
        let span = publish::span(G::STREAM.name, G::SUBJECT);
        if let Some(trace) = propagation::traceparent(span.as_ref().unwrap_or(&Span::current())) {
            G::set_traceparent(&mut member, trace);
        }
        let payload = serde_json::to_vec(&member)?;
        let started = Instant::now();
        let outcome =
            self.commits.submit(Member { payload, span: span.clone() }, self.within).await;
        let result = match outcome {
            Ok(Ok(published)) => Ok(published),
            Ok(Err(error)) => Err(error.to_shared()),
            Err(NoOutcome::Full) => Err(PublishError::Busy),
            Err(NoOutcome::NotCommitted) => Err(PublishError::NotSent),
            Err(NoOutcome::Unknown) => Err(PublishError::Unknown),
        };
        self.bus.metrics.published(G::STREAM, started.elapsed(), &result);
        publish::record(span.as_ref(), &result);
        result
    }
}

impl<G: Group> Log for GroupLog<G> {
    type Message = Member;
    type Outcome = Shared;

    fn size(member: &Member) -> usize {
        // One more byte for the comma.
        member.payload.len() + 1
    }

    async fn ready(&self) {
        self.bus.wait_until_connected().await;
        while self.unanswered.load(Relaxed) {
            if self.bus.stream_info(G::STREAM).await.is_ok() {
                self.unanswered.store(false, Relaxed);
                return;
            }
            sleep(PROBE_PAUSE).await;
            self.bus.wait_until_connected().await;
        }
    }

    async fn commit(&self, group: Vec<Member>, deadline: Instant) -> Shared {
        let members = u32::try_from(group.len()).unwrap_or(u32::MAX);
        self.bus.metrics.group.with_label_values(&[G::STREAM.name]).observe(members.into());
        let span = group_span(G::STREAM.name, &group);
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, NATS_MESSAGE_ID, &Uuid::now_v7().simple().to_string());
        let payload = Bytes::from(G::join(group.iter().map(|member| member.payload.as_slice())));
        let sending = Sending { stream: G::STREAM, subject: G::SUBJECT.into(), headers, payload };
        let result = self.bus.send_until(sending, deadline).instrument(span.clone()).await;
        if let Err(error) = &result {
            let unanswered = matches!(error, PublishError::Unknown | PublishError::NoStream);
            self.unanswered.store(unanswered, Relaxed);
            spans::failed(&span, error.kind(), error.to_string());
            tracing::debug!(stream = G::STREAM.name, members, "a group was not published: {error}");
        }
        result.map_err(Arc::new)
    }
}

/// Returns the span of a group. The span has a trace of its own, since the members belong to many
/// traces, and is linked to theirs both ways. A lone member has a span already.
fn group_span(stream: &'static str, group: &[Member]) -> Span {
    if let [only] = group {
        return only.span.clone().unwrap_or_else(Span::none);
    }
    if group.iter().all(|member| member.span.is_none()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        parent: None,
        "publish group",
        otel.name = format_args!("send group {}", stream),
        otel.kind = "client",
        messaging.system = "nats",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = stream,
        messaging.batch.message_count = group.len(),
    );
    let context = propagation::span_context(&span);
    for member in group.iter().filter_map(|member| member.span.as_ref()) {
        spans::link(&span, &propagation::span_context(member));
        spans::link(member, &context);
    }
    span
}

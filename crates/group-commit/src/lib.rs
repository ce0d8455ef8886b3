//! Group commit: many callers share one durable write.
//!
//! A durable write costs about the same for one message as for hundreds, because an fsync does. So
//! the messages that arrive during a commit form the next group. There is no timer: a lone message
//! is committed at once, and groups grow with the load.
//!
//! The log is anything that implements [`Log`]. Databases use the same technique for their
//! write-ahead logs.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// A log that stores messages durably, many in one step.
pub trait Log: Send + Sync + 'static {
    /// The message that is stored.
    type Message: Send + 'static;
    /// The outcome of a commit, which all messages of a group share.
    type Outcome: Clone + Send + 'static;

    /// Returns the size of a message, which counts against [`Limits::group_bytes`].
    fn size(message: &Self::Message) -> usize;

    /// Waits until a commit is likely to succeed. A message whose caller gives up meanwhile is
    /// never committed.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Stores a group of at least one message. Nothing may be stored after `deadline`, at which the
    /// last caller gives up.
    fn commit(
        &self,
        group: Vec<Self::Message>,
        deadline: Instant,
    ) -> impl Future<Output = Self::Outcome> + Send;
}

/// The number of times that other tasks run without adding a message before a group is closed.
const QUIET_ROUNDS: usize = 3;

/// The interval at which withdrawn messages are dropped while the log is not ready.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// The bounds of the groups, and of the messages in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of messages in a group.
    pub group_messages: usize,
    /// The largest group, in bytes, unless a single message is larger.
    pub group_bytes: usize,
    /// The number of commits that may be on their way at once.
    pub commits_in_flight: usize,
    /// The largest number of messages in progress: taken, and without an outcome yet. This bounds
    /// the time that a caller waits.
    pub in_progress: usize,
}

/// The reason why a message has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOutcome {
    /// The largest number of messages is in progress already. The message was not stored.
    #[error("too many messages are in progress")]
    Full,
    /// The time was up before a commit began. The message was not stored, and never will be.
    #[error("the log was not ready in time")]
    NotCommitted,
    /// The time was up while the commit was on its way, or the commit broke off. The message may
    /// have been stored.
    #[error("the log did not answer in time")]
    Unknown,
}

/// A message that waits for its group, until the committer takes it or its caller withdraws it.
type Slot<M> = Arc<Mutex<Option<M>>>;

struct Waiting<L: Log> {
    slot: Slot<(L::Message, OwnedSemaphorePermit)>,
    answer: oneshot::Sender<L::Outcome>,
    deadline: Instant,
}

/// A message that the committer has taken.
struct Taken<L: Log> {
    message: L::Message,
    answer: oneshot::Sender<L::Outcome>,
    deadline: Instant,
    /// Kept until the answer is sent.
    _place: OwnedSemaphorePermit,
}

impl<L: Log> Waiting<L> {
    fn is_withdrawn(&self) -> bool {
        lock(&self.slot).is_none()
    }

    fn size(&self) -> usize {
        lock(&self.slot).as_ref().map_or(0, |(message, _)| L::size(message))
    }

    fn take(self) -> Option<Taken<L>> {
        let (message, place) = lock(&self.slot).take()?;
        Some(Taken { message, answer: self.answer, deadline: self.deadline, _place: place })
    }
}

fn lock<M>(slot: &Mutex<Option<M>>) -> MutexGuard<'_, Option<M>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes messages from many callers. Clones share the groups. Once the last one is dropped, the
/// messages that wait are still committed.
pub struct GroupCommit<L: Log> {
    queue: mpsc::UnboundedSender<Waiting<L>>,
    places: Arc<Semaphore>,
}

impl<L: Log> Clone for GroupCommit<L> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), places: self.places.clone() }
    }
}

impl<L: Log> std::fmt::Debug for GroupCommit<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommit").finish_non_exhaustive()
    }
}

impl<L: Log> GroupCommit<L> {
    /// Starts a committer on the tokio runtime of the caller.
    pub fn start(log: L, limits: Limits) -> Self {
        // The number of places bounds the queue; withdrawn messages leave it once a second.
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(run(Arc::new(log), limits, waiting));
        let places = limits.in_progress.clamp(1, Semaphore::MAX_PERMITS);
        Self { queue, places: Arc::new(Semaphore::new(places)) }
    }

    /// Stores a message and waits for the outcome of its group. A caller that is dropped changes
    /// nothing: the message is stored all the same.
    ///
    /// # Errors
    /// There is no outcome within that time.
    pub async fn submit(
        &self,
        message: L::Message,
        within: Duration,
    ) -> Result<L::Outcome, NoOutcome> {
        let deadline = Instant::now() + within;
        let (answer, outcome) = oneshot::channel();
        let place = self.places.clone().try_acquire_owned().map_err(|_| NoOutcome::Full)?;
        let slot = Arc::new(Mutex::new(Some((message, place))));
        let waiting = Waiting { slot: slot.clone(), answer, deadline };
        self.queue.send(waiting).map_err(|_| NoOutcome::NotCommitted)?;
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The side that empties the slot decides. A message that is withdrawn here is never
            // committed.
            Err(_) if lock(&slot).take().is_some() => Err(NoOutcome::NotCommitted),
            // The other end is dropped without an answer only if the commit panicked.
            Ok(Err(_)) | Err(_) => Err(NoOutcome::Unknown),
        }
    }
}

async fn run<L: Log>(
    log: Arc<L>,
    limits: Limits,
    mut waiting: mpsc::UnboundedReceiver<Waiting<L>>,
) {
    let in_flight = Arc::new(Semaphore::new(limits.commits_in_flight.max(1)));
    let mut left_over = None;
    loop {
        // Waiting for the turn first lets the group hold all messages that arrive meanwhile.
        let Ok(turn) = in_flight.clone().acquire_owned().await else { return };
        let Some(first) = next(&mut left_over, &mut waiting).await else { return };
        let Some(first) = when_ready(&*log, first, &mut waiting).await else { continue };
        let_the_line_grow(&waiting, limits).await;
        let group;
        (group, left_over) = gather(first, &mut waiting, limits);
        if !group.is_empty() {
            tokio::spawn(commit(log.clone(), group, turn));
        }
    }
}

async fn next<L: Log>(
    left_over: &mut Option<Waiting<L>>,
    waiting: &mut mpsc::UnboundedReceiver<Waiting<L>>,
) -> Option<Waiting<L>> {
    match left_over.take() {
        Some(first) => Some(first),
        None => waiting.recv().await,
    }
}

/// Waits until the log is ready. Meanwhile, drops withdrawn messages from the head of the queue.
/// Returns the first message that was not withdrawn, if there is one.
async fn when_ready<L: Log>(
    log: &L,
    mut first: Waiting<L>,
    waiting: &mut mpsc::UnboundedReceiver<Waiting<L>>,
) -> Option<Waiting<L>> {
    let ready = log.ready();
    tokio::pin!(ready);
    loop {
        while first.is_withdrawn() {
            first = waiting.try_recv().ok()?;
        }
        tokio::select! {
            biased;
            () = &mut ready => return Some(first),
            () = tokio::time::sleep(TIDY_EVERY) => {}
        }
    }
}

/// Lets callers that are about to send a message do so: as long as the queue grows, the other tasks
/// run once more. Without other tasks this takes microseconds. Without this step, callers that have
/// just got an answer and send again would miss the next group, and the groups would be half as
/// large.
async fn let_the_line_grow<L: Log>(waiting: &mpsc::UnboundedReceiver<Waiting<L>>, limits: Limits) {
    let (mut known, mut quiet) = (waiting.len(), 0);
    while quiet < QUIET_ROUNDS && known + 1 < limits.group_messages {
        tokio::task::yield_now().await;
        let now = waiting.len();
        quiet = if now > known { 0 } else { quiet + 1 };
        known = now;
    }
}

/// Returns the group: the first message and those behind it, up to the limits; and the message
/// that did not fit.
fn gather<L: Log>(
    first: Waiting<L>,
    waiting: &mut mpsc::UnboundedReceiver<Waiting<L>>,
    limits: Limits,
) -> (Vec<Taken<L>>, Option<Waiting<L>>) {
    let mut bytes = 0;
    let mut group = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        bytes += message.size();
        if bytes > limits.group_bytes && !group.is_empty() {
            return (group, Some(message));
        }
        group.extend(message.take());
        if group.len() >= limits.group_messages {
            break;
        }
        next = waiting.try_recv().ok();
    }
    (group, None)
}

async fn commit<L: Log>(log: Arc<L>, group: Vec<Taken<L>>, turn: OwnedSemaphorePermit) {
    let latest = group.iter().map(|taken| taken.deadline).max().unwrap_or_else(Instant::now);
    let mut messages = Vec::with_capacity(group.len());
    let mut answers = Vec::with_capacity(group.len());
    for Taken { message, answer, _place: place, .. } in group {
        messages.push(message);
        answers.push((answer, place));
    }
    let outcome = log.commit(messages, latest).await;
    drop(turn);
    for (answer, place) in answers {
        drop(place);
        // A caller that no longer waits does not need the answer.
        let _ = answer.send(outcome.clone());
    }
}

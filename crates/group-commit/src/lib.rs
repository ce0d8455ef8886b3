//! Group commit: many callers share one durable write.
//!
//! A durable write costs about the same for one message as for hundreds, because an fsync does. So what arrives while a
//! commit is on its way forms the next one. There is no timer: a lone message is committed at once, and the busier it gets,
//! the larger the groups become by themselves.
//!
//! The log behind it is anything that implements [`Log`]; databases know the technique from their write-ahead logs.

use std::{future::Future, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Something that stores messages durably, many in one step.
pub trait Log: Send + Sync + 'static {
    /// What is stored.
    type Message: Send + 'static;
    /// What became of one message.
    type Outcome: Send + 'static;

    /// How much a message counts against [`Limits::group_bytes`].
    fn size(message: &Self::Message) -> usize;

    /// Stores a group of at least one message. One outcome a message, in order.
    fn commit(&self, group: Vec<Self::Message>) -> impl Future<Output = Vec<Self::Outcome>> + Send;
}

/// How often the other tasks run without adding a message before a group is closed.
const QUIET_ROUNDS: usize = 3;

/// What bounds the groups, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many messages a group has at most.
    pub group_messages: usize,
    /// How large a group is at most, in bytes, unless a single message is larger.
    pub group_bytes: usize,
    /// How many commits may be on their way at once.
    pub commits_in_flight: usize,
    /// How many messages may be in progress: taken, and without an outcome yet. It bounds how long one has to wait.
    pub in_progress: usize,
}

/// A message was not taken; nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As many messages are in progress as may be.
    #[error("too many messages are in progress")]
    Full,
    /// The committer has ended.
    #[error("the committer has ended")]
    Ended,
}

struct Waiting<L: Log> {
    message: L::Message,
    answer: oneshot::Sender<L::Outcome>,
    /// Kept until the answer is sent.
    place: OwnedSemaphorePermit,
}

/// Takes messages from many callers. Clones share the groups. Once the last one is dropped, what waits is still committed.
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
        // Bounded by the places.
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(run(Arc::new(log), limits, waiting));
        Self {
            queue,
            places: Arc::new(Semaphore::new(limits.in_progress.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }

    /// Stores a message and waits for its outcome. A caller that stops waiting changes nothing: the message is stored all
    /// the same, and so are those beside it.
    ///
    /// # Errors
    /// The message was not taken.
    pub async fn submit(&self, message: L::Message) -> Result<L::Outcome, NotTaken> {
        let (answer, outcome) = oneshot::channel();
        let place = self.places.clone().try_acquire_owned().map_err(|_| NotTaken::Full)?;
        self.queue.send(Waiting { message, answer, place }).map_err(|_| NotTaken::Ended)?;
        // The other end goes without a word only if the commit panicked.
        outcome.await.map_err(|_| NotTaken::Ended)
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
        // First the turn, then the group: so it holds all that came while the turn was waited for.
        let Ok(turn) = in_flight.clone().acquire_owned().await else { return };
        let first = match left_over.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        settle(&waiting, limits).await;
        let group;
        (group, left_over) = gather(first, &mut waiting, limits);
        tokio::spawn(commit(log.clone(), group, turn));
    }
}

/// Lets those get in line who are about to: as long as the line grows, the other tasks run once more. Without other tasks
/// this takes microseconds. Without it, those who have just been answered and come again would miss the next group, and the
/// groups would be half as large as they could be.
async fn settle<L: Log>(waiting: &mpsc::UnboundedReceiver<Waiting<L>>, limits: Limits) {
    let (mut known, mut quiet) = (waiting.len(), 0);
    while quiet < QUIET_ROUNDS && known + 1 < limits.group_messages {
        tokio::task::yield_now().await;
        let now = waiting.len();
        quiet = if now > known { 0 } else { quiet + 1 };
        known = now;
    }
}

/// The first message and what else is there already, up to the limits; and the one that did not fit.
fn gather<L: Log>(
    first: Waiting<L>,
    waiting: &mut mpsc::UnboundedReceiver<Waiting<L>>,
    limits: Limits,
) -> (Vec<Waiting<L>>, Option<Waiting<L>>) {
    let mut bytes = L::size(&first.message);
    let mut group = vec![first];
    while group.len() < limits.group_messages {
        let Ok(next) = waiting.try_recv() else { break };
        bytes += L::size(&next.message);
        if bytes > limits.group_bytes {
            return (group, Some(next));
        }
        group.push(next);
    }
    (group, None)
}

async fn commit<L: Log>(log: Arc<L>, group: Vec<Waiting<L>>, turn: OwnedSemaphorePermit) {
    let (messages, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.message, (waiting.answer, waiting.place))).unzip();
    let outcomes = log.commit(messages).await;
    drop(turn);
    for ((answer, place), outcome) in answers.into_iter().zip(outcomes) {
        drop(place);
        // A caller that no longer waits does not need to know.
        let _ = answer.send(outcome);
    }
}

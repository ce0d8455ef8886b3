//! Pull requests for one message at a time. A consumer requests a message when there is time to
//! handle it, and has no second request under way meanwhile.
//!
//! Hundreds of consumers share one subscription. A message arrives with the subject of its stream,
//! not with that of the request, so the consumer is read from the message's acknowledgement
//! subject. A status of the server arrives with the subject of the request.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{
    Client, Message, Request, StatusCode, Subscriber,
    jetstream::{self, AckKind},
};
use events::Consumer;
use futures::StreamExt;
use serde_json::json;
use tokio::{sync::oneshot, task::AbortHandle, time::timeout};

use crate::Bus;

/// The time that the server waits for a message. A short time means that a request that was lost in
/// a cluster is repeated soon.
const EXPIRES: Duration = Duration::from_secs(5);

/// The additional time for the server's answer to arrive.
const GRACE: Duration = Duration::from_secs(1);

/// The requests that wait for a message, by the names of their consumers.
type Waiting = HashMap<String, Place>;

/// A waiting request: its number, and the channel for its answer.
#[derive(Debug)]
struct Place {
    request: u64,
    answer: oneshot::Sender<Message>,
}

/// The pull requests of a connection.
#[derive(Debug)]
pub(crate) struct Pulls {
    inbox: String,
    requests: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
    handing_out: AbortHandle,
}

impl Bus {
    /// Returns the next message of a consumer, or none if there was none in time. Dropping the
    /// future is safe: a message that arrives for nobody is given back at once, so that another
    /// replica need not wait for it.
    ///
    /// # Errors
    /// The consumer is gone or changes its leader. The error is a sentence with the reason.
    pub(crate) async fn next(
        &self,
        consumer: &Consumer,
    ) -> Result<Option<jetstream::Message>, String> {
        let broke =
            |why: &dyn std::fmt::Display| format!("consumer {} broke: {why}", consumer.name);
        let pulls =
            self.pulls.get_or_try_init(|| Pulls::start(&self.client, &self.jetstream)).await;
        let pulls = pulls.map_err(|error| broke(&error))?;
        let (pull, answer) = pulls.begin(&consumer.name);
        let subject = format!("CONSUMER.MSG.NEXT.{}.{}", consumer.stream.name, consumer.name);
        let body =
            json!({ "batch": 1, "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX) });
        let request = Request::new().inbox(pull.inbox()).payload(body.to_string().into());
        let sent = self.jetstream.send_request(subject, request).await;
        sent.map_err(|error| broke(&error))?;
        let Ok(answer) = timeout(EXPIRES + GRACE, answer).await else { return Ok(None) };
        let message = answer.map_err(|_| broke(&"two wait for its messages"))?;
        match message.status {
            None => Ok(Some(jetstream::Message { message, context: self.jetstream.clone() })),
            // The request expired before there was a message.
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => Ok(None),
            Some(status) => Err(broke(&format_args!(
                "{status} {}",
                message.description.as_deref().unwrap_or_default()
            ))),
        }
    }
}

impl Pulls {
    async fn start(
        client: &Client,
        context: &jetstream::Context,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.>")).await?;
        let waiting = Arc::<Mutex<Waiting>>::default();
        let task = tokio::spawn(hand_out(answers, waiting.clone(), context.clone()));
        Ok(Self {
            inbox,
            requests: AtomicU64::default(),
            waiting,
            handing_out: task.abort_handle(),
        })
    }

    /// Registers a new request, and returns it with the receiver of its answer.
    fn begin<'a>(&'a self, consumer: &'a str) -> (Pull<'a>, oneshot::Receiver<Message>) {
        let (sender, receiver) = oneshot::channel();
        let request = self.requests.fetch_add(1, Relaxed);
        lock(&self.waiting).insert(consumer.to_owned(), Place { request, answer: sender });
        (Pull { pulls: self, consumer, request }, receiver)
    }
}

impl Drop for Pulls {
    fn drop(&mut self) {
        self.handing_out.abort();
    }
}

/// A request whose answer somebody waits for. Dropping it withdraws the request.
struct Pull<'a> {
    pulls: &'a Pulls,
    consumer: &'a str,
    request: u64,
}

impl Pull<'_> {
    /// Returns the subject to which the server sends its answer.
    fn inbox(&self) -> String {
        format!("{}.{}.{}", self.pulls.inbox, self.consumer, self.request)
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        take(&self.pulls.waiting, self.consumer, Some(self.request));
    }
}

/// Passes each answer to the request that waits for it.
async fn hand_out(
    mut answers: Subscriber,
    waiting: Arc<Mutex<Waiting>>,
    context: jetstream::Context,
) {
    while let Some(message) = answers.next().await {
        if message.status.is_some() {
            // The status of a request that is over is dropped, since nobody waits for it.
            let mut names = message.subject.rsplit('.');
            let request = names.next().and_then(|number| number.parse().ok());
            if let (Some(request), Some(consumer)) = (request, names.next())
                && let Some(place) = take(&waiting, consumer, Some(request))
            {
                let _ = place.answer.send(message);
            }
            continue;
        }
        let message = jetstream::Message { message, context: context.clone() };
        let place = message.info().ok().and_then(|info| take(&waiting, info.consumer, None));
        let unwanted = match place {
            Some(Place { answer, .. }) => match answer.send(message.message) {
                Ok(()) => continue,
                Err(message) => jetstream::Message { message, context: context.clone() },
            },
            None => message,
        };
        let _ = unwanted.ack_with(AckKind::Nak(None)).await;
    }
}

/// Removes and returns the waiting request of a consumer; if `request` is given, only the one with
/// that number.
fn take(waiting: &Mutex<Waiting>, consumer: &str, request: Option<u64>) -> Option<Place> {
    let mut waiting = lock(waiting);
    let place = waiting.get(consumer)?;
    if request.is_some_and(|request| request != place.request) {
        return None;
    }
    waiting.remove(consumer)
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One message at a time: it is asked for when there is time for it, and no second one is on its way meanwhile.
//!
//! Hundreds of consumers share one subscription. A message has its stream's subject, whatever it was asked for under, so it is
//! told by the consumer that its acknowledgement names. What the server says instead has the subject of the request.

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

/// How long the server waits with us for a message. Where it is short, a request that got lost in a cluster is missed soon.
const EXPIRES: Duration = Duration::from_secs(5);

/// How much longer its answer may take.
const GRACE: Duration = Duration::from_secs(1);

/// Those who wait for a message, by their consumers' names.
type Waiting = HashMap<String, Place>;

/// One who waits, with the number of the request.
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
    /// The next message of a consumer, or none if there was none in time. Given up, it leaves nothing behind: a message that
    /// nobody waits for goes back at once, so that another replica need not wait for it.
    ///
    /// # Errors
    /// The consumer is gone, or changes hands: why, in words.
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
            // It expired before there was one.
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

    /// A new request, and what will be its answer.
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

/// A request, for as long as somebody waits for its answer.
struct Pull<'a> {
    pulls: &'a Pulls,
    consumer: &'a str,
    request: u64,
}

impl Pull<'_> {
    /// Where the server answers.
    fn inbox(&self) -> String {
        format!("{}.{}.{}", self.pulls.inbox, self.consumer, self.request)
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        take(&self.pulls.waiting, self.consumer, Some(self.request));
    }
}

/// Gives each answer to who waits for it.
async fn hand_out(
    mut answers: Subscriber,
    waiting: Arc<Mutex<Waiting>>,
    context: jetstream::Context,
) {
    while let Some(message) = answers.next().await {
        if message.status.is_some() {
            // Of a request that is over, nobody needs to know what became of it.
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

/// Takes the place of who waits for a consumer, if it is of that request, where one is named.
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

//! Load by clients that record each answer: wrk does not report how long refusals took.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// The time within which all clients start.
pub(crate) const COMING: Duration = Duration::from_secs(1);

/// The behaviour of a client after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Waits for the time in `Retry-After`, and a random time of up to the same length, as retry
    /// policies do. Otherwise, all clients that were refused together would come again together.
    Patient,
    /// Comes again at once.
    Impatient,
}

/// The answers that clients received. Times are in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// The times of accepted contacts.
    pub(crate) accepted: Vec<f64>,
    /// The times of contacts that were refused with 503.
    pub(crate) refused: Vec<f64>,
    /// The number of requests with no answer, or another one.
    pub(crate) failed: usize,
}

impl Answers {
    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused.extend(other.refused);
        self.failed += other.failed;
    }
}

/// Posts contacts from a number of clients for a time. Each client posts again as soon as it has an
/// answer. All of them start within the first second.
pub(crate) async fn post_contacts(
    address: &str,
    clients: usize,
    time: Duration,
    manners: Manners,
) -> Answers {
    let until = Instant::now() + time + COMING;
    let mut running = JoinSet::new();
    for number in 0..clients {
        running.spawn(client(address.to_owned(), number, until, manners));
    }
    let mut all = Answers::default();
    while let Some(Ok(answers)) = running.join_next().await {
        all.add(answers);
    }
    all
}

/// Posts a number of contacts from one client alone, one after the other.
pub(crate) async fn post_alone(address: &str, contacts: usize) -> Answers {
    let mut client = Client::new(address.to_owned(), 0);
    for _ in 0..contacts {
        client.post().await;
    }
    client.answers
}

async fn client(address: String, number: usize, until: Instant, manners: Manners) -> Answers {
    let mut client = Client::new(address, number);
    tokio::time::sleep(COMING.mul_f64(jitter(number, 0) - 1.0)).await;
    while Instant::now() < until {
        let Some(after) = client.post().await else { continue };
        if manners == Manners::Patient {
            let after = after.mul_f64(jitter(number, client.count));
            tokio::time::sleep_until(until.min(Instant::now() + after).into()).await;
        }
    }
    client.answers
}

struct Client {
    address: String,
    number: usize,
    count: usize,
    connection: Option<Connection>,
    answers: Answers,
}

impl Client {
    fn new(address: String, number: usize) -> Self {
        Self { address, number, count: 0, connection: None, answers: Answers::default() }
    }

    /// Posts a contact and records the answer. Returns the time to wait for if the contact was
    /// refused.
    async fn post(&mut self) -> Option<Duration> {
        self.count += 1;
        // The time includes that of a new connection, for which a client waits too.
        let started = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(30), self.send()).await;
        let took = started.elapsed().as_secs_f64() * 1e3;
        match answer {
            Ok(Ok((StatusCode::ACCEPTED, _))) => self.answers.accepted.push(took),
            Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, after))) => {
                self.answers.refused.push(took);
                return Some(after);
            }
            Ok(Ok(_) | Err(_)) | Err(_) => {
                self.answers.failed += 1;
                self.connection = None;
            }
        }
        None
    }

    /// Sends a request, and keeps the connection if the server keeps it. Returns the status, and
    /// the time in `Retry-After`.
    async fn send(&mut self) -> anyhow::Result<(StatusCode, Duration)> {
        let mut sender = match self.connection.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(&self.address).await?,
        };
        sender.ready().await?;
        let response =
            sender.send_request(request(&self.address, self.number, self.count)?).await?;
        let (status, after, close) = (response.status(), retry_after(&response), closes(&response));
        response.into_body().collect().await?;
        if !close {
            self.connection = Some(sender);
        }
        Ok((status, after))
    }
}

/// Returns a factor from 1 to 2, the same in every run.
fn jitter(client: usize, count: usize) -> f64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((client, count));
    1.0 + f64::from(u16::try_from(hash % 1_000).unwrap_or(0)) / 1_000.0
}

type Connection = http1::SendRequest<Full<Bytes>>;

async fn connect(address: &str) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(address: &str, client: usize, count: usize) -> anyhow::Result<Request<Full<Bytes>>> {
    let filling = "x".repeat(100);
    let body = format!(
        r#"{{"name":"Visitor {client}","email":"v{client}@example.org","subject":"Hello","message":"Message {count}. {filling}"}}"#
    );
    let request = Request::post("/api/contact").header(header::HOST, address);
    Ok(request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body.into()))?)
}

fn retry_after(response: &Response<Incoming>) -> Duration {
    let value = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(value.unwrap_or(0))
}

fn closes(response: &Response<Incoming>) -> bool {
    response
        .headers()
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

//! A connection that loses one thing, as in a cluster when a server fails.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// The thing that is lost, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A pull request.
    PullRequest,
    /// The acknowledgement of a message, and the connection with it.
    Acknowledgement,
}

const REQUEST: &[u8] = b"MSG.NEXT";

/// The subject that a lost request gets instead. A test has to subscribe to it, since the server
/// otherwise reports that nobody does.
const LOST: &[u8; REQUEST.len()] = b"MSG.LOST";

pub(crate) const LOST_SUBJECT: &str = "$JS.API.CONSUMER.MSG.LOST.>";

/// A part of the acknowledgement of a message.
const ACKNOWLEDGEMENT: &[u8] = b"\"seq\":";

pub(crate) struct Lossy {
    pub(crate) url: String,
    pub(crate) done: Arc<AtomicBool>,
    accepting: AbortHandle,
}

impl Lossy {
    pub(crate) async fn start(server: &str, loss: Loss) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("nats://{}", listener.local_addr()?);
        let server = server.strip_prefix("nats://").context("a URL of NATS")?.to_owned();
        let done = Arc::new(AtomicBool::default());
        let accepting = tokio::spawn({
            let done = done.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(relay(client, server.clone(), loss, done.clone()));
                }
            }
        });
        Ok(Self { url, done, accepting: accepting.abort_handle() })
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Relays both directions until one of them ends.
async fn relay(
    client: TcpStream,
    server: String,
    loss: Loss,
    done: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (from_server, to_server) = TcpStream::connect(server).await?.into_split();
    let (from_client, to_client) = client.into_split();
    let up = copy(from_client, to_server, |chunk| {
        let found = chunk.windows(REQUEST.len()).position(|window| window == REQUEST);
        if let Some(at) = found
            && loss == Loss::PullRequest
            && !done.swap(true, SeqCst)
        {
            chunk[at..at + LOST.len()].copy_from_slice(LOST);
        }
        true
    });
    let down = copy(from_server, to_client, |chunk| {
        let found = chunk.windows(ACKNOWLEDGEMENT.len()).any(|window| window == ACKNOWLEDGEMENT);
        !(found && loss == Loss::Acknowledgement && !done.swap(true, SeqCst))
    });
    tokio::select! {
        result = up => result,
        result = down => result,
    }
}

/// Copies chunks for as long as `pass` lets them through.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut pass: impl FnMut(&mut [u8]) -> bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 || !pass(&mut buffer[..length]) {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

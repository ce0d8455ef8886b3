//! A connection that loses the first pull request, as a cluster does whose node dies with it.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

const REQUEST: &[u8] = b"MSG.NEXT";

/// The requests that are lost have this instead. Somebody has to hear them, or the server tells that nobody did.
const LOST: &[u8; REQUEST.len()] = b"MSG.LOST";

pub(crate) const LOST_SUBJECT: &str = "$JS.API.CONSUMER.MSG.LOST.>";

pub(crate) struct Lossy {
    pub(crate) url: String,
    accepting: AbortHandle,
}

impl Lossy {
    pub(crate) async fn start(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("nats://{}", listener.local_addr()?);
        let server = server.strip_prefix("nats://").context("a URL of NATS")?.to_owned();
        let lost = Arc::new(AtomicBool::default());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server.clone(), lost.clone()));
            }
        });
        Ok(Self { url, accepting: accepting.abort_handle() })
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(client: TcpStream, server: String, lost: Arc<AtomicBool>) -> std::io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from_client.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let chunk = &mut buffer[..length];
        let found = chunk.windows(REQUEST.len()).position(|window| window == REQUEST);
        if let Some(at) = found
            && !lost.swap(true, SeqCst)
        {
            chunk[at..at + LOST.len()].copy_from_slice(LOST);
        }
        to_server.write_all(chunk).await?;
    }
}

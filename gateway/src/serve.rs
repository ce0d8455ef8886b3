//! Connections: how many there may be, how long a client may take to say what it wants, and their end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use prometheus::IntGauge;
use service::shutdown::Shutdown;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;

use crate::observe::Active;

/// How many connections are served at once. More wait in the kernel's queue, which is bounded too.
const MAX_CONNECTIONS: usize = 4_096;

/// How many connections wait to be accepted at most, if the kernel (`net.core.somaxconn`) lets them.
const BACKLOG: u32 = 4_096;

/// How long a client may take for the head of a request, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a client may take nothing of what it is sent. One that listens to events and does not read them is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests of one HTTP/2 connection are served at once.
const MAX_STREAMS: u32 = 128;

/// The pause after a connection could not be accepted, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(50);

/// How an HTTP/2 connection begins, as far as no HTTP/1 request does (RFC 9113, section 3.4).
const HTTP2: &[u8] = b"PRI";

/// Opens the port. Whoever comes while all are busy waits in line, as many as may be served at once.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the shutdown begins, then until every request that was begun is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    open: &IntGauge,
    shutdown: &Shutdown,
) {
    let builders = Builders::new();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let Some(accepted) = shutdown.unless_begun(accept(&listener, &connections)).await else {
            break;
        };
        let Some((stream, place)) = accepted else { continue };
        let service = TowerToHyperService::new(router.clone());
        let (builders, shutdown, watcher) =
            (builders.clone(), shutdown.clone(), graceful.watcher());
        let open = Active::begin(open.clone());
        tokio::spawn(async move {
            let builder = tokio::select! {
                biased;
                // What has been said already is answered.
                builder = builders.fitting(&stream) => builder,
                () = shutdown.begun() => None,
            };
            if let Some(builder) = builder {
                let mut stream = TimeoutStream::new(stream);
                stream.set_write_timeout(Some(WRITE_TIMEOUT));
                // Why a client went away is its own affair.
                let _ = watcher
                    .watch(builder.serve_connection(TokioIo::new(Box::pin(stream)), service))
                    .await;
            }
            drop((place, open));
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// How connections are served, by what they begin with.
#[derive(Clone)]
struct Builders {
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
    either: auto::Builder<TokioExecutor>,
}

impl Builders {
    fn new() -> Self {
        let mut either = auto::Builder::new(TokioExecutor::new());
        either.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        either
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(HEAD_TIMEOUT)
            .keep_alive_timeout(HEAD_TIMEOUT);
        Self { http1: either.clone().http1_only(), http2: either.clone().http2_only(), either }
    }

    /// Looks at what a client says first, and leaves it where it is: hyper would read it, which makes its buffer twice as large
    /// for as long as the connection lasts. None if nothing is said in time.
    async fn fitting(&self, stream: &TcpStream) -> Option<&auto::Builder<TokioExecutor>> {
        let mut first = [0; HTTP2.len()];
        let length = timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await.ok()?.ok()?;
        Some(match &first[..length] {
            HTTP2 => &self.http2,
            part if HTTP2.starts_with(part) => &self.either,
            _ => &self.http1,
        })
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // Never closed.
    let place = connections.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and shall not wait for more.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!("a connection could not be accepted: {error}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

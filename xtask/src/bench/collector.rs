//! Collectors of spans in different states: one that takes everything and keeps nothing, as one on
//! another machine looks from here; one that takes connections and never answers; and none at all.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A collector that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) url: String,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Collector {
    /// Starts a collector that takes all spans over gRPC.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (listener, url) = listen().await?;
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .http2_only()
                        .serve_connection(TokioIo::new(stream), service_fn(take))
                        .await;
                });
            }
        });
        Ok(Self { url, serving: Some(serving) })
    }

    /// Starts a collector that takes connections and never answers.
    pub(crate) async fn silent() -> anyhow::Result<Self> {
        let (listener, url) = listen().await?;
        let serving = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(stream);
            }
        });
        Ok(Self { url, serving: Some(serving) })
    }

    /// Returns a collector that does not run.
    pub(crate) fn dead() -> Self {
        Self { url: format!("http://127.0.0.1:{}", testbed::free_port()), serving: None }
    }
}

async fn listen() -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

/// Answers with an empty message and the status of success.
async fn take(
    request: Request<Incoming>,
) -> Result<
    Response<StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
    hyper::Error,
> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let mut response = Response::new(StreamBody::new(stream::iter(frames.map(Ok))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

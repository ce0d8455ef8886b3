//! A small HTTP client for loopback, without TLS.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(100);

/// Keeps its connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    pool: Pool<HttpConnector, Full<Bytes>>,
    headers: HeaderMap,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// A client for one server, such as `http://127.0.0.1:5001`.
    pub fn new(base: &str) -> Self {
        let pool = Pool::builder(TokioExecutor::new()).build_http();
        Self { base: base.to_owned(), pool, headers: HeaderMap::new() }
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same, with a header on every request.
    ///
    /// # Panics
    /// The name or the value is not one.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
        else {
            panic!("not a header: {name}: {value}");
        };
        headers.insert(name, value);
        Self { headers, ..self.clone() }
    }

    /// The same, with a bearer token on every request.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// One request, which may take 100 seconds.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let exchange = async {
            let response = self.begin(method, path, body.into()).await?;
            let (head, body) = response.into_parts();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::time::timeout(LIMIT, exchange).await.context("no answer within 100 s")?
    }

    /// The status alone, of an answer that may not end.
    ///
    /// # Errors
    /// No answer came.
    pub async fn status(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<StatusCode> {
        let begun = tokio::time::timeout(LIMIT, self.begin(method, path, body.into()));
        Ok(begun.await.context("no answer within 100 s")??.status())
    }

    /// Listens to Server-Sent Events.
    ///
    /// # Errors
    /// No answer came, or another than 200.
    pub async fn listen(&self, path: &str) -> anyhow::Result<Events> {
        let response = self.begin(Method::GET, path, Bytes::new()).await?;
        anyhow::ensure!(
            response.status() == StatusCode::OK,
            "{path} answered {}",
            response.status()
        );
        Ok(Events { body: response.into_body(), text: Vec::new() })
    }

    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        Ok(self.pool.request(request.body(Full::new(body))?).await?)
    }

    /// GET.
    ///
    /// # Errors
    /// No answer came.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// POST of a body of some type.
    ///
    /// # Errors
    /// No answer came.
    pub async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        self.with(header::CONTENT_TYPE.as_str(), content_type).send(Method::POST, path, body).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// No answer came.
    pub async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.post(path, "application/json", body.to_string()).await
    }
}

/// Server-Sent Events, as they come.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    text: Vec<u8>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its `id`.
    pub id: String,
    /// Its `event`; empty if it has none.
    pub event: String,
    /// Its `data`.
    pub data: String,
}

impl Events {
    /// The next one that has data; none at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing came for 30 seconds.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<_> = self.text.drain(..end + 2).collect();
                let event = Event::of(&String::from_utf8_lossy(&block));
                if !event.data.is_empty() {
                    return Ok(Some(event));
                }
                continue;
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame());
            let Some(frame) = frame.await.context("silent for 30 s")? else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.text.extend_from_slice(&data);
            }
        }
    }
}

impl Event {
    fn of(block: &str) -> Self {
        let mut event = Self::default();
        for line in block.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "id" => value.clone_into(&mut event.id),
                "event" => value.clone_into(&mut event.event),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        event
    }
}

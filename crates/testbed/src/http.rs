//! A small HTTP client for loopback, without TLS.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

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

    /// The same, with a header on every request.
    ///
    /// # Panics
    /// The name or the value is not one.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) else {
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
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        let request = request.body(Full::new(body.into()))?;
        let exchange = async {
            let response = self.pool.request(request).await?;
            let (head, body) = response.into_parts();
            Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
        };
        tokio::time::timeout(Duration::from_secs(100), exchange).await.context("no answer within 100 s")?
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
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
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

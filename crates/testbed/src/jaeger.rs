//! A real Jaeger, which takes spans over OTLP and keeps them in memory, and what it answers.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::ensure;
use serde_json::Value;

use crate::{Server, Spec, find_tool, free_port, http, process::START, within};

/// A Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    /// The process.
    pub server: Server,
    otlp: u16,
    query: http::Client,
}

/// A span, as Jaeger tells it.
#[derive(Clone, Debug)]
pub struct Span {
    /// The service's name.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The id of the trace that it is in.
    pub trace: String,
    /// The span that it is a part of.
    pub parent: Option<String>,
    /// Spans that it is linked to, by trace and span.
    pub links: Vec<(String, String)>,
    /// When it began, in microseconds of Unix time.
    pub start: u64,
    /// How long it took, in microseconds.
    pub duration: u64,
    /// Its attributes, as texts.
    pub tags: HashMap<String, String>,
    /// The attributes of its resource, as texts.
    pub resource: HashMap<String, String>,
}

impl Span {
    /// An attribute; empty if it has none of that name.
    pub fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// When it ended, in microseconds of Unix time.
    pub fn end(&self) -> u64 {
        self.start + self.duration
    }
}

impl Jaeger {
    /// Starts one.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let (otlp, query, admin) = (free_port(), free_port(), free_port());
        let mut spec = Spec::new("jaeger", find_tool("jaeger")?, folder)
            .env("OTEL_TRACES_SAMPLER", "always_off");
        for (flag, port) in [
            ("collector.grpc-server", free_port()),
            ("collector.http-server", free_port()),
            ("collector.otlp.grpc", otlp),
            ("collector.otlp.http", free_port()),
            ("query.grpc-server", free_port()),
            ("query.http-server", query),
            ("admin.http", admin),
        ] {
            spec = spec.args([format!("--{flag}.host-port=127.0.0.1:{port}")]);
        }
        let mut server = Server::start(spec.args(["--memory.max-traces=100000"]))?;
        let client = |port| http::Client::new(&format!("http://127.0.0.1:{port}"));
        let admin = client(admin);
        server
            .ready(START, || async {
                admin.get("/").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
            })
            .await?;
        Ok(Self { server, otlp, query: client(query) })
    }

    /// Where services send their spans: `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.otlp)
    }

    /// Where it is asked.
    pub fn url(&self) -> &str {
        self.query.base()
    }

    /// The spans of a trace that have arrived by now.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    pub async fn trace(&self, id: &str) -> anyhow::Result<Vec<Span>> {
        let answer = self.query.get(&format!("/api/traces/{id}")).await?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        ensure!(answer.status.is_success(), "Jaeger answered {}", answer.status);
        Ok(spans(&answer.json()))
    }

    /// The spans of all traces in which a service has one of that name.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    pub async fn find(&self, service: &str, name: &str) -> anyhow::Result<Vec<Span>> {
        let query = format!(
            "/api/traces?service={service}&operation={}&limit=1500&lookback=1h",
            name.replace(' ', "%20")
        );
        let answer = self.query.get(&query).await?;
        ensure!(answer.status.is_success(), "Jaeger answered {}", answer.status);
        Ok(spans(&answer.json()))
    }

    /// All traces of a service, as they are told.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    pub async fn all(&self, service: &str) -> anyhow::Result<String> {
        let answer = self
            .query
            .get(&format!("/api/traces?service={service}&limit=1500&lookback=1h"))
            .await?;
        ensure!(answer.status.is_success(), "Jaeger answered {}", answer.status);
        Ok(answer.text())
    }

    /// Waits until a trace has what is asked of it.
    ///
    /// # Errors
    /// It does not come to have it; with what it has.
    pub async fn eventually<T>(
        &self,
        id: &str,
        what: &str,
        asked: impl Fn(&[Span]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let found =
            within(Duration::from_secs(20), what, || async { asked(&self.trace(id).await.ok()?) })
                .await;
        match found {
            Ok(found) => Ok(found),
            Err(error) => {
                let spans = self.trace(id).await?;
                let names: Vec<_> =
                    spans.iter().map(|span| format!("{}: {}", span.service, span.name)).collect();
                Err(error.context(format!("the trace {id} has {names:#?}")))
            }
        }
    }
}

fn spans(answer: &Value) -> Vec<Span> {
    let traces = answer["data"].as_array().into_iter().flatten();
    traces
        .flat_map(|trace| array(&trace["spans"]).map(|span| read(span, &trace["processes"])))
        .collect()
}

fn read(span: &Value, processes: &Value) -> Span {
    let process = &processes[text(&span["processID"])];
    let reference = |kind: &'static str| {
        let of_kind =
            array(&span["references"]).filter(move |reference| reference["refType"] == kind);
        of_kind.map(|reference| (text(&reference["traceID"]), text(&reference["spanID"])))
    };
    Span {
        service: text(&process["serviceName"]),
        name: text(&span["operationName"]),
        id: text(&span["spanID"]),
        trace: text(&span["traceID"]),
        parent: reference("CHILD_OF").map(|(_, id)| id).next(),
        links: reference("FOLLOWS_FROM").collect(),
        start: span["startTime"].as_u64().unwrap_or_default(),
        duration: span["duration"].as_u64().unwrap_or_default(),
        tags: tags(&span["tags"]),
        resource: tags(&process["tags"]),
    }
}

fn tags(list: &Value) -> HashMap<String, String> {
    array(list).map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

//! A real Alertmanager with our settings, and a receiver that writes down what it is told.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::{
    Json, Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use serde_json::Value;
use testbed::{Server, free_port, http, observers, within};
use tokio::net::TcpListener;

use crate::{monitoring, shortened::Scale};

/// How long a fault may take to be told, or to be told gone.
const LIMIT: Duration = Duration::from_mins(1);

const TOKEN: &str = "testbed-webhook-token";

pub(crate) type Labels = BTreeMap<String, String>;

/// An alert, as a receiver was told of it.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) receiver: String,
    pub(crate) status: String,
    pub(crate) labels: Labels,
    annotations: Labels,
}

type Heard = Arc<Mutex<Vec<Notice>>>;

/// An Alertmanager, and all that it has told.
pub(crate) struct Alertmanager {
    _server: Server,
    http: http::Client,
    pub(crate) address: String,
    heard: Heard,
}

/// An alert with all its labels.
pub(crate) fn alert(name: &str, severity: &str, others: &[(&str, &str)]) -> Labels {
    let own = [("alertname", name), ("severity", severity)];
    own.iter()
        .chain(others)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Alertmanager {
    /// Starts one, with a receiver of its own in place of the one that the settings name.
    pub(crate) async fn start(folder: &Path, scale: Scale) -> anyhow::Result<Self> {
        let heard = Heard::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = format!("http://{}", listener.local_addr()?);
        let app = Router::new().route("/{receiver}", post(hear)).with_state(heard.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });

        let token = folder.join("token");
        fs::write(&token, TOKEN)?;
        let shipped =
            scale.alertmanager(&fs::read_to_string(monitoring().join("alertmanager.yml"))?);
        let settings = shipped
            .replace("http://alert-receiver:8080", &receiver)
            .replace("/etc/alertmanager/secrets/webhook-token", &token.to_string_lossy());
        ensure!(settings.matches(&receiver).count() == 3, "three receivers are expected");
        fs::write(folder.join("alertmanager.yml"), settings)?;

        let address = format!("127.0.0.1:{}", free_port());
        let program = observers::alertmanager().context("Alertmanager is not installed")?;
        let server = observers::start_alertmanager(program, folder, &address).await?;
        let http = http::Client::new(&format!("http://{address}"));
        Ok(Self { _server: server, http, address, heard })
    }

    /// All that was told so far.
    pub(crate) fn heard(&self) -> Vec<Notice> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much was told so far.
    pub(crate) fn now(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until alerts with exactly these labels were told since a moment, to whom their severity says, with what a person
    /// needs.
    pub(crate) async fn fire(&self, since: usize, alerts: &[Labels]) {
        for alert in alerts {
            let Notice { receiver, annotations, .. } = self.told(since, "firing", alert).await;
            let expected = match alert["severity"].as_str() {
                "critical" => "wake",
                "warning" => "morning",
                _ => "told",
            };
            assert_eq!(receiver, expected, "{alert:?}");
            let anchor = format!("#{}", alert["alertname"].to_lowercase());
            assert!(annotations["runbook_url"].ends_with(&anchor), "{alert:?}: {annotations:?}");
            for text in ["summary", "description"] {
                let text = &annotations[text];
                let bad = ["<no value>", "{{", "%!"].iter().any(|mark| text.contains(mark));
                assert!(!text.trim().is_empty() && !bad, "{alert:?}: {text}");
            }
        }
    }

    /// Waits until alerts were told to be over.
    pub(crate) async fn end(&self, since: usize, alerts: &[Labels]) {
        for alert in alerts {
            self.told(since, "resolved", alert).await;
        }
    }

    async fn told(&self, since: usize, status: &str, alert: &Labels) -> Notice {
        let what = format!("{status}: {alert:?}");
        let fits = |notice: &Notice| notice.status == status && notice.labels == *alert;
        let found = within(LIMIT, &what, || {
            std::future::ready(self.heard().into_iter().skip(since).find(fits))
        })
        .await;
        found.unwrap_or_else(|error| {
            panic!("{error}; since then, this was told: {:#?}", &self.heard()[since..])
        })
    }

    /// Waits until an alert fires that is told to nobody, because another one says more.
    pub(crate) async fn hold_back(&self, alert: &Labels) {
        let held_back = || async {
            let alerts = self.alerts().await.ok()?;
            alerts.iter().find(|found| labels(&found["labels"]) == *alert)?["status"]["inhibitedBy"]
                .as_array()
                .filter(|by| !by.is_empty())
                .map(|_| ())
        };
        within(LIMIT, &format!("inhibited: {alert:?}"), held_back).await.unwrap();
    }

    /// The alerts that fire now, as Alertmanager sees them.
    pub(crate) async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.http.get("/api/v2/alerts").await?;
        ensure!(answer.status.is_success(), "{}", answer.text());
        Ok(answer.json().as_array().cloned().unwrap_or_default())
    }
}

/// One message, with one or more alerts.
async fn hear(
    State(heard): State<Heard>,
    UrlPath(receiver): UrlPath<String>,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> StatusCode {
    if headers.get(AUTHORIZATION).is_none_or(|value| *value != format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED;
    }
    let notices = message["alerts"].as_array().into_iter().flatten().map(|alert| Notice {
        receiver: receiver.clone(),
        status: alert["status"].as_str().unwrap_or_default().to_owned(),
        labels: labels(&alert["labels"]),
        annotations: labels(&alert["annotations"]),
    });
    heard.lock().unwrap_or_else(PoisonError::into_inner).extend(notices);
    StatusCode::OK
}

fn labels(object: &Value) -> Labels {
    let pairs = object.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

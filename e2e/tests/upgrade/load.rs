//! Visitors and callers who post without a pause, and remember what was accepted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{
    eventually,
    http::{Answer, Client},
    system::CI_TOKEN,
};
use tokio::{sync::RwLock, task::JoinSet};

/// The number of those who post at once, by what they post.
const VISITORS: usize = 24;
const VISITORS_WITH_KEYS: usize = 2;
const CALLERS: usize = 2;
const SENDERS_OF_EVENTS: usize = 2;

/// The pause of everybody except visitors without keys.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Contact,
    ContactWithKey,
    BuildWithKey,
    /// A CloudEvent, whose source and id are its key.
    Event,
}

/// A request, each with a name of its own.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: Kind,
    /// The message of the contact, the key, or the id of the event.
    pub(crate) name: String,
}

impl Request {
    pub(crate) fn is_contact(&self) -> bool {
        matches!(self.kind, Kind::Contact | Kind::ContactWithKey)
    }

    /// Returns whether the same request again is the same contact or build.
    pub(crate) fn has_key(&self) -> bool {
        self.kind != Kind::Contact
    }

    pub(crate) async fn send(&self, gateway: &Client) -> anyhow::Result<Answer> {
        let json = "application/json";
        let (client, path, content_type, body) = match self.kind {
            Kind::Contact => (gateway.clone(), "/api/contact", json, self.contact()),
            Kind::ContactWithKey => (self.with_key(gateway), "/api/contact", json, self.contact()),
            Kind::BuildWithKey => {
                (self.with_key(&gateway.bearer(CI_TOKEN)), "/api/builds", json, build())
            }
            Kind::Event => {
                let content_type = "application/cloudevents+json";
                (gateway.bearer(CI_TOKEN), "/api/builds", content_type, self.event())
            }
        };
        client.post(path, content_type, body.to_string()).await
    }

    fn with_key(&self, client: &Client) -> Client {
        client.with("idempotency-key", &self.name)
    }

    fn contact(&self) -> Value {
        json!({"name": "Visitor", "email": "v@example.org", "message": self.name})
    }

    fn event(&self) -> Value {
        json!({
            "specversion": "1.0", "id": self.name, "source": "/ci",
            "type": "portfolio.build.finished.v1", "data": build(),
        })
    }
}

fn build() -> Value {
    json!({
        "job": "portfolio", "number": 42, "status": "success",
        "image": "mastereflex123/portfolio:v42-abc1234",
    })
}

/// A request that was answered with 202.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) request: Request,
    pub(crate) id: String,
}

/// The load, whose requests all have to be accepted.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    entrance: Arc<RwLock<Client>>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(gateway: &Client) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            entrance: Arc::new(RwLock::new(gateway.clone())),
            accepted: Arc::default(),
            tasks: JoinSet::new(),
        };
        for (kind, number) in [
            (Kind::Contact, VISITORS),
            (Kind::ContactWithKey, VISITORS_WITH_KEYS),
            (Kind::BuildWithKey, CALLERS),
            (Kind::Event, SENDERS_OF_EVENTS),
        ] {
            for sender in 0..number {
                let (stop, entrance) = (load.stop.clone(), load.entrance.clone());
                let accepted = load.accepted.clone();
                load.tasks.spawn(async move {
                    for count in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let request = Request { kind, name: format!("{kind:?}-{sender}-{count}") };
                        let gateway = entrance.read().await;
                        let answer = request.send(&gateway).await.unwrap();
                        drop(gateway);
                        assert_eq!(answer.status, 202, "{request:?}: {}", answer.text());
                        let id = answer.json()["id"].as_str().unwrap().to_owned();
                        accepted.lock().unwrap().push(Accepted { request, id });
                        if kind != Kind::Contact {
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                });
            }
        }
        load
    }

    /// Sends what comes from now on to another gateway, and waits for the answers of this one.
    pub(crate) async fn enter_by(&self, gateway: &Client) {
        *self.entrance.write().await = gateway.clone();
    }

    /// Waits until so many more were accepted.
    pub(crate) async fn more(&self, count: usize) {
        let before = self.accepted().len();
        eventually("more to be accepted", || {
            std::future::ready((self.accepted().len() >= before + count).then_some(()))
        })
        .await;
    }

    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        self.accepted.lock().unwrap().clone()
    }

    pub(crate) async fn stop(mut self) -> Vec<Accepted> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(result) = self.tasks.join_next().await {
            result.unwrap();
        }
        self.accepted()
    }
}

//! A user of the bus, and what the server refuses to it.

use std::{future::ready, time::Duration};

use async_nats::{Client, ConnectError, ConnectOptions, Event};
use serde_json::Value;
use testbed::{Access, Nats};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// Nobody may publish below it. The server answers in order, so what it says to this comes after what it says to all before.
const FENCE: &str = "fence";

pub(crate) struct User {
    name: &'static str,
    pub(crate) client: Client,
    refusals: UnboundedReceiver<String>,
    fences: u32,
}

impl User {
    pub(crate) async fn sign_in(nats: &Nats, access: &Access, name: &'static str) -> Self {
        let (sender, refusals) = unbounded_channel();
        let options = options(access, name, &Access::password(name)).event_callback(move |event| {
            if let Event::ServerError(error) = event {
                // Fails only at the end of the test.
                let _ = sender.send(error.to_string());
            }
            ready(())
        });
        let client = options.connect(nats.url()).await.unwrap();
        Self { name, client, refusals, fences: 0 }
    }

    /// Whether it may publish on a subject. What it publishes is empty.
    pub(crate) async fn may_say(&mut self, subject: &str) -> bool {
        self.client.publish(subject.to_owned(), "".into()).await.unwrap();
        !self.was_refused(subject).await
    }

    /// Whether it may listen on a subject.
    pub(crate) async fn may_hear(&mut self, subject: &str) -> bool {
        let listening = self.client.subscribe(subject.to_owned()).await.unwrap();
        let refused = self.was_refused(subject).await;
        drop(listening);
        !refused
    }

    /// The answer of JetStream's API.
    pub(crate) async fn ask(&self, what: &str, body: &Value) -> Value {
        let subject = format!("{}.{what}", Access::api(self.name));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.client.request(subject, body.into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// How many messages a stream has ever taken.
    pub(crate) async fn taken(&self, stream: &str) -> u64 {
        self.ask(&format!("STREAM.INFO.{stream}"), &Value::Null).await["state"]["last_seq"]
            .as_u64()
            .unwrap()
    }

    async fn was_refused(&mut self, subject: &str) -> bool {
        self.fences += 1;
        let fence = format!("{FENCE}.{}", self.fences);
        self.client.publish(fence.clone(), "".into()).await.unwrap();
        let mut refused = false;
        loop {
            let refusal =
                timeout(Duration::from_secs(10), self.refusals.recv()).await.unwrap().unwrap();
            assert!(refusal.to_lowercase().contains("permissions violation"), "{refusal}");
            if refusal.contains(&format!("\"{fence}\"")) {
                return refused;
            }
            assert!(refusal.contains(&format!("\"{subject}\"")), "{subject}: {refusal}");
            refused = true;
        }
    }
}

/// What becomes of an attempt to sign in.
pub(crate) async fn try_to_sign_in(
    nats: &Nats,
    access: &Access,
    user: &str,
    password: &str,
) -> Result<Client, ConnectError> {
    options(access, user, password).connect(nats.url()).await
}

fn options(access: &Access, user: &str, password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        .add_root_certificates(access.ca_file())
        .require_tls(true)
        .max_reconnects(1)
}

//! A bus and a gateway for one test.

use async_nats::jetstream;
use serde_json::{Value, json};
use testbed::{Gateway, Nats, Scratch};

pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) nats: Nats,
    pub(crate) gateway: Gateway,
}

impl World {
    pub(crate) async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        Self { scratch, nats, gateway }
    }

    /// What the bus holds, seen by a client that is not ours.
    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.nats.url()).await.unwrap())
    }

    /// The number of contacts in `CONTACTS`.
    pub(crate) async fn contacts(&self) -> usize {
        let stream = self.jetstream().await.get_stream("CONTACTS").await.unwrap();
        let state = &stream.cached_info().state;
        let mut contacts = 0;
        for sequence in 1..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let group: Value = serde_json::from_slice(&message.payload).unwrap();
            contacts += group["contacts"].as_array().unwrap().len();
        }
        contacts
    }

    /// How many messages a stream holds.
    pub(crate) async fn messages(&self, stream: &str) -> u64 {
        self.jetstream().await.get_stream(stream).await.unwrap().cached_info().state.messages
    }
}

pub(crate) fn contact() -> Value {
    json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"})
}

pub(crate) fn build() -> Value {
    json!({"job": "portfolio", "number": 42, "status": "success", "image": "a/b:v42-abc1234"})
}

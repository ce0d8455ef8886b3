//! The contact side as a whole, which sends its spans.

use bson::doc;
use serde_json::json;
use testbed::{Gateway, Mongo, Nats, Scratch, Service, eventually, system};

use crate::world::{Caller, shared, traced};

/// Everything that contacts pass through.
pub(crate) struct Contacts {
    pub(crate) gateway: Gateway,
    pub(crate) worker: Service,
    pub(crate) nats: Nats,
    mongo: Mongo,
    _scratch: Scratch,
}

impl Contacts {
    pub(crate) async fn start() -> Self {
        let jaeger = &shared().await.jaeger;
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let mongo = Mongo::start(&scratch.folder("mongo").unwrap()).await.unwrap();
        let spec = traced(
            Gateway::spec(&scratch.folder("gateway").unwrap(), &nats.url()).unwrap(),
            jaeger,
        );
        Service::run(&spec, "provision").await.unwrap();
        let mut gateway = Gateway::start_unready(spec).unwrap();
        gateway.ready().await.unwrap();
        let spec = system::worker_spec(
            &scratch.folder("worker").unwrap(),
            &nats.url(),
            &mongo,
            "portfolio",
        )
        .unwrap();
        let worker = system::start(traced(spec, jaeger)).await.unwrap();
        Self { gateway, worker, nats, mongo, _scratch: scratch }
    }

    pub(crate) async fn post(&self, caller: &Caller) {
        let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
        let client = self.gateway.http.with("traceparent", &caller.traceparent());
        let answer = client.post_json("/api/contact", &contact).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Lets MongoDB itself refuse the contacts about a subject.
    pub(crate) async fn refuse(&self, subject: &str) {
        let contacts = self.mongo.collection("portfolio", "contacts").await.unwrap();
        let command = doc! {"collMod": "contacts", "validator": {"subject": {"$ne": subject}}};
        contacts.client().database("portfolio").run_command(command).await.unwrap();
    }

    pub(crate) async fn stored(&self, count: u64) {
        let contacts = self.mongo.collection("portfolio", "contacts").await.unwrap();
        eventually("stored contacts", || async {
            (contacts.count_documents(doc! {}).await.ok()? == count).then_some(())
        })
        .await;
    }
}

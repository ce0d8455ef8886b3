//! A contact ends in MongoDB.

use bson::{Document, doc};
use mongodb::Collection;
use serde_json::json;
use testbed::{Gateway, Mongo, Nats, Scratch, Service, eventually, system};

use crate::world::logged;

/// Everything that contacts pass through.
struct Contacts {
    scratch: Scratch,
    nats: Nats,
    mongo: Mongo,
    gateway: Gateway,
    worker: Service,
}

impl Contacts {
    async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let mongo = Mongo::start(&scratch.folder("mongo").unwrap()).await.unwrap();
        let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        let spec = system::worker_spec(&scratch.folder("worker").unwrap(), &nats, &mongo, "portfolio").unwrap();
        let worker = system::start(spec).await.unwrap();
        Self { scratch, nats, mongo, gateway, worker }
    }

    async fn collection(&self) -> Collection<Document> {
        self.mongo.collection("portfolio", "contacts").await.unwrap()
    }
}

#[tokio::test]
async fn a_contact_ends_in_mongodb_with_its_trace() {
    let world = Contacts::start().await;
    let trace = "1af7651916cd43dd8448eb211c80319c";
    let client = world.gateway.http.with("traceparent", &format!("00-{trace}-b7ad6b7169203331-00"));
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let answer = client.post_json("/api/contact", &contact).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = bson::Uuid::parse_str(answer.json()["id"].as_str().unwrap()).unwrap();

    let contacts = world.collection().await;
    let found = eventually("the document", || async { contacts.find_one(doc! {"_id": id}).await.ok()? }).await;
    assert_eq!(found.get_str("email").unwrap(), "ada@example.org");
    assert_eq!(found.get("subject"), Some(&bson::Bson::Null));
    let received = found.get_datetime("received_at").unwrap().try_to_rfc3339_string().unwrap();
    assert_eq!(received, answer.json()["received_at"].as_str().unwrap());
    assert!(found.get_datetime("stored_at").is_ok());

    let line = logged(&world.worker.server, "contact stored", |line| line["message"] == "contact stored").await;
    assert_eq!(line["trace_id"], trace);
    assert_eq!(line["contact.id"], answer.json()["id"]);
    let _ = (&world.scratch, &world.nats);
}

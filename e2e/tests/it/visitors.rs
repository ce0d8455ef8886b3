//! All services that contacts pass through, and visitors who record what they were promised.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Document, doc};
use mongodb::Collection;
use serde_json::json;
use testbed::{Gateway, Mongo, Nats, Scratch, Service, eventually, system, within};
use tokio::task::JoinSet;

/// Everything that contacts pass through.
pub(crate) struct Contacts {
    /// The servers of the bus.
    pub(crate) nats: Vec<Nats>,
    pub(crate) mongo: Mongo,
    pub(crate) gateway: Gateway,
    pub(crate) worker: Service,
    /// It goes last: a test that fails shows the logs that are in it.
    _scratch: Scratch,
}

impl Contacts {
    pub(crate) async fn start() -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        Self::on(scratch, vec![nats]).await
    }

    /// Starts everything on a cluster, with as many copies of each message as there are servers.
    pub(crate) async fn start_on_cluster(servers: usize) -> Self {
        let scratch = Scratch::new().unwrap();
        let nats = Nats::start_cluster(&scratch.folder("nats").unwrap(), servers).await.unwrap();
        Self::on(scratch, nats).await
    }

    /// With a store of its own, which is in the folder.
    pub(crate) async fn start_with(scratch: Scratch, mongo: Mongo) -> Self {
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        Self::on_both(scratch, vec![nats], mongo).await
    }

    async fn on(scratch: Scratch, nats: Vec<Nats>) -> Self {
        let mongo = Mongo::start(&scratch.folder("mongo").unwrap()).await.unwrap();
        Self::on_both(scratch, nats, mongo).await
    }

    async fn on_both(scratch: Scratch, nats: Vec<Nats>, mongo: Mongo) -> Self {
        let (urls, replicas) = (Nats::urls(&nats), nats.len().to_string());
        let spec = Gateway::spec(&scratch.folder("gateway").unwrap(), &urls)
            .unwrap()
            .env("STREAM_REPLICAS", &replicas);
        Service::run(&spec, "provision").await.unwrap();
        let mut gateway = Gateway::start_unready(spec).unwrap();
        gateway.ready().await.unwrap();
        let spec =
            system::worker_spec(&scratch.folder("worker").unwrap(), &urls, &mongo, "portfolio")
                .unwrap();
        let worker = system::start(spec.env("STREAM_REPLICAS", &replicas)).await.unwrap();
        Self { nats, mongo, gateway, worker, _scratch: scratch }
    }

    pub(crate) async fn collection(&self) -> Collection<Document> {
        self.mongo.collection("portfolio", "contacts").await.unwrap()
    }

    /// Waits until all these contacts are stored.
    pub(crate) async fn stored(&self, ids: &[&str]) {
        stored(&self.collection().await, ids).await;
    }

    /// Waits until all promised contacts are stored, and asserts that each is stored once.
    pub(crate) async fn stored_once(&self, promised: &[Promise]) {
        stored_once(&self.collection().await, &self.nats[0].url(), promised).await;
    }

    /// Returns the number of messages in a stream.
    pub(crate) async fn messages(&self, stream: &str) -> Option<u64> {
        messages(&self.nats[0].url(), stream).await
    }
}

async fn stored(contacts: &Collection<Document>, ids: &[&str]) {
    let uuids: Vec<_> = ids.iter().map(|id| bson::Uuid::parse_str(id).unwrap()).collect();
    let filter = doc! {"_id": {"$in": uuids}};
    let what = format!("{} contacts in MongoDB", ids.len());
    within(Duration::from_mins(1), &what, || async {
        let found = contacts.count_documents(filter.clone()).await.ok()?;
        (found == ids.len() as u64).then_some(())
    })
    .await
    .unwrap();
}

/// Waits until all promised contacts are stored and have left the bus, and asserts that each is
/// stored once.
pub(crate) async fn stored_once(contacts: &Collection<Document>, bus: &str, promised: &[Promise]) {
    stored(contacts, &promised.iter().map(|promise| promise.id.as_str()).collect::<Vec<_>>()).await;
    eventually("an empty queue", || async {
        (messages(bus, "CONTACTS").await? == 0).then_some(())
    })
    .await;
    let mut by_message = HashMap::new();
    let mut documents = contacts.find(doc! {}).await.unwrap();
    while documents.advance().await.unwrap() {
        let document = documents.deserialize_current().unwrap();
        let id = document
            .get("_id")
            .and_then(|id| bson::deserialize_from_bson::<bson::Uuid>(id.clone()).ok())
            .unwrap();
        let message = document.get_str("message").unwrap().to_owned();
        assert!(
            by_message.insert(message.clone(), id.to_string()).is_none(),
            "stored twice: {message}"
        );
    }
    for promise in promised {
        assert_eq!(by_message.get(&promise.message), Some(&promise.id), "{promise:?}");
    }
    assert_eq!(messages(bus, "DEAD_LETTERS").await, Some(0));
}

/// Returns the number of messages in a stream of a bus.
pub(crate) async fn messages(bus: &str, stream: &str) -> Option<u64> {
    let client = async_nats::connect(bus).await.ok()?;
    Some(
        async_nats::jetstream::new(client)
            .get_stream(stream)
            .await
            .ok()?
            .cached_info()
            .state
            .messages,
    )
}

/// A contact that was answered with 202.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) id: String,
    pub(crate) message: String,
    /// The time until the answer.
    pub(crate) waited: Duration,
}

/// A contact that was answered with 503.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    /// The statement of the answer.
    pub(crate) detail: String,
    /// The time until the answer.
    pub(crate) waited: Duration,
}

/// Visitors who post without a pause, and record what they were promised.
pub(crate) struct Visitors {
    stop: Arc<AtomicBool>,
    promised: Arc<Mutex<Vec<Promise>>>,
    refused: Arc<Mutex<Vec<Refusal>>>,
    tasks: JoinSet<()>,
}

impl Visitors {
    pub(crate) fn start(gateway: &Gateway) -> Self {
        Self::start_many(gateway, 8)
    }

    pub(crate) fn start_many(gateway: &Gateway, visitors: usize) -> Self {
        let (stop, promised, refused) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<Promise>>>::default(),
            Arc::<Mutex<Vec<Refusal>>>::default(),
        );
        let mut tasks = JoinSet::new();
        for number in 0..visitors {
            let (http, stop) = (gateway.http.clone(), stop.clone());
            let (promised, refused) = (promised.clone(), refused.clone());
            tasks.spawn(async move {
                for count in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Each contact is posted once, whatever the answer, so that a second one in the
                    // store is noticed.
                    let message = format!("Message {count} of visitor {number}");
                    let contact =
                        json!({"name": "Visitor", "email": "v@example.org", "message": message});
                    let asked = Instant::now();
                    let answer = http.post_json("/api/contact", &contact).await;
                    let waited = asked.elapsed();
                    match answer {
                        Ok(answer) if answer.status == 202 => {
                            let id = answer.json()["id"].as_str().unwrap().to_owned();
                            promised.lock().unwrap().push(Promise { id, message, waited });
                        }
                        Ok(answer) => {
                            assert_eq!(answer.status, 503, "{}", answer.text());
                            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                            refused.lock().unwrap().push(Refusal { message, detail, waited });
                        }
                        // The gateway is gone for a moment.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
        Self { stop, promised, refused, tasks }
    }

    /// Waits until this many more contacts are promised, which shows that the system works again.
    pub(crate) async fn more(&self, count: usize) {
        let before = self.promised.lock().unwrap().len();
        eventually("more promises", || {
            std::future::ready(
                (self.promised.lock().unwrap().len() >= before + count).then_some(()),
            )
        })
        .await;
    }

    pub(crate) async fn stop(self) -> Vec<Promise> {
        self.stop_and_tell().await.0
    }

    /// The same, with what was refused.
    pub(crate) async fn stop_and_tell(mut self) -> (Vec<Promise>, Vec<Refusal>) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(result) = self.tasks.join_next().await {
            result.unwrap();
        }
        let (promised, refused) = (self.promised.lock().unwrap(), self.refused.lock().unwrap());
        (promised.clone(), refused.clone())
    }
}

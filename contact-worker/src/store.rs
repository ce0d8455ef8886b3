//! `MongoDB`: the only module that uses the driver.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::anyhow;
use bson::{Document, Uuid, doc};
use bus::Failure;
use futures::TryStreamExt;
use mongodb::{
    Client, Collection, IndexModel,
    error::{Error, ErrorKind, IndexedWriteError, InsertManyError},
    options::{ClientOptions, WriteConcern},
};
use secrecy::{ExposeSecret, SecretString};
use service::spans;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinHandle,
    time::timeout,
};
use tracing::{Instrument, Span, field};

use crate::{document::StoredContact, metrics::Inserted};

/// The longest time to wait for a write. The write continues by itself after that, and a second
/// write with the same ids does no harm.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time after which an insert that nobody waits for is dropped with its connection: the server
/// is frozen, or a firewall forgot the connection.
const DROP_AFTER: Duration = Duration::from_mins(1);

/// The largest number of inserts, including those that nobody waits for any longer: the batches in
/// process, twice. A server that slows down its writes may need longer for an insert than
/// [`WRITE_TIMEOUT`], because [`MAJORITY_TIMEOUT`] begins after the write itself.
const INSERTS: usize = 6;

/// The longest time that the driver searches for a server.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The time that the server waits for most members to have a write before it reports a failure.
/// Shorter than [`WRITE_TIMEOUT`], so that a write without a majority ends by itself.
const MAJORITY_TIMEOUT: Duration = Duration::from_secs(8);

/// The code of a duplicate key, of any unique index.
const DUPLICATE_KEY: i32 = 11_000;

/// Codes with which a document will never be stored: `DocumentValidationFailure`,
/// `BSONObjectTooLarge`, `BadValue`.
const HOPELESS: [i32; 3] = [121, 10_334, 2];

/// The store of contacts.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    client: Client,
    contacts: Collection<StoredContact>,
    /// The check that is running, if there is one, so that a frozen store does not get a second
    /// one.
    asking: Arc<Mutex<Option<Asking>>>,
    /// A permit for each insert, until the insert itself ends.
    inserts: Arc<Semaphore>,
}

type Asking = JoinHandle<Result<Document, Error>>;

/// The outcome of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The document is new.
    New,
    /// The same contact was stored before.
    Already,
}

/// The server's answer for one document.
#[derive(Debug)]
enum Answer {
    Stored,
    /// There is a document with the same `_id`.
    SameId,
    Failed(Failure),
}

impl Store {
    /// Prepares the connection. The driver connects by itself and retries for ever.
    ///
    /// # Errors
    /// The connection string is wrong, or names an unknown host.
    pub(crate) async fn open(uri: &SecretString, database: &str) -> anyhow::Result<Self> {
        let mut options = ClientOptions::parse(uri.expose_secret())
            .await
            .map_err(|error| anyhow!(outline(&error)))?;
        options.app_name.get_or_insert_with(|| "contact-worker".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
        // A document counts as stored once it is on disk on most members, whatever the connection
        // string requests.
        options.write_concern = Some(
            WriteConcern::builder()
                .w(mongodb::options::Acknowledgment::Majority)
                .journal(true)
                .w_timeout(MAJORITY_TIMEOUT)
                .build(),
        );
        options.retry_writes = Some(true);
        let client = Client::with_options(options).map_err(|error| anyhow!(outline(&error)))?;
        let contacts = client.database(database).collection("contacts");
        Ok(Self {
            client,
            contacts,
            asking: Arc::default(),
            inserts: Arc::new(Semaphore::new(INSERTS)),
        })
    }

    /// Checks that the store answers and can acknowledge writes by a majority.
    ///
    /// # Errors
    /// The reason, without secrets.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let Ok(answer) = timeout(SELECTION_TIMEOUT * 2, self.ask()).await else {
            return Err("no answer".to_owned());
        };
        let answer = answer?;
        let is_router = answer.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        if answer.contains_key("setName") || is_router {
            return Ok(());
        }
        Err("the server is no member of a replica set, which contacts need".to_owned())
    }

    /// Returns whether so many inserts can start at once, beside those that nobody waits for.
    pub(crate) fn has_room_for(&self, inserts: usize) -> bool {
        self.inserts.available_permits() >= inserts
    }

    /// Asks the server for its role. If the last check got no answer in time, waits for that one.
    async fn ask(&self) -> Result<Document, String> {
        let mut asking = self.asking.lock().await;
        let question = asking.get_or_insert_with(|| {
            let admin = self.client.database("admin");
            tokio::spawn(async move { admin.run_command(doc! {"hello": 1}).await })
        });
        let answer = question.await;
        *asking = None;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(outline(&error)),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Creates the indexes that an owner's queries need: the newest contacts, and the contacts of
    /// one address. Existing indexes stay as they are.
    ///
    /// # Errors
    /// The reason, without secrets.
    pub(crate) async fn make_indexes(&self) -> anyhow::Result<Vec<String>> {
        let keys = [doc! {"received_at": -1}, doc! {"email": 1, "received_at": -1}];
        let indexes = keys.map(|keys| IndexModel::builder().keys(keys).build());
        let contacts = self.contacts.clone();
        let making = tokio::spawn(async move { contacts.create_indexes(indexes).await }).await?;
        let made = making.map_err(|error| anyhow!("MongoDB: {}", outline(&error)))?;
        Ok(made.index_names.iter().map(|name| format!("index {name}: there")).collect())
    }

    /// Stores documents independently: one that cannot be stored does not stop the others. Returns
    /// the outcome of each document and of the whole insert.
    pub(crate) async fn insert(
        &self,
        documents: &Arc<[StoredContact]>,
    ) -> (Vec<Result<Stored, Failure>>, Inserted) {
        let span = self.span(documents.len());
        let (answers, how) = self.send(documents).instrument(span.clone()).await;
        let same_ids = documents
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Answer::SameId))
            .map(|(document, _)| document.id);
        let known = self.find(same_ids.collect()).instrument(span.clone()).await;
        let results: Vec<_> = documents
            .iter()
            .zip(answers)
            .map(|(document, answer)| match answer {
                Answer::Stored => Ok(Stored::New),
                Answer::SameId => compare(document, &known),
                Answer::Failed(failure) => Err(failure),
            })
            .collect();
        if let Some(failure) = results.iter().find_map(|result| result.as_ref().err()) {
            let kind = if how == Inserted::Ok { "refused" } else { how.as_str() };
            spans::failed(&span, kind, failure.to_string());
        }
        (results, how)
    }

    async fn send(&self, documents: &Arc<[StoredContact]>) -> (Vec<Answer>, Inserted) {
        let count = documents.len();
        // The driver's futures must not be dropped half-way, so the time-out applies to the task's
        // handle.
        let (contacts, documents) = (self.contacts.clone(), documents.clone());
        let permit = self.inserts.clone().acquire_owned();
        let Ok(Ok(permit)) = timeout(WRITE_TIMEOUT, permit).await else {
            return (
                all_unavailable(count, "former inserts have no answer yet"),
                Inserted::Timeout,
            );
        };
        let insert = async move {
            let _permit = permit;
            let insert = contacts.insert_many(documents.iter()).ordered(false);
            timeout(DROP_AFTER, insert.into_future()).await
        };
        let insert = tokio::spawn(insert.in_current_span());
        let Ok(Ok(Ok(result))) = timeout(WRITE_TIMEOUT, insert).await else {
            let why = format!("no answer within {}", humantime::format_duration(WRITE_TIMEOUT));
            return (all_unavailable(count, &why), Inserted::Timeout);
        };
        let answers = answers(count, result.map(|_| ()));
        let unavailable =
            |answer: &Answer| matches!(answer, Answer::Failed(Failure::Unavailable(_)));
        let how = if answers.iter().any(unavailable) { Inserted::Error } else { Inserted::Ok };
        (answers, how)
    }

    /// Finds the documents with these ids and returns them by id.
    async fn find(&self, ids: Vec<Uuid>) -> Result<HashMap<Uuid, StoredContact>, String> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let contacts = self.contacts.clone();
        let find = async move {
            let found = contacts.find(doc! {"_id": {"$in": ids}}).await?;
            let pairs = found.map_ok(|contact| (contact.id, contact));
            pairs.try_collect::<HashMap<_, _>>().await
        };
        let find = tokio::spawn(find.in_current_span());
        match timeout(WRITE_TIMEOUT, find).await {
            Ok(Ok(Ok(found))) => Ok(found),
            Ok(Ok(Err(error))) => Err(outline(&error)),
            Ok(Err(_)) | Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Returns the span of an insert (OpenTelemetry: database spans).
    fn span(&self, documents: usize) -> Span {
        let namespace = self.contacts.namespace();
        let span = tracing::info_span!(
            "insert",
            otel.name = format_args!("insert {}", namespace.coll),
            otel.kind = "client",
            db.system.name = "mongodb",
            db.operation.name = "insert",
            db.operation.batch.size = field::Empty,
            db.namespace = namespace.db,
            db.collection.name = namespace.coll,
        );
        // OpenTelemetry does not count an operation on one document as a batch.
        if documents > 1 {
            span.record("db.operation.batch.size", documents);
        }
        span
    }
}

/// Decides whether a contact is the same as the one that is stored under its id.
fn compare(
    contact: &StoredContact,
    known: &Result<HashMap<Uuid, StoredContact>, String>,
) -> Result<Stored, Failure> {
    match known {
        Err(why) => Err(Failure::Unavailable(anyhow!("MongoDB: {why}"))),
        Ok(known) => match known.get(&contact.id) {
            Some(stored) if stored.is_same_contact(contact) => Ok(Stored::Already),
            Some(_) => {
                Err(Failure::Permanent(anyhow!("MongoDB holds another contact under the same id")))
            }
            None => Err(Failure::Blocked(anyhow!("the document was removed meanwhile"))),
        },
    }
}

/// Returns the answer for each document of an insert.
fn answers(count: usize, result: Result<(), Error>) -> Vec<Answer> {
    let Err(error) = result else { return (0..count).map(|_| Answer::Stored).collect() };
    // Without a write concern error, each document without an error of its own is stored on a
    // majority.
    if let ErrorKind::InsertMany(InsertManyError {
        write_errors: Some(errors),
        write_concern_error: None,
        ..
    }) = &*error.kind
    {
        let by_index: HashMap<_, _> = errors.iter().map(|error| (error.index, error)).collect();
        return (0..count)
            .map(|index| by_index.get(&index).map_or(Answer::Stored, |error| answer(error)))
            .collect();
    }
    all_unavailable(count, &outline(&error))
}

fn all_unavailable(count: usize, why: &str) -> Vec<Answer> {
    let failure = || Failure::Unavailable(anyhow!("MongoDB: {why}"));
    (0..count).map(|_| Answer::Failed(failure())).collect()
}

fn answer(error: &IndexedWriteError) -> Answer {
    // The error's message is left out, since it may quote the document.
    let name = error.code_name.as_deref().unwrap_or_default();
    let words =
        |why: &str| anyhow!("MongoDB refuses the document: {why}code {} {name}", error.code);
    match error.code {
        DUPLICATE_KEY if error.message.contains(" index: _id_ ") => Answer::SameId,
        DUPLICATE_KEY => {
            Answer::Failed(Failure::Permanent(words("a unique index has its value already, ")))
        }
        code if HOPELESS.contains(&code) => Answer::Failed(Failure::Permanent(words(""))),
        // A quota, a lock or a move of data: waiting costs nothing, and an alert names the cause.
        _ => Answer::Failed(Failure::Blocked(words(""))),
    }
}

/// Describes an error and leaves out anything from a document or a connection string.
fn outline(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => {
            "no server that takes writes can be reached".to_owned()
        }
        ErrorKind::Io(error) => format!("the connection broke ({:?})", error.kind()),
        ErrorKind::Authentication { .. } => "the user or the password is wrong".to_owned(),
        ErrorKind::Command(command) => format!("code {} {}", command.code, command.code_name),
        ErrorKind::InsertMany(_) => "the write concern was not met".to_owned(),
        ErrorKind::InvalidArgument { .. } => "the connection string is wrong".to_owned(),
        ErrorKind::DnsResolve { .. } => "the host's name cannot be resolved".to_owned(),
        ErrorKind::ConnectionPoolCleared { .. } => "the connection broke".to_owned(),
        _ => "the operation failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_error(code: i32) -> IndexedWriteError {
        bson::deserialize_from_document(doc! {"index": 0_i64, "code": code, "errmsg": "hunter2"})
            .unwrap()
    }

    #[test]
    fn each_document_has_its_own_answer() {
        let failed = |code| match answer(&write_error(code)) {
            Answer::Failed(failure) => failure,
            other => panic!("{other:?}"),
        };
        assert!(matches!(failed(11_000), Failure::Permanent(_)), "another unique index");
        assert!(matches!(failed(121), Failure::Permanent(_)));
        assert!(matches!(failed(50), Failure::Blocked(_)));
        assert!(!failed(121).to_string().contains("hunter2"));
        let mut same_id = write_error(11_000);
        same_id.message =
            "E11000 duplicate key error collection: a.b index: _id_ dup key: {}".into();
        assert!(matches!(answer(&same_id), Answer::SameId));
    }

    #[test]
    fn without_an_error_all_are_stored() {
        assert!(answers(3, Ok(())).iter().all(|answer| matches!(answer, Answer::Stored)));
    }

    #[test]
    fn an_error_of_the_whole_is_no_documents_fault() {
        let answers = answers(2, Err(Error::custom("hunter2")));
        assert_eq!(answers.len(), 2);
        for answer in answers {
            assert!(matches!(answer, Answer::Failed(Failure::Unavailable(_))), "{answer:?}");
        }
    }
}

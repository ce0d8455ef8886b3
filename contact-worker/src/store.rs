//! `MongoDB`: the only place that speaks to it.

use std::{collections::HashMap, time::Duration};

use anyhow::anyhow;
use bson::{Document, doc};
use bus::Failure;
use mongodb::{
    Client, Collection, IndexModel,
    error::{Error, ErrorKind, IndexedWriteError, InsertManyError},
    options::{ClientOptions, WriteConcern},
};
use secrecy::{ExposeSecret, SecretString};
use service::spans;
use tracing::{Instrument, Span, field};

use crate::metrics::Inserted;

/// How long one write may take. It goes on by itself after that, and a second one with the same ids does no harm.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server is looked for.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The code of a duplicate key: the document is there.
const DUPLICATE_KEY: i32 = 11_000;

/// Codes with which a document will never be stored: `DocumentValidationFailure`, `BSONObjectTooLarge`, `BadValue`.
const HOPELESS: [i32; 3] = [121, 10_334, 2];

/// Where contacts are stored.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    client: Client,
    contacts: Collection<Document>,
}

/// What became of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is there now.
    New,
    /// It was there already.
    Already,
}

impl Store {
    /// Prepares to connect; the driver does so by itself, again and again.
    ///
    /// # Errors
    /// The connection string is wrong, or names a host that nobody knows.
    pub(crate) async fn open(uri: &SecretString, database: &str) -> anyhow::Result<Self> {
        let mut options = ClientOptions::parse(uri.expose_secret())
            .await
            .map_err(|error| anyhow!(outline(&error)))?;
        options.app_name.get_or_insert_with(|| "contact-worker".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
        // On disk on most members before it counts as stored, whatever the connection string says.
        options.write_concern = Some(
            WriteConcern::builder()
                .w(mongodb::options::Acknowledgment::Majority)
                .journal(true)
                .build(),
        );
        options.retry_writes = Some(true);
        let client = Client::with_options(options).map_err(|error| anyhow!(outline(&error)))?;
        let contacts = client.database(database).collection("contacts");
        Ok(Self { client, contacts })
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// What is wrong, in words without secrets.
    pub(crate) async fn ping(&self) -> Result<(), String> {
        let admin = self.client.database("admin");
        let ping = tokio::spawn(async move { admin.run_command(doc! {"ping": 1}).await });
        match tokio::time::timeout(SELECTION_TIMEOUT * 2, ping).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(outline(&error)),
            Ok(Err(_)) | Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Makes the indexes that an owner's queries need: the newest contacts, and those of one address. Those that are there
    /// already stay as they are.
    ///
    /// # Errors
    /// What is wrong, in words without secrets.
    pub(crate) async fn make_indexes(&self) -> anyhow::Result<Vec<String>> {
        let keys = [doc! {"received_at": -1}, doc! {"email": 1, "received_at": -1}];
        let indexes = keys.map(|keys| IndexModel::builder().keys(keys).build());
        let contacts = self.contacts.clone();
        let making = tokio::spawn(async move { contacts.create_indexes(indexes).await }).await?;
        let made = making.map_err(|error| anyhow!("MongoDB: {}", outline(&error)))?;
        Ok(made.index_names.iter().map(|name| format!("index {name}: there")).collect())
    }

    /// Stores documents, each on its own: one that cannot be stored does not keep the others from it. Tells of each, and of
    /// all.
    pub(crate) async fn insert(
        &self,
        documents: Vec<Document>,
    ) -> (Vec<Result<Stored, Failure>>, Inserted) {
        let count = documents.len();
        let contacts = self.contacts.clone();
        // The driver's futures are not to be dropped half-way, so it is the handle that is timed out.
        let span = self.span(count);
        let insert = async move { contacts.insert_many(documents).ordered(false).await };
        let insert = tokio::spawn(insert.instrument(span.clone()));
        let (results, how) = if let Ok(Ok(result)) =
            tokio::time::timeout(WRITE_TIMEOUT, insert).await
        {
            let outcomes = outcomes(count, result.map(|_| ()));
            let unavailable =
                |outcome: &Result<_, _>| matches!(outcome, Err(Failure::Unavailable(_)));
            let how = if outcomes.iter().any(unavailable) { Inserted::Error } else { Inserted::Ok };
            (outcomes, how)
        } else {
            (
                all_unavailable(count, &format!("no answer within {WRITE_TIMEOUT:?}")),
                Inserted::Timeout,
            )
        };
        if let Some(failure) = results.iter().find_map(|result| result.as_ref().err()) {
            let kind = if how == Inserted::Ok { "refused" } else { how.as_str() };
            spans::failed(&span, kind, failure.to_string());
        }
        (results, how)
    }

    /// The span of an insert (OpenTelemetry: database spans).
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
        // By its definition, an operation on one document is no batch.
        if documents > 1 {
            span.record("db.operation.batch.size", documents);
        }
        span
    }
}

/// What an insert's result means for each document.
fn outcomes(count: usize, result: Result<(), Error>) -> Vec<Result<Stored, Failure>> {
    let Err(error) = result else { return (0..count).map(|_| Ok(Stored::New)).collect() };
    // Without a write concern error, what has no error of its own is stored as it shall be.
    if let ErrorKind::InsertMany(InsertManyError {
        write_errors: Some(errors),
        write_concern_error: None,
        ..
    }) = &*error.kind
    {
        let by_index: HashMap<_, _> = errors.iter().map(|error| (error.index, error)).collect();
        return (0..count)
            .map(|index| by_index.get(&index).map_or(Ok(Stored::New), |error| outcome(error)))
            .collect();
    }
    all_unavailable(count, &outline(&error))
}

fn all_unavailable(count: usize, why: &str) -> Vec<Result<Stored, Failure>> {
    (0..count).map(|_| Err(Failure::Unavailable(anyhow!("MongoDB: {why}")))).collect()
}

fn outcome(error: &IndexedWriteError) -> Result<Stored, Failure> {
    // Not its message, which may quote the document.
    let words = || {
        anyhow!(
            "MongoDB refuses the document: code {} {}",
            error.code,
            error.code_name.as_deref().unwrap_or("")
        )
    };
    match error.code {
        DUPLICATE_KEY => Ok(Stored::Already),
        code if HOPELESS.contains(&code) => Err(Failure::Permanent(words())),
        _ => Err(Failure::Transient(words())),
    }
}

/// An error without anything that a document or a connection string may have put into it.
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
    fn each_document_has_its_own_outcome() {
        assert!(matches!(outcome(&write_error(11_000)), Ok(Stored::Already)));
        assert!(matches!(outcome(&write_error(121)), Err(Failure::Permanent(_))));
        assert!(matches!(outcome(&write_error(50)), Err(Failure::Transient(_))));
        let words = outcome(&write_error(121)).unwrap_err().to_string();
        assert!(!words.contains("hunter2"), "{words}");
    }

    #[test]
    fn without_an_error_all_are_stored() {
        assert!(outcomes(3, Ok(())).iter().all(|outcome| matches!(outcome, Ok(Stored::New))));
    }

    #[test]
    fn an_error_of_the_whole_is_nobodys_fault() {
        let error = Error::custom("hunter2");
        let outcomes = outcomes(2, Err(error));
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Failure::Unavailable(_)))));
    }
}

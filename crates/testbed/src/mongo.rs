//! A real mongod, as a replica set of one.

use std::{path::Path, time::Duration};

use bson::{Bson, Document, doc};
use mongodb::{Client, Collection, Database, options::ClientOptions};

use crate::{Server, Spec, find_tool, free_port, process::START};

/// A mongod that keeps its port and its data when it is started again.
#[derive(Debug)]
pub struct Mongo {
    /// The process.
    pub server: Server,
    port: u16,
}

impl Mongo {
    /// Starts a server that keeps its data in the folder.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let port = free_port();
        let data = folder.join("data");
        std::fs::create_dir_all(&data)?;
        let spec = Spec::new("mongod", find_tool("mongod")?, folder)
            .args([
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--replSet",
                "rs0",
                "--nounixsocket",
            ])
            .args([
                "--wiredTigerCacheSizeGB",
                "0.25",
                "--setParameter",
                "diagnosticDataCollectionEnabled=false",
            ])
            .args(["--dbpath".as_ref(), data.as_os_str()]);
        let mut mongo = Self { server: Server::start(spec)?, port };
        mongo.ready().await?;
        Ok(mongo)
    }

    /// Returns the connection string for clients.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }

    /// Returns a collection for a test to look into. Its client belongs to the caller's tokio
    /// runtime.
    ///
    /// # Errors
    /// Fails if the client cannot be made.
    pub async fn collection(
        &self,
        database: &str,
        name: &str,
    ) -> anyhow::Result<Collection<Document>> {
        Ok(self.client().await?.database(database).collection(name))
    }

    /// Returns a document by its UUID, as text, or none if the document is missing.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub async fn find_by_id(
        &self,
        database: &str,
        name: &str,
        id: &str,
    ) -> anyhow::Result<Option<String>> {
        let filter = doc! {"_id": bson::Uuid::parse_str(id)?};
        let found = self.collection(database, name).await?.find_one(filter).await?;
        Ok(found.map(|document| document.to_string()))
    }

    /// Counts the documents of a collection one by one.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub async fn count(&self, database: &str, name: &str) -> anyhow::Result<u64> {
        Ok(self.collection(database, name).await?.count_documents(doc! {}).await?)
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let mut options =
            ClientOptions::parse(format!("mongodb://127.0.0.1:{}/", self.port)).await?;
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_secs(2));
        Ok(Client::with_options(options)?)
    }

    /// Starts the server again after it was stopped or killed.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Waits until the server is ours by its process id, and takes writes.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let admin = self.client().await?.database("admin");
        let (pid, port) = (self.server.pid(), self.port);
        self.server
            .ready(START, || async {
                let status = admin.run_command(doc! {"serverStatus": 1}).await.ok()?;
                let theirs = status.get_i64("pid").ok().and_then(|pid| u32::try_from(pid).ok());
                (theirs == pid).then_some(())?;
                let hello = admin.run_command(doc! {"hello": 1}).await.ok()?;
                let host = format!("127.0.0.1:{port}");
                let is = |name: &str, value: Bson| hello.get(name) == Some(&value);
                if is("isWritablePrimary", true.into()) && is("me", host.as_str().into()) {
                    return Some(());
                }
                configure(&admin, &host).await;
                None
            })
            .await
    }
}

/// Makes a replica set of this one server, or moves the replica set to the server's new port. The
/// server refuses that while it is in progress, which the next check of `ready` shows.
async fn configure(admin: &Database, host: &str) {
    let member = doc! {"_id": 0, "host": host};
    let found = admin.run_command(doc! {"replSetGetConfig": 1}).await;
    let version =
        found.ok().and_then(|found| found.get_document("config").ok()?.get_i32("version").ok());
    let command = match version {
        None => doc! {"replSetInitiate": {"_id": "rs0", "members": [member]}},
        Some(version) => {
            doc! {"replSetReconfig": {"_id": "rs0", "version": version + 1, "members": [member]}, "force": true}
        }
    };
    let _ = admin.run_command(command).await;
}

//! A real mongod, as a replica set of one.

use std::{path::Path, time::Duration};

use bson::{Document, doc};
use mongodb::{Client, Collection, options::ClientOptions};

use crate::{Server, Spec, find_tool, free_port};

/// A mongod. It keeps its port and its data when it is started again.
#[derive(Debug)]
pub struct Mongo {
    /// The process.
    pub server: Server,
    port: u16,
}

impl Mongo {
    /// Starts one that keeps its data in the folder.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, free_port()).await
    }

    /// Starts one on a given port: a replica set knows its members by their ports, so that data can only be used again there.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_on(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let data = folder.join("data");
        std::fs::create_dir_all(&data)?;
        let spec = Spec::new("mongod", find_tool("mongod")?, folder)
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--replSet", "rs0", "--nounixsocket"])
            .args(["--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(["--dbpath".as_ref(), data.as_os_str()]);
        let mut mongo = Self { server: Server::start(spec)?, port };
        mongo.ready().await?;
        Ok(mongo)
    }

    /// The connection string for clients.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A collection, for a test to look into. Its client belongs to the caller's tokio runtime.
    ///
    /// # Errors
    /// The client cannot be made.
    pub async fn collection(&self, database: &str, name: &str) -> anyhow::Result<Collection<Document>> {
        Ok(self.client().await?.database(database).collection(name))
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let mut options = ClientOptions::parse(format!("mongodb://127.0.0.1:{}/", self.port)).await?;
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_secs(2));
        Ok(Client::with_options(options)?)
    }

    /// Starts it again after it was stopped or killed.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Ready: it is ours by its process id, and takes writes.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let admin = self.client().await?.database("admin");
        let (pid, port) = (self.server.pid(), self.port);
        self.server
            .ready(Duration::from_secs(30), || async {
                let status = admin.run_command(doc! {"serverStatus": 1}).await.ok()?;
                let theirs = status.get_i64("pid").ok().and_then(|pid| u32::try_from(pid).ok());
                (theirs == pid).then_some(())?;
                let hello = admin.run_command(doc! {"hello": 1}).await.ok()?;
                if hello.get_str("setName").is_err() {
                    let member = doc! {"_id": 0, "host": format!("127.0.0.1:{port}")};
                    // Refused if it has been done already, which the next question tells.
                    let config = doc! {"_id": "rs0", "members": [member]};
                    let _ = admin.run_command(doc! {"replSetInitiate": config}).await;
                }
                hello.get_bool("isWritablePrimary").ok().filter(|writable| *writable).map(|_| ())
            })
            .await
    }
}

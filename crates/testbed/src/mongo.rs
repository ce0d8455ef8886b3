//! A real mongod, as a replica set of one or as one of several members.

use std::{path::Path, time::Duration};

use bson::{Bson, Document, doc};
use mongodb::{Client, Collection, Database, options::ClientOptions};

use crate::{Server, Spec, find_tool, free_port, process::START};

/// The timeout after which members elect another primary, for sets of several. A primary that
/// reaches no majority goes on as primary for as long.
const ELECTION_TIMEOUT: Duration = Duration::from_mins(10);

/// A mongod that keeps its port and its data when it is started again.
#[derive(Debug)]
pub struct Mongo {
    /// The process.
    pub server: Server,
    port: u16,
    /// The ports of all members of its replica set.
    members: Vec<u16>,
}

impl Mongo {
    /// Starts a server that keeps its data in the folder.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_adapted(folder, |spec| spec).await
    }

    /// Starts one whose arguments are changed.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_adapted(
        folder: &Path,
        change: impl FnOnce(Spec) -> Spec,
    ) -> anyhow::Result<Self> {
        let port = free_port();
        let mut mongo = Self::spawn(folder, port, vec![port], change)?;
        mongo.ready().await?;
        Ok(mongo)
    }

    /// Starts several that are one replica set. The first one is the primary, and remains it for
    /// ten minutes without the others.
    ///
    /// # Errors
    /// They do not get ready.
    pub async fn start_set(folder: &Path, members: usize) -> anyhow::Result<Vec<Self>> {
        let ports: Vec<_> = (0..members).map(|_| free_port()).collect();
        let mut set = Vec::new();
        for &port in &ports {
            let folder = folder.join(port.to_string());
            set.push(Self::spawn(&folder, port, ports.clone(), |spec| spec)?);
        }
        for mongo in &mut set {
            mongo.ready_for(|_| true).await?;
        }
        let members: Vec<_> = (0..)
            .zip(&ports)
            .map(|(id, port)| doc! {"_id": id, "host": format!("127.0.0.1:{port}")})
            .collect();
        let timeout = i64::try_from(ELECTION_TIMEOUT.as_millis())?;
        let settings = doc! {"electionTimeoutMillis": timeout};
        let config = doc! {"_id": "rs0", "members": members, "settings": settings};
        let admin = set[0].client().await?.database("admin");
        admin.run_command(doc! {"replSetInitiate": config}).await?;
        set[0].elect().await?;
        for mongo in &mut set {
            mongo.ready().await?;
        }
        Ok(set)
    }

    fn spawn(
        folder: &Path,
        port: u16,
        members: Vec<u16>,
        change: impl FnOnce(Spec) -> Spec,
    ) -> anyhow::Result<Self> {
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
        Ok(Self { server: Server::start(change(spec))?, port, members })
    }

    /// Returns the connection string for clients.
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
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

    /// Runs a command on this server itself, as an administrator, and returns the answer.
    ///
    /// # Errors
    /// The server does not answer, or refuses the command.
    pub async fn admin(&self, command: Document) -> anyhow::Result<Document> {
        Ok(self.client().await?.database("admin").run_command(command).await?)
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

    /// Makes this member of a set the primary, once the others can vote.
    async fn elect(&mut self) -> anyhow::Result<()> {
        let admin = self.client().await?.database("admin");
        let elected = async || admin.run_command(doc! {"replSetStepUp": 1}).await.ok().map(drop);
        self.server.ready(START, elected).await
    }

    /// Waits until the server takes writes, or is one of several and follows the one that does.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let is_alone = self.members.len() == 1;
        let host = format!("127.0.0.1:{}", self.port);
        self.ready_for(|hello| {
            let is = |name: &str, value: Bson| hello.get(name) == Some(&value);
            let primary = is("isWritablePrimary", true.into());
            is("me", host.as_str().into())
                && (primary || (!is_alone && is("secondary", true.into())))
        })
        .await
    }

    /// Waits until it answers, is ours by its process id, and fits.
    async fn ready_for(&mut self, fits: impl Fn(&Document) -> bool) -> anyhow::Result<()> {
        let admin = self.client().await?.database("admin");
        let (pid, port) = (self.server.pid(), self.port);
        let is_alone = self.members.len() == 1;
        let fits = &fits;
        self.server
            .ready(START, || async {
                let status = admin.run_command(doc! {"serverStatus": 1}).await.ok()?;
                let theirs = status.get_i64("pid").ok().and_then(|pid| u32::try_from(pid).ok());
                (theirs == pid).then_some(())?;
                let hello = admin.run_command(doc! {"hello": 1}).await.ok()?;
                if fits(&hello) {
                    return Some(());
                }
                if is_alone {
                    configure(&admin, &format!("127.0.0.1:{port}")).await;
                }
                None
            })
            .await
    }
}

/// Makes a replica set of this one server, or moves one to its new port. Refused while that is
/// under way already, which the next question tells.
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

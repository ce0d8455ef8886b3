//! All servers and services of `up`, in the order in which they start and, backwards, stop.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use testbed::{
    Gateway, Mongo, Nats, Service, free_port, http,
    system::{self, CI_TOKEN, OPERATOR_TOKEN},
};

use super::cluster::Kubernetes;
use crate::{run::say, tools};

/// The port of `kubectl port-forward svc/portfolio-service 5001:80`, so that one address serves both ways.
const PORT: u16 = 5001;

/// What runs.
pub(crate) struct Stack {
    folder: PathBuf,
    pub(crate) nats: Nats,
    pub(crate) mongo: Mongo,
    pub(crate) gateway: Gateway,
    pub(crate) worker: Service,
    pub(crate) builds: Option<(Kubernetes, Service)>,
}

impl Stack {
    /// Starts what contacts need.
    pub(crate) async fn start(folder: PathBuf) -> anyhow::Result<Self> {
        say("starting NATS and MongoDB …");
        let nats = Nats::start(&folder.join("nats")).await?;
        let mongo = Mongo::start(&folder.join("mongodb")).await?;
        say("starting gateway and contact-worker …");
        let worker = system::worker_spec(&new_log(&folder, "contact-worker"), &nats, &mongo, "portfolio")?;
        let worker = system::start(worker).await?;
        let spec = Gateway::spec(&new_log(&folder, "gateway"), &nats.url())?;
        Service::run(&spec, "provision").await?;
        let (port, note) = gateway_port();
        if let Some(note) = note {
            say(&note);
        }
        let address = format!("127.0.0.1:{port}");
        let mut gateway = Gateway::start_at(spec, &address)?;
        gateway.ready().await?;
        Ok(Self { folder, nats, mongo, gateway, worker, builds: None })
    }

    /// Starts what builds need: a cluster, which may have to be built first, and the deployer.
    pub(crate) async fn start_builds(
        &mut self,
        kubeconfig: Option<&Path>,
        context: Option<&str>,
    ) -> anyhow::Result<()> {
        let kubernetes = if let Some(file) = kubeconfig {
            Kubernetes::of_the_user(file, context, &self.folder)?
        } else {
            // On a thread of its own, so that Ctrl-C is heard meanwhile.
            tokio::task::spawn_blocking(tools::cluster).await??;
            say("starting the Kubernetes API …");
            Kubernetes::of_our_own(&self.folder.join("cluster")).await?
        };
        say("starting deployer …");
        let folder = new_log(&self.folder, "deployer");
        let spec = system::deployer_spec(&folder, &self.nats.url(), kubernetes.kubeconfig(), super::cluster::TARGETS)?;
        let deployer = system::start(spec).await?;
        self.builds = Some((kubernetes, deployer));
        Ok(())
    }

    /// A client for the gateway.
    pub(crate) fn http(&self) -> &http::Client {
        &self.gateway.http
    }

    pub(crate) fn say_where_contacts_go(&self) {
        let url = &self.gateway.url;
        say(&format!(
            "\n  contact page   {url}/\n  bus            {}\n  store          {}\n\n  \
             curl -s {url}/api/contact -H 'Content-Type: application/json' \\\n    \
             -d '{{\"name\": \"Ada\", \"email\": \"ada@example.org\", \"message\": \"Hello\"}}'\n",
            self.nats.url(),
            self.mongo.uri(),
        ));
    }

    pub(crate) fn say_where_builds_go(&self) {
        let Some((kubernetes, _)) = &self.builds else { return };
        let url = &self.gateway.url;
        let auth = format!("-H 'Authorization: Bearer {CI_TOKEN}'");
        say(&format!(
            "\n  Kubernetes     KUBECONFIG={}\n  board          {url}/rollouts, sign in with {OPERATOR_TOKEN}\n  token of CI    {CI_TOKEN}\n\n  \
             curl -s {url}/api/builds {auth} -H 'Content-Type: application/json' \\\n    \
             -d '{{\"job\": \"portfolio\", \"number\": 42, \"status\": \"success\", \"image\": \"mastereflex123/portfolio:v42-abc1234\"}}'\n  \
             curl -s '{url}/api/builds/ID?wait=30s' {auth}\n",
            kubernetes.kubeconfig().display(),
        ));
    }

    /// Stops everything, the services first.
    pub(crate) async fn stop(mut self) {
        let grace = Duration::from_secs(15);
        // A server that does not stop in time has been killed, and there is nobody to tell.
        let _ = self.gateway.server.stop(grace).await;
        let _ = self.worker.server.stop(grace).await;
        if let Some((kubernetes, mut deployer)) = self.builds {
            let _ = deployer.server.stop(grace).await;
            kubernetes.stop().await;
        }
        let _ = self.mongo.server.stop(grace).await;
        let _ = self.nats.server.stop(grace).await;
    }
}

/// The folder of a service, with the log of the last run gone.
fn new_log(folder: &Path, name: &str) -> PathBuf {
    let folder = folder.join(name);
    let _ = fs::remove_file(folder.join(format!("{name}.log")));
    folder
}

/// The usual port, or another one and a word about it.
fn gateway_port() -> (u16, Option<String>) {
    if TcpListener::bind(("127.0.0.1", PORT)).is_ok() {
        return (PORT, None);
    }
    let port = free_port();
    (port, Some(format!("port {PORT} is taken; the gateway serves on {port}")))
}

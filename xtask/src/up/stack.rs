//! All servers and services of `up`, in the order in which they start and, backwards, stop.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use testbed::{
    Gateway, Mongo, Nats, Service, Spec, free_port, http,
    system::{self, CI_TOKEN, OPERATOR_TOKEN},
};

use super::{
    cluster::Kubernetes,
    observe::{self, Metrics, Programs, Traces},
};
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
    traces: Option<Traces>,
    metrics: Option<Metrics>,
}

impl Stack {
    /// Starts what contacts need.
    pub(crate) async fn start(folder: PathBuf, observe: bool) -> anyhow::Result<Self> {
        say("starting NATS and MongoDB …");
        let nats = Nats::start(&folder.join("nats")).await?;
        let mongo = Mongo::start(&folder.join("mongodb")).await?;
        let traces = if observe {
            say("starting Jaeger …");
            Some(Traces::start(&folder).await?)
        } else {
            None
        };
        say("starting gateway and contact-worker …");
        let worker = system::worker_spec(
            &new_log(&folder, "contact-worker"),
            &nats.url(),
            &mongo,
            "portfolio",
        )?;
        let worker = system::start(traced(worker, traces.as_ref())).await?;
        let spec =
            traced(Gateway::spec(&new_log(&folder, "gateway"), &nats.url())?, traces.as_ref());
        Service::run(&spec, "provision").await?;
        let address = format!("127.0.0.1:{}", usual_port(PORT, "the gateway"));
        let mut gateway = Gateway::start_at(spec, &address)?;
        gateway.ready().await?;
        Ok(Self { folder, nats, mongo, gateway, worker, builds: None, traces, metrics: None })
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
        let spec = system::deployer_spec(
            &folder,
            &self.nats.url(),
            kubernetes.kubeconfig(),
            super::cluster::TARGETS,
        )?;
        let deployer = system::start(traced(spec, self.traces.as_ref())).await?;
        self.builds = Some((kubernetes, deployer));
        Ok(())
    }

    /// Starts what watches the others, and says where.
    pub(crate) async fn watch(&mut self, programs: &Programs) -> anyhow::Result<()> {
        say("starting Prometheus and Alertmanager …");
        let (_, deployer) = self.builds.as_ref().context("there is no deployer yet")?;
        let scraped = [
            (observe::GATEWAY, self.gateway.admin.base()),
            (observe::WORKER, self.worker.admin.base()),
            (observe::DEPLOYER, deployer.admin.base()),
        ];
        let metrics = Metrics::start(&self.folder, programs, &scraped).await?;
        if let Some(traces) = &self.traces {
            metrics.say_where(traces);
        }
        self.metrics = Some(metrics);
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
        if let Some(mut metrics) = self.metrics {
            let _ = metrics.prometheus.stop(grace).await;
            let _ = metrics.alertmanager.stop(grace).await;
        }
        if let Some(mut traces) = self.traces {
            let _ = traces.jaeger.server.stop(grace).await;
        }
    }
}

/// The folder of a service, with the log of the last run gone.
pub(super) fn new_log(folder: &Path, name: &str) -> PathBuf {
    let folder = folder.join(name);
    let _ = fs::remove_file(folder.join(format!("{name}.log")));
    folder
}

fn traced(spec: Spec, traces: Option<&Traces>) -> Spec {
    match traces {
        Some(traces) => traces.of(spec),
        None => spec,
    }
}

/// The port on which people expect something, or another one and a word about it.
pub(super) fn usual_port(port: u16, what: &str) -> u16 {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return port;
    }
    let other = free_port();
    say(&format!("port {port} is taken; {what} serves on {other}"));
    other
}

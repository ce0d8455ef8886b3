//! All of the services with all that they need, and a Prometheus and an Alertmanager that watch them.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use testbed::{Cluster, Gateway, Mongo, Nats, Scratch, Service, eventually, system};
use tokio::net::TcpListener;

use crate::{
    alertmanager::Alertmanager,
    monitoring,
    prometheus::{Prometheus, Settings},
    shortened::{Scale, Shortened, left_as_they_were},
    world::cluster,
};

/// How many times there are in our rules.
const TIMES: Shortened = Shortened { ranges: 28, waits: 26, ages: 5 };

/// A target, and what its line in `TARGETS_FILE` says beyond the least.
pub(crate) type Target = (&'static str, &'static str);

/// The streams that are almost full from the start: how full, in thousandths, and a subject of theirs that nobody looks at.
/// The first one has no room for one more key, the second one has room for some dead letters.
const FULL: [(&str, u64, &str); 2] = [
    ("IDEMPOTENCY_CALLERS", 998, "idempotency.caller.filling"),
    ("DEAD_LETTERS", 880, "dead.filling"),
];

pub(crate) struct System {
    name: String,
    pub(crate) cluster: &'static Cluster,
    pub(crate) prometheus: Prometheus,
    pub(crate) alertmanager: Alertmanager,
    pub(crate) exporter: Exporter,
    pub(crate) gateways: [Gateway; 2],
    pub(crate) worker: Service,
    pub(crate) deployer: Service,
    pub(crate) mongo: Mongo,
    pub(crate) nats: Nats,
    _scratch: Scratch,
}

/// Stands in for prometheus-nats-exporter: of its metrics, our rules need only that they are there.
pub(crate) struct Exporter {
    url: String,
    away: Arc<AtomicBool>,
}

impl System {
    /// Starts everything. Nothing is scraped yet.
    pub(crate) async fn start(
        name: &str,
        scale: Scale,
        interval: Duration,
        targets: &[Target],
        full: bool,
    ) -> Self {
        let scratch = Scratch::new().unwrap();
        let folder = |name: &str| scratch.folder(name).unwrap();
        let rules = folder("rules");
        let mut times = Shortened::default();
        for file in ["recording.yml", "alerts.yml"] {
            let (text, count) =
                scale.rules(&fs::read_to_string(monitoring().join("rules").join(file)).unwrap());
            assert_eq!(
                left_as_they_were(&text),
                [""; 0],
                "times in {file} that would not be shortened"
            );
            fs::write(rules.join(file), text).unwrap();
            times.ranges += count.ranges;
            times.waits += count.waits;
            times.ages += count.ages;
        }
        assert_eq!(
            times, TIMES,
            "a time was added to the rules, or taken away: see that it is shortened"
        );
        let alertmanager = Alertmanager::start(&folder("alertmanager"), scale).await.unwrap();
        let settings =
            Settings { rules: &rules, interval, alertmanager: Some(&alertmanager.address) };
        let prometheus = Prometheus::start_with(&folder("prometheus"), settings).await.unwrap();

        let cluster = cluster().await;
        let nats = Nats::start(&folder("nats")).await.unwrap();
        let mongo = Mongo::start(&folder("mongo")).await.unwrap();
        let specs = [0, 1]
            .map(|index| Gateway::spec(&folder(&format!("gateway-{index}")), &nats.url()).unwrap());
        let worker =
            system::worker_spec(&folder("worker"), &nats.url(), &mongo, "portfolio").unwrap();
        let lines = targets.iter().map(|(target, settings)| line(name, target, settings));
        let file = lines.fold("targets:\n".to_owned(), |file, line| file + &line);
        let deployer =
            system::deployer_spec(&folder("deployer"), &nats.url(), cluster.kubeconfig(), &file)
                .unwrap();
        for (target, _) in targets {
            cluster.apply(&deployment(name, target)).await.unwrap();
        }
        for spec in [&specs[0], &worker, &deployer] {
            Service::run(spec, "provision").await.unwrap();
        }
        if full {
            // Before the services start: after that, they look at the streams each half minute only.
            for (stream, share, subject) in FULL {
                fill(&nats, stream, share, subject).await;
            }
        }
        let mut gateways = specs.map(|spec| Gateway::start_unready(spec).unwrap());
        for gateway in &mut gateways {
            gateway.ready().await.unwrap();
        }
        let [mut worker, mut deployer] =
            [worker, deployer].map(|spec| Service::start(spec).unwrap());
        worker.ready().await.unwrap();
        deployer.ready().await.unwrap();
        let exporter = Exporter::start().await;
        Self {
            name: name.to_owned(),
            cluster,
            prometheus,
            alertmanager,
            exporter,
            gateways,
            worker,
            deployer,
            mongo,
            nats,
            _scratch: scratch,
        }
    }

    /// Lets Prometheus find everything, and waits until it has, and nothing fires.
    pub(crate) async fn be_found(&self) {
        let gateways = self.gateways.each_ref().map(|gateway| gateway.admin.base());
        self.prometheus.scrape("gateway", &gateways).unwrap();
        self.prometheus.scrape("contact-worker", &[self.worker.admin.base()]).unwrap();
        self.prometheus.scrape("deployer", &[self.deployer.admin.base()]).unwrap();
        self.prometheus.scrape("nats", &[&self.exporter.url]).unwrap();
        eventually("all to be scraped", || async {
            let up = self.prometheus.query("count(up == 1)").await.ok()?;
            (up[0]["value"][1] == "5").then_some(())
        })
        .await;
    }

    /// All processes of ours.
    pub(crate) fn services(&mut self) -> [&mut Service; 4] {
        let [first, second] = &mut self.gateways;
        [first, second, &mut self.worker, &mut self.deployer]
    }

    /// Posts a build for a target.
    pub(crate) async fn post_build(&self, target: &str, tag: &str) {
        let build =
            json!({"job": target, "number": 1, "status": "success", "image": image(target, tag)});
        let answer = self.gateways[0].ci().post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Runs kubectl in a target's namespace.
    pub(crate) async fn kubectl(&self, target: &str, args: &[&str]) {
        let namespace = format!("{}-{target}", self.name);
        self.cluster.kubectl(&[&["--namespace", &namespace], args].concat()).await.unwrap();
    }

    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        jetstream(&self.nats).await
    }

    /// How much a stream may hold from now on.
    pub(crate) async fn limit(&self, stream: &str, max_bytes: i64) {
        limit(&self.jetstream().await, stream, max_bytes).await;
    }

    /// Publishes something to a subject, of which nobody can make sense.
    pub(crate) async fn publish_nonsense(&self, subject: &'static str) {
        self.jetstream().await.publish(subject, "nonsense".into()).await.unwrap().await.unwrap();
    }
}

/// The streams and consumers of a service become what they shall be, as the runbooks have it done.
pub(crate) async fn provision(service: &Service) {
    Service::run(service.server.spec(), "provision").await.unwrap();
}

/// An image of a target, by its tag.
pub(crate) fn image(target: &str, tag: &str) -> String {
    format!("mastereflex123/{target}:{tag}")
}

fn line(system: &str, target: &str, settings: &str) -> String {
    format!(
        "  - {{ name: {target}, image: mastereflex123/{target}, namespace: {system}-{target}, deployment: app, \
         container: app, {settings} }}\n"
    )
}

/// A Deployment of two replicas, in a namespace of its own.
fn deployment(system: &str, target: &str) -> String {
    let (namespace, labels) = (format!("{system}-{target}"), json!({"app": target}));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": namespace},
         "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "app", "image": image(target, "v1-0000001")}]}}}},
    ]});
    list.to_string()
}

async fn jetstream(nats: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

async fn limit(jetstream: &jetstream::Context, stream: &str, max_bytes: i64) {
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    config.max_bytes = max_bytes;
    jetstream.update_stream(config).await.unwrap();
}

/// Puts one large message into a stream, and makes it the given share of what the stream may hold.
async fn fill(nats: &Nats, stream: &str, share: u64, subject: &'static str) {
    let jetstream = jetstream(nats).await;
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    config.max_message_size = -1;
    jetstream.update_stream(config).await.unwrap();
    jetstream.publish(subject, vec![b'x'; 60_000].into()).await.unwrap().await.unwrap();
    let bytes = jetstream.get_stream(stream).await.unwrap().cached_info().state.bytes;
    limit(&jetstream, stream, i64::try_from(bytes * 1_000 / share).unwrap()).await;
}

impl Exporter {
    async fn start() -> Self {
        let away = Arc::<AtomicBool>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/metrics", get(metrics)).with_state(away.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, away }
    }

    /// From now on, it has no metrics, or has them again.
    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// As Prometheus calls it.
    pub(crate) fn instance(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

async fn metrics(State(away): State<Arc<AtomicBool>>) -> impl IntoResponse {
    let status =
        if away.load(Ordering::Relaxed) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [(CONTENT_TYPE, "text/plain; version=0.0.4")], "")
}

/// As Prometheus calls a service's process.
pub(crate) fn instance(service: &Service) -> &str {
    service.admin.base().trim_start_matches("http://")
}

//! Each alert fires when its fault is made, and ends when the fault is gone. A minute is a second here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::doc;
use mongodb::Database;
use serde_json::json;
use testbed::{Fate, Gateway, Service, eventually, http};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    alertmanager::{Labels, alert},
    alone, can_run,
    monitored::{System, image, instance, provision},
    shortened::Scale,
};

/// A minute is a second. What would take longer than a quarter of an hour, such as most windows of the error budget, takes
/// just that.
const SCALE: Scale = Scale { divisor: 60, ages: 60, longest: Duration::from_secs(15) };

/// What no fault makes fire, or nobody is told of, and why: an alert, `firing` or `resolved`, the reason.
const NOT_TOLD: [(&str, &str, &str); 1] =
    [("RolloutReverted", "resolved", "it ends by itself, and its receiver is told of no ends")];

const SERVICES: [&str; 3] = ["gateway", "contact-worker", "deployer"];

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_and_ends() {
    if !can_run() {
        return;
    }
    let _alone = alone().await;
    let targets = [
        ("failing", "rollback: false, deadline: 20s, failure_grace: 1s"),
        ("returning", "rollback: true, deadline: 20s, failure_grace: 1s"),
        ("stuck", "rollback: false, deadline: 5m, failure_grace: 1s"),
        ("spare", "rollback: false, deadline: 20s, failure_grace: 1s"),
    ];
    let mut system = System::start("firing", SCALE, Duration::from_secs(1), &targets, true).await;
    nothing_is_found(&system).await;
    many_faults(&mut system).await;
    // What ends slowly is waited for when the next fault has been told, but before one that would hide it.
    let open = faults_behind_the_bus(&system).await;
    let slow = slow_bus(&system).await;
    open.end(&system).await;
    no_mongodb(&mut system).await;
    slow.end(&system).await;
    no_bus(&mut system).await;
    system.alertmanager.end(0, &full_streams()).await;
    no_services(&mut system).await;
    eventually("that nothing fires any more", || system.prometheus.finds_nothing("ALERTS")).await;
    all_were_told(&system).await;
}

/// Alerts that fired since a moment, and whose faults are gone.
struct Open(usize, Vec<Labels>);

impl Open {
    async fn end(self, system: &System) {
        system.alertmanager.end(self.0, &self.1).await;
    }
}

/// No service is found, at first.
async fn nothing_is_found(system: &System) {
    let missing = SERVICES.map(|job| alert("MetricsMissing", "critical", &[("job", job)]));
    system.alertmanager.fire(0, &missing).await;
    system.be_found().await;
    system.alertmanager.end(0, &missing).await;
}

fn of_consumer(name: &str, severity: &str, [job, stream, consumer]: [&str; 3]) -> Labels {
    alert(name, severity, &[("job", job), ("stream", stream), ("consumer", consumer)])
}

fn of_stream(name: &str, [job, stream]: [&str; 2]) -> Labels {
    alert(name, "warning", &[("job", job), ("stream", stream)])
}

fn of_rollout(name: &str, severity: &str, target: &str, verdict: &str) -> Labels {
    alert(name, severity, &[("job", "deployer"), ("target", target), ("verdict", verdict)])
}

fn burn(severity: &str, [long, short]: [&str; 2]) -> Labels {
    alert(
        "GatewayErrorBudgetBurn",
        severity,
        &[("job", "gateway"), ("long", long), ("short", short)],
    )
}

fn full(severity: &str, job: &str, stream: &str) -> Labels {
    alert("StreamNearlyFull", severity, &[("job", job), ("stream", stream), ("limit", "bytes")])
}

/// What has no other way to end than the cure of the streams, which takes a while to be noticed.
fn full_streams() -> [Labels; 3] {
    [
        full("critical", "gateway", "IDEMPOTENCY_CALLERS"),
        full("warning", "contact-worker", "DEAD_LETTERS"),
        full("warning", "deployer", "DEAD_LETTERS"),
    ]
}

fn stuck() -> Labels {
    alert("RolloutStuck", "critical", &[("job", "deployer"), ("target", "stuck")])
}

/// One replica killed; an exporter without metrics; messages of which nobody can make sense; rollouts that fail; a rollout
/// without an end; a consumer that is gone; streams that are almost full; and one of 220 requests answered with 503.
async fn many_faults(system: &mut System) {
    let since = system.alertmanager.now();
    let requests = Requests::start(&system.gateways[0], 219, Duration::from_secs(1));
    system.publish_nonsense("contacts.submitted").await;
    system.publish_nonsense("pipeline.build.nonsense").await;
    system.post_build("failing", &Fate::ImageNotFound.tag(2)).await;
    system.post_build("returning", &Fate::ImageNotFound.tag(2)).await;
    system.post_build("stuck", &Fate::NeverReady.tag(2)).await;
    system.gateways[1].server.kill();
    system.exporter.go_away(true);
    system
        .jetstream()
        .await
        .delete_consumer_from_stream("executor-spare", "DEPLOYS")
        .await
        .unwrap();

    let replica = [("job", "gateway"), ("instance", instance(&system.gateways[1]))];
    let waits = [
        ("job", "deployer"),
        ("instance", instance(&system.deployer)),
        ("condition", "executor-spare"),
    ];
    let alerts = [
        of_stream("ContactsDeadLettered", ["contact-worker", "CONTACTS"]),
        of_stream("BuildsDeadLettered", ["deployer", "PIPELINE"]),
        of_rollout("RolloutFailed", "critical", "failing", "failed"),
        of_rollout("RolloutRolledBack", "warning", "returning", "rolled_back"),
        stuck(),
        alert("ReplicaMetricsMissing", "warning", &replica),
        alert("MetricsMissing", "warning", &[("job", "nats")]),
        alert("ServiceNotReady", "warning", &waits),
        alert(
            "ConsumerMissing",
            "critical",
            &[("job", "deployer"), ("condition", "executor-spare")],
        ),
        burn("warning", ["1d", "2h"]),
        burn("warning", ["3d", "6h"]),
    ];
    system.alertmanager.fire(since, &alerts).await;
    system.alertmanager.fire(0, &full_streams()).await;
    // Where something worse is told, the rest is not.
    system.alertmanager.hold_back(&full("warning", "gateway", "IDEMPOTENCY_CALLERS")).await;
    let exporter = [("job", "nats"), ("instance", system.exporter.instance())];
    system.alertmanager.hold_back(&alert("ReplicaMetricsMissing", "warning", &exporter)).await;
    let (sent, failed) = requests.stop().await;
    assert!(failed > 10 && sent / failed > 200, "{failed} of {sent} requests failed");
    let heard = system.alertmanager.heard();
    assert!(
        !heard.iter().any(|notice| fast_burns().contains(&notice.labels)),
        "so few errors are not urgent"
    );

    system.gateways[1].server.start_again().unwrap();
    system.exporter.go_away(false);
    provision(&system.deployer).await;
    for service in [&system.worker, &system.deployer] {
        erase_dead_letters(service).await;
    }
    let theirs = format!("app={}", image("stuck", &Fate::Ready.tag(9)));
    system.kubectl("stuck", &["set", "image", "deployment/app", &theirs]).await;
    system
        .alertmanager
        .fire(since, &[of_rollout("RolloutReverted", "info", "stuck", "reverted")])
        .await;
    system.alertmanager.end(since, &alerts).await;
}

/// Erases all dead letters of a service.
async fn erase_dead_letters(service: &Service) {
    let spec = service.server.spec();
    let listed = Service::run(spec, "dead-letters list").await.unwrap();
    let numbers = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let erase = format!("dead-letters erase {}", numbers.collect::<Vec<_>>().join(" "));
    Service::run(spec, &erase).await.unwrap();
}

fn fast_burns() -> [Labels; 2] {
    [burn("critical", ["1h", "5m"]), burn("critical", ["6h", "30m"])]
}

/// MongoDB answers, and stores nothing; the requests of builds have no room; all requests are answered with 503.
async fn faults_behind_the_bus(system: &System) -> Open {
    let since = system.alertmanager.now();
    let mongo = admin(system).await;
    mongo.run_command(doc! {"fsync": 1, "lock": true}).await.unwrap();
    post_contacts(&system.gateways[0], 1).await;
    system.limit("DEPLOYS", 1).await;
    system.post_build("spare", &Fate::Ready.tag(2)).await;
    let requests = Requests::start(&system.gateways[0], 0, Duration::from_millis(100));
    let alerts = [
        of_consumer("ContactsStuck", "critical", ["contact-worker", "CONTACTS", "contact-worker"]),
        of_consumer("DeployerNotConsuming", "critical", ["deployer", "PIPELINE", "planner"]),
    ];
    system.alertmanager.fire(since, &alerts).await;
    system.alertmanager.fire(since, &fast_burns()).await;
    system.alertmanager.hold_back(&burn("warning", ["1d", "2h"])).await;
    requests.stop().await;
    mongo.run_command(doc! {"fsyncUnlock": 1}).await.unwrap();
    // More room for all of them, which services notice within half a minute.
    provision(&system.gateways[0]).await;
    provision(&system.deployer).await;
    Open(since, alerts.into_iter().chain(fast_burns()).collect())
}

/// The bus takes a second for what takes it milliseconds.
async fn slow_bus(system: &System) -> Open {
    let since = system.alertmanager.now();
    let alerts = [alert(
        "GatewayLatencyHigh",
        "warning",
        &[("job", "gateway"), ("http_route", "/api/contact")],
    )];
    let slow = async {
        loop {
            system.nats.server.pause().unwrap();
            let posts = post_contacts(&system.gateways[0], 30);
            let ((), ()) = tokio::join!(posts, async {
                // As long as the bus is meant to take.
                sleep(Duration::from_millis(1_200)).await;
                system.nats.server.resume().unwrap();
            });
        }
    };
    tokio::select! {
        () = slow => {}
        () = system.alertmanager.fire(since, &alerts) => {}
    }
    // It may have been stopped in the middle.
    system.nats.server.resume().unwrap();
    Open(since, alerts.into())
}

async fn no_mongodb(system: &mut System) {
    let since = system.alertmanager.now();
    let alerts = [alert("MongoDBUnreachable", "critical", &[("job", "contact-worker")])];
    system.mongo.server.kill();
    system.alertmanager.fire(since, &alerts).await;
    // What follows from it is not told.
    post_contacts(&system.gateways[0], 1).await;
    let waits =
        of_consumer("ContactsStuck", "critical", ["contact-worker", "CONTACTS", "contact-worker"]);
    system.alertmanager.hold_back(&waits).await;
    system.mongo.start_again().await.unwrap();
    system.alertmanager.end(since, &alerts).await;
}

async fn no_bus(system: &mut System) {
    let since = system.alertmanager.now();
    let alerts = SERVICES.map(|job| alert("BusUnreachable", "critical", &[("job", job)]));
    system.nats.server.kill();
    system.alertmanager.fire(since, &alerts).await;
    let [fast, _] = fast_burns();
    let refused = async {
        loop {
            post_contacts(&system.gateways[0], 20).await;
        }
    };
    tokio::select! {
        () = refused => {}
        () = system.alertmanager.hold_back(&fast) => {}
    }
    let waits =
        [("job", "gateway"), ("instance", instance(&system.gateways[0])), ("condition", "nats")];
    system.alertmanager.hold_back(&alert("ServiceNotReady", "warning", &waits)).await;
    system.nats.start_again().await.unwrap();
    system.alertmanager.end(since, &alerts).await;
}

async fn no_services(system: &mut System) {
    let since = system.alertmanager.now();
    let alerts = SERVICES.map(|job| alert("MetricsMissing", "critical", &[("job", job)]));
    let replica = [("job", "deployer"), ("instance", instance(&system.deployer))];
    let replica = alert("ReplicaMetricsMissing", "warning", &replica);
    for service in system.services() {
        service.server.kill();
    }
    system.alertmanager.fire(since, &alerts).await;
    system.alertmanager.hold_back(&replica).await;
    for service in system.services() {
        service.server.start_again().unwrap();
        service.ready().await.unwrap();
    }
    system.alertmanager.end(since, &alerts).await;
}

/// No rule was left out: each was told to fire, and to be over.
async fn all_were_told(system: &System) {
    let heard = system.alertmanager.heard();
    let mut missing = Vec::new();
    for rule in system.prometheus.alert_rules().await.unwrap() {
        for status in ["firing", "resolved"] {
            let of_rule = |labels: &Labels| {
                let mut own = rule["labels"].as_object().into_iter().flatten();
                rule["name"] == labels["alertname"]
                    && own.all(|(name, value)| labels.get(name).is_some_and(|found| value == found))
            };
            let told =
                heard.iter().any(|notice| notice.status == status && of_rule(&notice.labels));
            let excused =
                NOT_TOLD.iter().any(|(name, what, _)| rule["name"] == *name && status == *what);
            if told == excused {
                missing.push(format!("{} {}: told {status}: {told}", rule["name"], rule["labels"]));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// MongoDB, as its administrator.
async fn admin(system: &System) -> Database {
    system.mongo.collection("portfolio", "contacts").await.unwrap().client().database("admin")
}

/// Posts contacts, all at once, whatever comes of it.
async fn post_contacts(gateway: &Gateway, count: usize) {
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let posts = (0..count).map(|_| gateway.http.post_json("/api/contact", &contact));
    for answer in futures::future::join_all(posts).await {
        answer.unwrap();
    }
}

/// Requests to a gateway until they are stopped: in each round some that go well, and one with a key, for which there is no
/// room.
struct Requests {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(u64, u64)>,
}

impl Requests {
    fn start(gateway: &Gateway, good: u64, every: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..2 {
            tasks.spawn(rounds(gateway.http.clone(), gateway.ci(), good, every, stop.clone()));
        }
        Self { stop, tasks }
    }

    /// How many were sent, and how many of them were answered with 503.
    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.tasks.join_all().await;
        all.into_iter().fold((0, 0), |(sent, failed), (more, bad)| (sent + more, failed + bad))
    }
}

async fn rounds(
    http: http::Client,
    ci: http::Client,
    good: u64,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> (u64, u64) {
    let build =
        json!({"job": "other", "number": 1, "status": "success", "image": "other/app:v1-abc1234"});
    let (mut sent, mut failed) = (0, 0);
    let mut every = interval(every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        for _ in 0..good {
            assert_eq!(http.get("/").await.unwrap().status, 200);
        }
        let key = ci.with("idempotency-key", &fastrand::u64(..).to_string());
        let answer = key.post_json("/api/builds", &build).await.unwrap();
        sent += good + 1;
        failed += u64::from(answer.status == 503);
    }
    (sent, failed)
}

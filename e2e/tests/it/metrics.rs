//! Whatever clients make up, it adds no series to the metrics, which are as Prometheus' own check wants them, and as
//! `docs/metrics.md` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    ops::Range,
    process::{Output, Stdio},
    time::Duration,
};

use futures::{StreamExt, stream};
use http::Method;
use serde_json::json;
use testbed::{Fate, Mongo, Service, can_run, on_path, system, within, workspace_folder};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::world::{Builds, cluster, image};

/// How many of each are made up. Each tenth is a contact and a build, too, which take their time; all of them are where
/// `TEST_ALL_BUILDS` is set.
const MANY: u64 = 10_000;

/// How many requests are on their way at once. Below every limit, so that none is refused for that.
const AT_ONCE: usize = 32;

/// How long it may take until all of it has been dealt with.
const LIMIT: Duration = Duration::from_mins(3);

/// A version that is newer than all that is made up, so that they are rejected at once.
const NEWEST: u64 = 1_000_000;

/// All three services.
struct World {
    builds: Builds,
    _mongo: Mongo,
    worker: Service,
}

impl World {
    async fn start() -> Self {
        let builds = Builds::start(cluster().await, "cardinality", "30s").await;
        let mongo = Mongo::start(&builds.scratch.folder("mongo").unwrap()).await.unwrap();
        let folder = builds.scratch.folder("worker").unwrap();
        let worker = system::start(
            system::worker_spec(&folder, &builds.nats.url(), &mongo, "portfolio").unwrap(),
        );
        Self { worker: worker.await.unwrap(), builds, _mongo: mongo }
    }

    fn services(&self) -> [(&'static str, &Service); 3] {
        let Self { builds, worker, .. } = self;
        [("gateway", &builds.gateway), ("contact-worker", worker), ("deployer", &builds.deployer)]
    }

    /// One path, key, agent, job, tag and method of each kind for each number.
    async fn make_up(&self, numbers: Range<u64>, each: u64) {
        let make_up_one = |number| self.make_up_one(number, number % each == 0);
        stream::iter(numbers.clone()).for_each_concurrent(AT_ONCE, make_up_one).await;
        // Builds are planned in their order, so that all are when this one is.
        let id = self.builds.post(&Fate::Ready.tag(NEWEST + numbers.end)).await;
        let verdict = within(LIMIT, "all builds to be planned", || async {
            let build = self.builds.show(&id).await;
            (build["terminal"] == true).then_some(build)
        });
        assert_eq!(verdict.await.unwrap()["state"], "succeeded");
        within(LIMIT, "all contacts to be stored", || async {
            let stored = self.worker.metric("contacts_stored_total ").await.ok()?;
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            (stored >= numbers.end.div_ceil(each) as f64).then_some(())
        })
        .await
        .unwrap();
    }

    async fn make_up_one(&self, number: u64, whole: bool) {
        let gateway = &self.builds.gateway;
        let ci = gateway.ci().with("user-agent", &format!("agent/{number}"));
        let keyed = ci.with("idempotency-key", &format!("key-{number}"));
        let method = Method::from_bytes(format!("METHOD{number}").as_bytes()).unwrap();
        for (method, path, status) in [
            (method, format!("/made/up/{number}?with={number}"), 404),
            (Method::GET, format!("/api/builds/made-up-{number}"), 404),
            (Method::POST, "/api/contact".to_owned(), 415),
        ] {
            let answer = keyed.send(method.clone(), &path, "").await.unwrap();
            assert_eq!(answer.status, status, "{method} {path}");
        }
        if whole {
            let contact = json!({"name": "Ada", "email": "ada@example.org", "message": format!("Hello {number}")});
            assert_eq!(keyed.post_json("/api/contact", &contact).await.unwrap().status, 202);
            let (job, image) = (format!("job-{number}"), image(&Fate::Ready.tag(number)));
            let build = json!({"job": job, "number": number, "status": "success", "image": image});
            let answer =
                ci.with("idempotency-key", &job).post_json("/api/builds", &build).await.unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
    }

    /// The series of all services: names and labels, while no rollout is under way.
    async fn series(&self) -> BTreeSet<String> {
        within(LIMIT, "the end of all rollouts", || async {
            let text = self.builds.deployer.admin.get("/metrics").await.ok()?.text();
            (!text.contains("rollouts_in_progress{")).then_some(())
        })
        .await
        .unwrap();
        let mut all = BTreeSet::new();
        for (name, service) in self.services() {
            let text = service.admin.get("/metrics").await.unwrap().text();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            all.extend(
                lines.filter_map(|line| Some(format!("{name}: {}", line.rsplit_once(' ')?.0))),
            );
        }
        all
    }
}

#[expect(clippy::disallowed_methods, reason = "a person says so")]
fn all_builds() -> bool {
    std::env::var_os("TEST_ALL_BUILDS").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_make_up_adds_no_series() {
    let world = World::start().await;
    // Each label is seen once, and the newest version is there.
    let id = world.builds.post(&Fate::Ready.tag(NEWEST)).await;
    assert_eq!(world.builds.verdict(&id).await["state"], "succeeded");
    let each = if all_builds() { 1 } else { 10 };
    world.make_up(0..100, each).await;
    let before = world.series().await;
    world.make_up(100..MANY, each).await;
    let after = world.series().await;
    // A request to the API server may fail, by whatever clients do: those have their codes, which are not made up.
    let may_come =
        |series: &str| series.contains("kubernetes_client_") && !series.contains("code=\"2");
    let added: Vec<_> = after.difference(&before).filter(|series| !may_come(series)).collect();
    assert!(added.is_empty(), "{added:#?}");
    // Some are there only while a rollout is under way.
    world.builds.post(&Fate::NeverReady.tag(2 * NEWEST)).await;
    within(LIMIT, "a rollout under way", || async {
        let text = world.builds.deployer.admin.get("/metrics").await.ok()?.text();
        text.contains("rollouts_in_progress{").then_some(())
    })
    .await
    .unwrap();
    let mut services = Vec::new();
    for (name, service) in world.services() {
        let text = service.admin.get("/metrics").await.unwrap().text();
        services.push((name, metrics(&text)));
        let Some(Output { status, stdout, stderr }) = check_metrics(&text).await else { continue };
        let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
        assert!(status.success() && said.is_empty(), "{name}: {said}");
    }
    check_reference(&reference(&services));
}

/// A metric, as a service tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The metrics of a text in Prometheus' format.
fn metrics(text: &str) -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::<String, Metric>::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            name.clone_into(&mut last);
            let metric =
                Metric { kind: String::new(), help: help.to_owned(), labels: BTreeSet::new() };
            found.insert(last.clone(), metric);
        } else if let Some(metric) = found.get_mut(&last) {
            if let Some((_, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                kind.clone_into(&mut metric.kind);
            } else if let Some((_, rest)) = line.split_once('{') {
                let names = rest
                    .split('"')
                    .step_by(2)
                    .filter_map(|part| part.trim_start_matches(',').strip_suffix('='));
                metric.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
            }
        }
    }
    found
}

/// The text of `docs/metrics.md`.
fn reference(services: &[(&str, BTreeMap<String, Metric>)]) -> String {
    let mut text = "# Metrics\n\nEach service tells them on `ADMIN_ADDR` at `/metrics`. Times are seconds, sizes bytes. Labels have few values: routes, \
                    states,\noutcomes, streams, and the targets of `TARGETS_FILE`; never what a client made up. A test holds this page against \
                    the services.\n"
        .to_owned();
    let (_, first) = &services[0];
    let is_common =
        |name: &str| services.iter().all(|(_, metrics)| metrics.get(name) == first.get(name));
    let mut table = |title: &str, metrics: &mut dyn Iterator<Item = (&String, &Metric)>| {
        let _ =
            write!(text, "\n## {title}\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for (name, Metric { kind, help, labels }) in metrics {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
    };
    table("All services", &mut first.iter().filter(|(name, _)| is_common(name)));
    for (service, metrics) in services {
        table(service, &mut metrics.iter().filter(|(name, _)| !is_common(name)));
    }
    text
}

/// Holds the page against the services, or writes it where `UPDATE_FILES` is set.
#[expect(clippy::disallowed_methods, reason = "a person says so")]
fn check_reference(told: &str) {
    let path = workspace_folder().join("docs/metrics.md");
    if std::env::var_os("UPDATE_FILES").is_some() {
        fs::write(&path, told).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<_> = told.lines().filter(|line| !written.contains(line)).collect();
    assert!(
        told == written,
        "docs/metrics.md is not true: set UPDATE_FILES=1 and look at it; not there: {differing:#?}"
    );
}

/// What `promtool check metrics` says. Prometheus is no part of the tools: where it is missing, this says so, unless
/// `REQUIRE_PROMETHEUS` is set.
async fn check_metrics(text: &str) -> Option<Output> {
    if !can_run(on_path("promtool").is_some(), "promtool", "REQUIRE_PROMETHEUS") {
        return None;
    }
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).await.unwrap();
    drop(stdin);
    Some(child.wait_with_output().await.unwrap())
}

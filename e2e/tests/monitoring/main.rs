//! Rules and dashboards, by a real Prometheus on the services under traffic. Prometheus is no part of the tools: where it is
//! missing, this says so and passes, unless `REQUIRE_PROMETHEUS` is set.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alertmanager;
mod expressions;
mod firing;
mod monitored;
mod prometheus;
mod restart;
mod shortened;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod world;

use std::{fs, process::Stdio};

use serde_json::{Value, json};
use testbed::{Fate, Mongo, eventually, observers, on_path, system, workspace_folder};
use tokio::process::Command;

use expressions::{Selector, monitoring, named, panels};
use prometheus::Prometheus;
use world::{Builds, cluster};

/// What has no data while all is well, and why. Each is a part of an expression.
const NO_DATA: [(&str, &str); 9] = [
    ("ALERTS{", "nothing fires"),
    ("rollout_age_seconds:max", "no rollout is under way"),
    ("rollout_started_timestamp_seconds > 0", "no rollout is under way"),
    ("rollouts_in_progress", "no rollout is under way"),
    ("gnatsd_varz", "the exporter of the NATS server is not among the tools"),
    (r#"code!~"[123].."#, "no request to the API server failed"),
    (r#"up{job="nats"}"#, "the exporter of the NATS server is not among the tools"),
    (r#"outcome!="stored""#, "every message was stored"),
    (r#"outcome!="ok""#, "every insert went well"),
];

fn can_run() -> bool {
    let programs = [observers::prometheus(), observers::alertmanager(), on_path("promtool")];
    testbed::can_run(
        programs.iter().all(Option::is_some),
        "Prometheus and Alertmanager",
        "REQUIRE_PROMETHEUS",
    )
}

/// Those who watch how alerts come and go take turns: each has all of the services for itself, under load.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// Runs promtool to its end.
async fn promtool(folder: &str, args: &[&str], pattern: &str) {
    let mut files: Vec<_> = fs::read_dir(monitoring().join(pattern))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    let mut command = Command::new("promtool");
    command
        .args(args)
        .args(&files)
        .current_dir(monitoring().join(folder))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_rules_do_what_their_tests_say() {
    if can_run() {
        promtool("rules", &["check", "rules"], "rules").await;
        promtool("rules/tests", &["test", "rules"], "rules/tests").await;
    }
}

/// The services with all that they need, and a Prometheus that watches them.
struct Watched {
    builds: Builds,
    _mongo: Mongo,
    _worker: testbed::Service,
    prometheus: Prometheus,
}

impl Watched {
    async fn start(namespace: &str) -> Self {
        let builds = Builds::start(cluster().await, namespace, "20s").await;
        let mongo = Mongo::start(&builds.scratch.folder("mongo").unwrap()).await.unwrap();
        let folder = builds.scratch.folder("worker").unwrap();
        let worker = system::worker_spec(&folder, &builds.nats.url(), &mongo, "portfolio").unwrap();
        let worker = system::start(worker).await.unwrap();
        let services = [
            ("gateway", builds.gateway.admin.base()),
            ("contact-worker", worker.admin.base()),
            ("deployer", builds.deployer.admin.base()),
        ];
        let prometheus =
            Prometheus::start(&builds.scratch.folder("prometheus").unwrap(), &services)
                .await
                .unwrap();
        Self { builds, _mongo: mongo, _worker: worker, prometheus }
    }

    /// Contacts, builds that succeed and fail, and requests that are refused.
    async fn traffic(&self, round: u64) {
        let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
        for _ in 0..30 {
            assert_eq!(
                self.builds.gateway.http.post_json("/api/contact", &contact).await.unwrap().status,
                202
            );
        }
        let refused = self.builds.gateway.http.post_json("/api/contact", &json!({})).await.unwrap();
        assert_eq!(refused.status, 422);
        assert_eq!(self.builds.gateway.http.get("/api/targets").await.unwrap().status, 401);
        assert_eq!(self.builds.gateway.http.get("/health").await.unwrap().status, 200);
        for (number, fate, state) in
            [(0, Fate::Ready, "succeeded"), (1, Fate::ImageNotFound, "failed")]
        {
            let id = self.builds.post(&fate.tag(10 * round + number)).await;
            assert_eq!(self.builds.verdict(&id).await["state"], state);
        }
        // An older one is rejected.
        let id = self.builds.post("v1-0000009").await;
        assert_eq!(self.builds.verdict(&id).await["state"], "rejected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_finds_what_it_asks_for() {
    if !can_run() {
        return;
    }
    let _turn = alone().await;
    let watched = Watched::start("monitoring").await;
    // Before and after, since an increase is between two values.
    eventually("three services that are scraped", || async {
        let up = watched.prometheus.query("count(up == 1)").await.ok()?;
        (up[0]["value"][1] == "3").then_some(())
    })
    .await;
    watched.traffic(1).await;
    watched.traffic(2).await;
    eventually("rules that were evaluated after that", || async {
        let failed = watched
            .prometheus
            .query(r#"job_target_verdict:rollouts:increase15m{verdict="failed"} > 0"#)
            .await;
        (!failed.ok()?.as_array()?.is_empty()).then_some(())
    })
    .await;

    let mut wrong = Vec::new();
    for (rule, query) in watched.prometheus.rules().await.unwrap() {
        for Selector { metric, .. } in named(&query).selectors {
            let found =
                watched.prometheus.query(&format!("{{__name__={metric:?}}}")).await.unwrap();
            let excused =
                NO_DATA.iter().any(|(part, _)| part.contains(&metric) || query.contains(part));
            if found.as_array().unwrap().is_empty() && !excused {
                wrong.push(format!("{rule}: there is no {metric}"));
            }
        }
    }
    for (panel, query, _) in panels() {
        match watched.prometheus.query(&query).await {
            Ok(found) if found.as_array().is_some_and(Vec::is_empty) => {
                if !NO_DATA.iter().any(|(part, _)| query.contains(part)) {
                    wrong.push(format!("{panel}: no data: {query}"));
                }
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{panel}: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A dashboard can be drawn: ids are unique, nothing overlaps, and each panel says what it is.
#[test]
fn the_dashboards_are_well_formed() {
    let mut uids = Vec::new();
    for file in fs::read_dir(monitoring().join("grafana/dashboards")).unwrap() {
        let dashboard: Value =
            serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        let title = &dashboard["title"];
        uids.push(dashboard["uid"].as_str().unwrap().to_owned());
        assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource", "{title}");
        let mut ids = Vec::new();
        let mut taken = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let name = &panel["title"];
            ids.push(panel["id"].as_u64().unwrap());
            let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap());
            let [x, y, w, h] = place;
            let apart = |other: &[i64; 4]| {
                let [ox, oy, ow, oh] = *other;
                x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y
            };
            assert!(x >= 0 && x + w <= 24 && taken.iter().all(apart), "{title} / {name} overlaps");
            taken.push(place);
            if panel["type"] == "row" || panel["type"] == "text" {
                continue;
            }
            assert!(
                panel["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{title} / {name}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} / {name}");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{title}: ids are not unique");
    }
    uids.sort();
    assert_eq!(
        uids,
        [
            "portfolio-contact-worker",
            "portfolio-deployer",
            "portfolio-gateway",
            "portfolio-overview"
        ]
    );
}

/// Each alert leads to a section that says what to do.
#[test]
fn each_alert_has_a_section_in_a_runbook() {
    let rules = fs::read_to_string(monitoring().join("rules/alerts.yml")).unwrap();
    let mut name = "";
    let mut checked = 0;
    for line in rules.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            name = alert;
        }
        let Some(url) = line.strip_prefix("runbook_url: ") else { continue };
        let (_, path) = url.split_once("/blob/main/").unwrap();
        let (file, anchor) = path.split_once('#').unwrap();
        let text = fs::read_to_string(workspace_folder().join(file)).unwrap();
        assert!(text.contains(&format!("\n## {name}\n")), "{file} has no section {name}");
        assert_eq!(anchor, name.to_lowercase());
        checked += 1;
    }
    assert!(checked >= 16, "{checked}");
}

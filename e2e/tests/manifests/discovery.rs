//! `monitoring/prometheus.yml` as it is, on pods that were made from the manifests: what Prometheus finds by it has the labels
//! that rules, alerts and dashboards ask for.
//!
//! Debian's Prometheus is built without the discovery of Kubernetes. So the test asks the API server for the pods, as
//! Prometheus' service account, and writes down what that discovery would make of each: a target a port, and its labels
//! (`__meta_kubernetes_pod_…`). A proxy stands for the cluster's network: it leads from a pod's address to the process here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use testbed::{Server, eventually, free_port, http::Client, observers};
use tokio::net::TcpListener;

use crate::{
    checks::{list, text},
    expressions::{Named, Selector, monitoring, named, panels, placeholders},
    installed::{Installed, NAMESPACE},
    processes::System,
};

/// Where Prometheus runs, and as whom.
const ELSEWHERE: &str = "monitoring";

/// What there is nothing of while all is well, and why.
const NOT_THERE: [(&str, &str); 4] = [
    ("ALERTS", "nothing fires"),
    ("rollouts_in_progress", "no rollout is under way"),
    ("rollout_age_seconds", "no rollout is under way"),
    ("rollout_started_timestamp_seconds", "no rollout is under way"),
];

pub(crate) fn can_run() -> bool {
    testbed::can_run(observers::prometheus().is_some(), "Prometheus", "REQUIRE_PROMETHEUS")
}

/// By a pod's address: where that is here.
type Addresses = BTreeMap<String, String>;

/// Where each port of each pod that has been seen is here. A pod that has gone stays.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<Addresses>>);

pub(crate) struct Discovered {
    _server: Server,
    http: Client,
    places: Places,
    folder: PathBuf,
}

impl Discovered {
    pub(crate) async fn start(system: &System<'_>) -> Self {
        let installed = system.installed;
        let places = Places::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let app = Router::new().fallback(lead_on).with_state(places.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });

        let folder = installed.scratch.folder("prometheus").unwrap();
        let config = fs::read_to_string(monitoring().join("prometheus.yml")).unwrap();
        // As it is, but for how often, and how pods are found and reached.
        let config = replaced(&config, "_interval: 15s", "_interval: 1s", 2);
        let by_kubernetes = "kubernetes_sd_configs:\n      - role: pod\n        namespaces: { names: [oriyan-portfolio] }";
        let by_us = "file_sd_configs:\n      - files: [pods.json]\n        refresh_interval: 2s";
        let config = replaced(&config, by_kubernetes, by_us, 2);
        let through = format!("    proxy_url: http://{proxy}\n    relabel_configs:");
        let config = replaced(&config, "    relabel_configs:", &through, 2);
        let rules = format!("{}/rules/*.yml", monitoring().display());
        let config = replaced(&config, "rules/*.yml", &rules, 1);
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        fs::write(folder.join("pods.json"), "[]").unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let server =
            observers::start_prometheus(observers::prometheus().unwrap(), &folder, &address, &[])
                .await
                .unwrap();
        Self { _server: server, http: Client::new(&format!("http://{address}")), places, folder }
    }

    /// Waits until each pod that has something to tell is scraped, once, by its name, and nobody else is.
    pub(crate) async fn finds_every_pod(&self, system: &System<'_>) {
        let found = || async {
            let pods = pods(system.installed).await;
            *self.places.0.lock().unwrap() =
                pods.iter().flat_map(|pod| places(system, pod)).collect();
            let targets: Vec<_> = pods.iter().flat_map(targets).collect();
            // In one step, so that it is never read half written.
            fs::write(self.folder.join("pods.new"), json!(targets).to_string()).unwrap();
            fs::rename(self.folder.join("pods.new"), self.folder.join("pods.json")).unwrap();
            let pods = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let expected: BTreeSet<_> = pods.filter_map(expected).collect();
            let up = self.series("up").await;
            let up: BTreeSet<_> =
                up.iter().map(|labels| (label(labels, "job"), label(labels, "instance"))).collect();
            let all_up = self.query("up == 0").await.is_empty();
            (up == expected && expected.len() >= 6 && all_up)
                .then_some(())
                .ok_or((up, expected, all_up))
        };
        let last = Mutex::new(None);
        let within = testbed::within(Duration::from_mins(1), "pods that are scraped", || async {
            found().await.map_err(|seen| *last.lock().unwrap() = Some(seen)).ok()
        });
        if let Err(error) = within.await {
            panic!("{error}: scraped, expected, all are up: {:#?}", last.lock().unwrap());
        }
    }

    /// Holds whatever rules, alerts and dashboards name against what there is.
    pub(crate) async fn has_what_is_asked_for(&self, system: &System<'_>) {
        // The longest of its ranges, evaluated last.
        let errors = "job:http_server_request_errors:ratio_rate3d";
        eventually("rates of requests", || async {
            // A rate is between two values.
            system.posts_a_contact("Ada").await;
            (!self.series(errors).await.is_empty()).then_some(())
        })
        .await;
        let recorded = "job_target_verdict:rollouts:increase15m";
        eventually("rules that were evaluated", || async {
            (!self.series(recorded).await.is_empty()).then_some(())
        })
        .await;
        let mut wrong = Vec::new();
        for rule in self.rules().await {
            let name = text(&rule["name"]);
            let of_rule = named(text(&rule["query"]));
            let annotations = rule["annotations"].to_string();
            self.check(name, &of_rule, &placeholders(&annotations, "$labels."), &mut wrong).await;
        }
        for (panel, query, legend) in panels() {
            self.check(&panel, &named(&query), &placeholders(&legend, ""), &mut wrong).await;
        }
        wrong.sort();
        wrong.dedup();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    async fn check(
        &self,
        name: &str,
        named: &Named,
        shown: &BTreeSet<&str>,
        wrong: &mut Vec<String>,
    ) {
        let mut labels = BTreeSet::new();
        let mut excused = false;
        for Selector { metric, matchers } in &named.selectors {
            if NOT_THERE.iter().any(|(start, _)| metric.contains(start)) {
                excused = true;
                continue;
            }
            let series = self.series(metric).await;
            if series.is_empty() {
                wrong.push(format!("{name}: there is no {metric}"));
            }
            let of_metric: BTreeSet<_> =
                series.iter().flat_map(|labels| labels.keys().cloned()).collect();
            for (label, operator, value) in matchers {
                if label != "__name__" && !of_metric.contains(label) {
                    wrong.push(format!("{name}: {metric} has no label {label}"));
                }
                // Those come from the scrape configuration; the values of others come and go.
                if label == "job" || label == "instance" {
                    let found =
                        self.query(&format!("{metric}{{{label}{operator}\"{value}\"}}")).await;
                    if found.is_empty() {
                        wrong.push(format!("{name}: no {metric} has {label}{operator}\"{value}\""));
                    }
                }
            }
            labels.extend(of_metric);
        }
        for label in named.labels.iter().map(String::as_str).chain(shown.iter().copied()) {
            if !excused
                && label != "alertname"
                && !labels.contains(label)
                && !named.strings.contains(label)
            {
                wrong.push(format!("{name}: nothing in it has the label {label}"));
            }
        }
    }

    async fn rules(&self) -> Vec<Value> {
        let answer = self.http.get("/api/v1/rules").await.unwrap().json();
        let rules =
            list(&answer["data"]["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec());
        let rules: Vec<_> = rules.collect();
        assert!(rules.len() > 30, "{} rules", rules.len());
        for rule in &rules {
            assert_ne!(rule["health"], "err", "{rule}");
        }
        rules
    }

    /// The labels of each series of a metric.
    async fn series(&self, metric: &str) -> Vec<BTreeMap<String, Value>> {
        let found = self.query(&format!("{{__name__={metric:?}}}")).await;
        found
            .iter()
            .map(|series| series["metric"].as_object().unwrap().clone().into_iter().collect())
            .collect()
    }

    async fn query(&self, query: &str) -> Vec<Value> {
        let body = serde_urlencoded::to_string([("query", query)]).unwrap();
        let answer = self
            .http
            .post("/api/v1/query", "application/x-www-form-urlencoded", body)
            .await
            .unwrap();
        assert!(answer.status.is_success(), "{query}: {}", answer.text());
        list(&answer.json()["data"]["result"]).to_vec()
    }
}

/// The text with something else in place of a part, which has to be there so many times.
fn replaced(text: &str, from: &str, to: &str, times: usize) -> String {
    assert_eq!(text.matches(from).count(), times, "{from}");
    text.replace(from, to)
}

fn label(labels: &BTreeMap<String, Value>, name: &str) -> String {
    labels.get(name).map(text).unwrap_or_default().to_owned()
}

/// The pods, as whoever Prometheus is may see them.
async fn pods(installed: &Installed) -> Vec<Value> {
    let account = format!("--as=system:serviceaccount:{ELSEWHERE}:prometheus");
    let get = ["--namespace", NAMESPACE, &account, "get", "pods", "--output", "json"];
    let found: Value =
        serde_json::from_str(&installed.cluster.kubectl(&get).await.unwrap()).unwrap();
    list(&found["items"]).to_vec()
}

/// What Prometheus' discovery makes of a pod: a target for each port of each container, with those of its labels that we use.
/// <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod>
fn targets(pod: &Value) -> Vec<Value> {
    let Some(address) = pod["status"]["podIP"].as_str() else { return Vec::new() };
    let ports =
        list(&pod["spec"]["containers"]).iter().flat_map(|container| list(&container["ports"]));
    let target = |port: &Value| {
        let mut labels = json!({
            "__meta_kubernetes_pod_name": pod["metadata"]["name"],
            "__meta_kubernetes_pod_phase": pod["status"]["phase"],
            "__meta_kubernetes_pod_container_port_name": text(&port["name"]),
            "__meta_kubernetes_pod_container_port_number": port["containerPort"].to_string(),
        });
        for (name, value) in pod["metadata"]["labels"].as_object().unwrap() {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            labels[format!("__meta_kubernetes_pod_label_{name}")] = value.clone();
        }
        json!({"targets": [format!("{address}:{}", port["containerPort"])], "labels": labels})
    };
    ports.map(target).collect()
}

fn name_of(pod: &Value) -> &str {
    text(&pod["metadata"]["labels"]["app.kubernetes.io/name"])
}

/// As which job and instance a pod has to be scraped.
fn expected(pod: &Value) -> Option<(String, String)> {
    let name = name_of(pod);
    let scraped = ["gateway", "contact-worker", "deployer", "nats"].contains(&name);
    scraped.then(|| (name.to_owned(), text(&pod["metadata"]["name"]).to_owned()))
}

/// Where the ports of a pod are here. All pods of a workload are one process.
fn places(system: &System<'_>, pod: &Value) -> Vec<(String, String)> {
    let (workload, port) = match name_of(pod) {
        "gateway" => ("oriyan-portfolio-app", 9_090),
        name @ ("contact-worker" | "deployer") => (name, 9_090),
        "nats" => ("nats-0", 7_777),
        _ => return Vec::new(),
    };
    let Some(address) = pod["status"]["podIP"].as_str() else { return Vec::new() };
    vec![(
        format!("{address}:{port}"),
        format!("http://127.0.0.1:{}", system.network.port(workload, port)),
    )]
}

/// Asks the process that stands for the pod that is asked.
async fn lead_on(State(places): State<Places>, uri: Uri) -> Response {
    let address = uri.authority().map(ToString::to_string).unwrap_or_default();
    let place = places.0.lock().unwrap().get(&address).cloned();
    let Some(place) = place else {
        return (StatusCode::BAD_GATEWAY, format!("who is {address}?")).into_response();
    };
    match Client::new(&place).get(uri.path()).await {
        Ok(answer) => {
            (answer.status, [(CONTENT_TYPE, answer.header("content-type").to_owned())], answer.body)
                .into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

//! A real Prometheus with our rules.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use testbed::{Server, free_port, http, observers};

use crate::monitoring;

/// All that our rules know of.
const JOBS: [&str; 4] = ["gateway", "contact-worker", "deployer", "nats"];

/// A Prometheus that scrapes services each second.
pub(crate) struct Prometheus {
    _server: Server,
    http: http::Client,
    folder: PathBuf,
}

/// What a Prometheus is told.
pub(crate) struct Settings<'a> {
    /// The folder with the rules.
    pub(crate) rules: &'a Path,
    /// How often services are scraped and rules evaluated.
    pub(crate) interval: Duration,
    /// Where alerts go: host and port of an Alertmanager.
    pub(crate) alertmanager: Option<&'a str>,
}

impl Prometheus {
    /// Starts one with the rules as they are, for services by their names and admin servers.
    pub(crate) async fn start(folder: &Path, services: &[(&str, &str)]) -> anyhow::Result<Self> {
        let rules = monitoring().join("rules");
        let settings =
            Settings { rules: &rules, interval: Duration::from_secs(1), alertmanager: None };
        let prometheus = Self::start_with(folder, settings).await?;
        services.iter().try_for_each(|(job, url)| prometheus.scrape(job, &[url]))?;
        Ok(prometheus)
    }

    /// Starts one that finds nothing to scrape yet.
    pub(crate) async fn start_with(folder: &Path, settings: Settings<'_>) -> anyhow::Result<Self> {
        let Settings { rules, interval, alertmanager } = settings;
        let interval = format!("{}ms", interval.as_millis());
        let found_in = |job| json!([{"files": [targets(folder, job)], "refresh_interval": "2s"}]);
        let jobs = JOBS.map(|job| json!({"job_name": job, "file_sd_configs": found_in(job)}));
        let alertmanagers: Vec<_> = alertmanager
            .into_iter()
            .map(|address| json!({"static_configs": [{"targets": [address]}]}))
            .collect();
        let config = json!({
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [rules.join("*.yml")],
            "alerting": {"alertmanagers": alertmanagers},
            "scrape_configs": jobs,
        });
        // JSON is YAML.
        fs::write(folder.join("prometheus.yml"), config.to_string())?;
        let address = format!("127.0.0.1:{}", free_port());
        let program = observers::prometheus().context("Prometheus is not installed")?;
        // It tells nobody as long as it does not know its Alertmanager, and again after this time only.
        let args = ["--rules.alert.resend-delay=5s"];
        let server = observers::start_prometheus(program, folder, &address, &args).await?;
        let http = http::Client::new(&format!("http://{address}"));
        Ok(Self { _server: server, http, folder: folder.to_owned() })
    }

    /// What is scraped of a job from now on, by the URLs of admin servers. It is noticed within ten seconds.
    pub(crate) fn scrape(&self, job: &str, urls: &[&str]) -> anyhow::Result<()> {
        let addresses: Vec<_> = urls.iter().map(|url| url.trim_start_matches("http://")).collect();
        let file = targets(&self.folder, job);
        // In one step, so that it is never read half written.
        let new = file.with_extension("new");
        fs::write(&new, json!([{"targets": addresses}]).to_string())?;
        Ok(fs::rename(new, file)?)
    }

    /// What an expression finds now.
    pub(crate) async fn query(&self, query: &str) -> anyhow::Result<Value> {
        let body = serde_urlencoded::to_string([("query", query)])?;
        let answer =
            self.http.post("/api/v1/query", "application/x-www-form-urlencoded", body).await?;
        ensure!(answer.status.is_success(), "{query}: {}", answer.text());
        Ok(answer.json()["data"]["result"].clone())
    }

    /// Whether an expression finds nothing now.
    pub(crate) async fn finds_nothing(&self, query: &str) -> Option<()> {
        let found = self.query(query).await.ok()?;
        found.as_array().is_some_and(Vec::is_empty).then_some(())
    }

    /// Each rule and its expression. A rule that cannot be evaluated is an error.
    pub(crate) async fn rules(&self) -> anyhow::Result<Vec<(String, String)>> {
        let rules = self.all_rules().await?;
        let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        let found: Vec<_> =
            rules.iter().map(|rule| (text(rule, "name"), text(rule, "query"))).collect();
        ensure!(found.len() > 30, "{} rules", found.len());
        Ok(found)
    }

    /// All that Prometheus tells of each alert's rule.
    pub(crate) async fn alert_rules(&self) -> anyhow::Result<Vec<Value>> {
        let mut rules = self.all_rules().await?;
        rules.retain(|rule| rule["type"] == "alerting");
        Ok(rules)
    }

    async fn all_rules(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.http.get("/api/v1/rules").await?.json();
        let groups = answer["data"]["groups"].as_array().into_iter().flatten();
        let rules: Vec<_> =
            groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
        for rule in &rules {
            ensure!(rule["health"] == "ok", "{rule}");
        }
        Ok(rules)
    }
}

/// The file in which Prometheus finds what to scrape of a job.
fn targets(folder: &Path, job: &str) -> PathBuf {
    folder.join(format!("{job}.json"))
}

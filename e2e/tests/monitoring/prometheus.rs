//! A real Prometheus with our rules.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::{Server, free_port, http};

use crate::{monitoring, spec, start};

/// A Prometheus that scrapes services each second.
pub(crate) struct Prometheus {
    _server: Server,
    http: http::Client,
}

impl Prometheus {
    /// Starts one for services, by their names and admin servers.
    pub(crate) async fn start(folder: &Path, services: &[(&str, &str)]) -> anyhow::Result<Self> {
        let jobs: Vec<_> = services
            .iter()
            .map(|(job, url)| {
                let address = url.trim_start_matches("http://");
                json!({"job_name": job, "static_configs": [{"targets": [address]}]})
            })
            .collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [monitoring().join("rules/*.yml")],
            "scrape_configs": jobs,
        });
        // JSON is YAML.
        fs::write(folder.join("prometheus.yml"), config.to_string())?;
        let address = format!("127.0.0.1:{}", free_port());
        let spec = spec("prometheus", folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args([format!("--web.listen-address={address}")]);
        let mut server = start(spec)?;
        let http = http::Client::new(&format!("http://{address}"));
        server
            .ready(Duration::from_secs(30), || async {
                http.get("/-/ready").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
            })
            .await?;
        Ok(Self { _server: server, http })
    }

    /// What an expression finds now.
    pub(crate) async fn query(&self, query: &str) -> anyhow::Result<Value> {
        let body = serde_urlencoded::to_string([("query", query)])?;
        let answer = self.http.post("/api/v1/query", "application/x-www-form-urlencoded", body).await?;
        ensure!(answer.status.is_success(), "{query}: {}", answer.text());
        Ok(answer.json()["data"]["result"].clone())
    }

    /// Each rule and its expression. A rule that cannot be evaluated is an error.
    pub(crate) async fn rules(&self) -> anyhow::Result<Vec<(String, String)>> {
        let answer = self.http.get("/api/v1/rules").await?.json();
        let mut found = Vec::new();
        for rule in answer["data"]["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
        {
            ensure!(rule["health"] == "ok", "{rule}");
            let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            found.push((text("name"), text("query")));
        }
        ensure!(found.len() > 30, "{} rules", found.len());
        Ok(found)
    }
}

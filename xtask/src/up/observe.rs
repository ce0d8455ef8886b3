//! `cargo xtask up --observe`: Prometheus with our rules, Alertmanager and Jaeger, beside everything else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use testbed::{Jaeger, Server, Spec, http, observers, workspace_folder};

use super::stack::{new_log, usual_port};
use crate::run::say;

/// The ports of `monitoring/prometheus-up.yml`. Prometheus' own comes after them: 9090 is that of a service's metrics there.
pub(super) const GATEWAY: u16 = 9090;
pub(super) const WORKER: u16 = 9091;
pub(super) const DEPLOYER: u16 = 9092;
const ALERTMANAGER: u16 = 9093;
const PROMETHEUS: u16 = 9094;

/// What a Jaeger shows that was built without its pages. Its Go module does not hold them.
const NO_PAGES: &str = "This is not the Jaeger UI";

/// The programs that are no part of our tools.
pub(crate) struct Programs {
    prometheus: PathBuf,
    alertmanager: PathBuf,
}

/// Where traces go, and where they are looked at.
pub(crate) struct Traces {
    pub(crate) jaeger: Jaeger,
    /// As the gateway is told it, with `{trace_id}`.
    link: String,
}

/// What watches the services' metrics.
pub(crate) struct Metrics {
    pub(crate) prometheus: Server,
    pub(crate) alertmanager: Server,
    urls: [String; 2],
}

impl Programs {
    /// Finds them before anything is started.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let advice = "--observe needs both Prometheus and Alertmanager (Debian: prometheus, prometheus-alertmanager)";
        let missing = |name: &str| format!("{name} is not on the PATH; {advice}");
        Ok(Self {
            prometheus: observers::prometheus().with_context(|| missing("prometheus"))?,
            alertmanager: observers::alertmanager().with_context(|| missing("alertmanager"))?,
        })
    }
}

impl Traces {
    /// Starts a Jaeger.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let jaeger = Jaeger::start(&new_log(folder, "jaeger")).await?;
        let pages = http::Client::new(jaeger.url()).get("/").await?.text();
        let path = if pages.contains(NO_PAGES) {
            "api/traces/{trace_id}?prettyPrint=true"
        } else {
            "trace/{trace_id}"
        };
        let link = format!("{}/{path}", jaeger.url());
        Ok(Self { jaeger, link })
    }

    /// A service that sends its traces here, and links them if it links anything.
    pub(crate) fn of(&self, spec: Spec) -> Spec {
        spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", self.jaeger.endpoint()).env("TRACE_URL", &self.link)
    }

    /// Where a trace is shown.
    pub(crate) fn link(&self, trace_id: &str) -> String {
        self.link.replace("{trace_id}", trace_id)
    }
}

impl Metrics {
    /// Starts both. `scraped` are ports of `monitoring/prometheus-up.yml`, and the URLs that stand behind them here.
    pub(crate) async fn start(
        folder: &Path,
        programs: &Programs,
        scraped: &[(u16, &str)],
    ) -> anyhow::Result<Self> {
        let address = |port: u16, what: &str| format!("127.0.0.1:{}", usual_port(port, what));
        let of_prometheus = address(PROMETHEUS, "Prometheus");
        let of_alertmanager = address(ALERTMANAGER, "Alertmanager");
        let (prometheus, alertmanager) =
            (new_log(folder, "prometheus"), new_log(folder, "alertmanager"));
        for folder in [&prometheus, &alertmanager] {
            fs::create_dir_all(folder)?;
        }
        let mut moved = vec![(ALERTMANAGER, of_alertmanager.as_str())];
        moved.extend(scraped.iter().map(|(port, url)| (*port, url.trim_start_matches("http://"))));
        fs::write(
            prometheus.join("prometheus.yml"),
            prometheus_settings(&shipped("prometheus-up.yml")?, &moved)?,
        )?;
        fs::write(
            alertmanager.join("alertmanager.yml"),
            alertmanager_settings(&shipped("alertmanager.yml")?)?,
        )?;

        let (program, folder) = (programs.alertmanager.clone(), &alertmanager);
        let alertmanager = observers::start_alertmanager(program, folder, &of_alertmanager).await?;
        let (program, folder, args) =
            (programs.prometheus.clone(), &prometheus, ["--storage.tsdb.retention.time=1d"]);
        let prometheus =
            observers::start_prometheus(program, folder, &of_prometheus, &args).await?;
        let urls = [of_prometheus, of_alertmanager].map(|address| format!("http://{address}"));
        Ok(Self { prometheus, alertmanager, urls })
    }

    /// Tells where to look.
    pub(crate) fn say_where(&self, traces: &Traces) {
        let [prometheus, alertmanager] = &self.urls;
        say(&format!(
            "\n  Prometheus     {prometheus}/alerts\n  Alertmanager   {alertmanager}/\n  Jaeger         {}\n",
            traces.link("TRACE_ID")
        ));
    }
}

/// A file of `monitoring`.
fn shipped(name: &str) -> anyhow::Result<String> {
    let path = workspace_folder().join("monitoring").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The settings that we ship, with the rules by their whole path, and everything where it is this time.
fn prometheus_settings(text: &str, moved: &[(u16, &str)]) -> anyhow::Result<String> {
    let rules = workspace_folder().join("monitoring/rules/*.yml");
    // Nothing tells of the NATS server here.
    let (text, _) = text
        .split_once("  - job_name: nats")
        .context("monitoring/prometheus-up.yml has no job nats")?;
    let mut settings = String::new();
    let mut found = 0;
    for line in text.lines() {
        // One line has one address, which must not be taken for another once it is replaced.
        let place = moved.iter().find_map(|(port, to)| {
            let usual = format!("\"127.0.0.1:{port}\"");
            line.contains(&usual).then(|| line.replace(&usual, &format!("\"{to}\"")))
        });
        found += usize::from(place.is_some());
        let line = place.unwrap_or_else(|| line.to_owned());
        settings += &line.replace("rules/*.yml", &rules.to_string_lossy());
        settings.push('\n');
    }
    ensure!(
        found == moved.len(),
        "monitoring/prometheus-up.yml names other addresses than cargo xtask up does"
    );
    Ok(settings)
}

/// The routes that we ship, to receivers that tell nobody: who runs this looks at the pages.
fn alertmanager_settings(text: &str) -> anyhow::Result<String> {
    let (routes, receivers) =
        text.split_once("\nreceivers:\n").context("alertmanager.yml has no receivers")?;
    let names = receivers.lines().filter(|line| line.starts_with("  - name: "));
    Ok(names.fold(format!("{routes}\nreceivers:\n"), |settings, name| settings + name + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_ship_is_moved_to_where_things_are() {
        let moved = [
            (9093, "127.0.0.1:1"),
            (9090, "127.0.0.1:9091"),
            (9091, "127.0.0.1:2"),
            (9092, "127.0.0.1:3"),
        ];
        let settings = prometheus_settings(&shipped("prometheus-up.yml").unwrap(), &moved).unwrap();
        for (_, address) in moved {
            assert_eq!(
                settings.matches(&format!("\"{address}\"")).count(),
                1,
                "{address}: {settings}"
            );
        }
        assert!(settings.contains("monitoring/rules/*.yml"), "{settings}");
        let settings = alertmanager_settings(&shipped("alertmanager.yml").unwrap()).unwrap();
        assert!(
            settings.contains("receiver: wake") && settings.contains("- name: wake\n"),
            "{settings}"
        );
        assert!(!settings.contains("webhook_configs"), "{settings}");
    }
}

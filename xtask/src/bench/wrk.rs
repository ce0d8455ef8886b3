//! Load by `wrk`, which posts contacts as fast as they are answered.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use testbed::on_path;

use super::servers::number;
use crate::run::{command, output};

/// The contacts that wrk posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Contacts that are accepted.
    Valid,
    /// Contacts of the same size with an invalid address.
    Invalid,
}

/// The answers that wrk received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The number of answers.
    pub(crate) answers: f64,
    /// The number of answers a second.
    pub(crate) rate: f64,
    /// The median latency, in milliseconds.
    pub(crate) p50: f64,
    /// The latency that one in a hundred exceeds, in milliseconds.
    pub(crate) p99: f64,
    /// The number of answers other than a success.
    pub(crate) refused: f64,
    /// The number of requests without an answer.
    pub(crate) failed: f64,
}

/// Fails if wrk is not installed.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(
        on_path("wrk").is_some(),
        "wrk makes the load and has to be on the PATH: `apt-get install wrk`"
    );
    Ok(())
}

/// Posts contacts over a number of connections for a time.
pub(crate) async fn post_contacts(
    url: &str,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    post(url, connections, time, Body::Valid).await
}

/// Posts contacts of a kind over a number of connections for a time.
pub(crate) async fn post(
    url: &str,
    connections: usize,
    time: Duration,
    body: Body,
) -> anyhow::Result<Seen> {
    let threads = connections.min(2).to_string();
    let (connections, time) = (connections.to_string(), format!("{}s", time.as_secs()));
    let mut run =
        command("wrk", ["-t", &threads, "-c", &connections, "-d", &time, "--timeout", "30s"]);
    run.args(["--script", "bench/load/contact.lua", url]);
    if body == Body::Invalid {
        run.args(["--", "invalid"]);
    }
    let text = tokio::task::spawn_blocking(move || output(run)).await??;
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Seen> {
    let line = text.lines().find_map(|line| line.strip_prefix("result "));
    let result: Value =
        serde_json::from_str(line.with_context(|| format!("no result in what wrk said: {text}"))?)?;
    let get = |name| number(&result, name);
    let answers = get("requests")?;
    let seen = Seen {
        answers,
        rate: answers / get("seconds")?,
        p50: get("p50_ms")?,
        p99: get("p99_ms")?,
        refused: get("refused")?,
        failed: get("failed")?,
    };
    ensure!(seen.rate > 0.0, "not one request was answered");
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_line_is_found() {
        let text = "Running 4s test\nresult {\"seconds\": 4.0, \"requests\": 100, \"failed\": 1, \"refused\": 2, \
                    \"p50_ms\": 1.5, \"p99_ms\": 9.0}\n";
        assert_eq!(
            parse(text).unwrap(),
            Seen { answers: 100.0, rate: 25.0, p50: 1.5, p99: 9.0, refused: 2.0, failed: 1.0 }
        );
        assert!(parse("unable to connect").is_err());
    }
}

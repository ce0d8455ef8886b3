//! Each row of the table in `docs/ci.md`, posted as it is there: its build ends as the table says.

use std::{fs, path::PathBuf};

use serde_json::Value;
use testbed::{
    Gateway, eventually,
    http::{Answer, Client},
    system::CI_TOKEN,
};

use crate::world::{Builds, cluster};

/// A row.
struct Row {
    to: String,
    example: String,
    jobs: Option<String>,
    ends: String,
}

fn docs() -> PathBuf {
    testbed::workspace_folder().join("docs")
}

/// The file that a cell links to.
fn link(cell: &str) -> Option<String> {
    let (_, rest) = cell.split_once("](")?;
    rest.split_once(')').map(|(path, _)| path.to_owned())
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(docs().join("ci.md")).unwrap();
    let cells = text
        .lines()
        .filter(|line| line.contains("](examples/"))
        .map(|line| line.split('|').collect::<Vec<_>>());
    let row = |cells: Vec<&str>| Row {
        to: cells[2].trim().trim_matches('`').replace("{token}", CI_TOKEN),
        example: link(cells[3]).unwrap(),
        jobs: link(cells[4]),
        ends: cells[5].trim().to_owned(),
    };
    cells.map(row).collect()
}

/// A client with the headers that were recorded beside an example.
fn client(http: &Client, example: &str) -> Client {
    let Some(name) = example.strip_suffix(".body") else {
        return http.with("content-type", "application/json");
    };
    let headers = fs::read(docs().join(format!("{name}.headers"))).unwrap();
    let headers = String::from_utf8_lossy(&headers).into_owned();
    let own = ["host", "content-length", "connection", "accept-encoding"];
    let pairs = headers.lines().filter_map(|line| line.split_once(": "));
    pairs
        .filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()))
        .fold(http.clone(), |client, (name, value)| client.with(&name.to_ascii_lowercase(), value))
}

async fn post(gateway: &Gateway, row: &Row) -> Answer {
    let (method, body) = (http::Method::POST, fs::read(docs().join(&row.example)).unwrap());
    let http = if row.to.contains(CI_TOKEN) { gateway.http.clone() } else { gateway.ci() };
    client(&http, &row.example).send(method, &row.to, body).await.unwrap()
}

fn ids(answer: &Value) -> Vec<String> {
    let one = |receipt: &Value| receipt["id"].as_str().map(str::to_owned);
    let batch = answer["builds"].as_array().map(|builds| builds.iter().filter_map(one).collect());
    batch.unwrap_or_else(|| one(answer).into_iter().collect())
}

#[tokio::test]
async fn every_format_of_the_table_ends_in_a_verdict() {
    let mut world = Builds::start(cluster().await, "formats", "60s").await;
    // None of them may find that its version is older than what runs, or that nothing is there to verify.
    let first = world.verdict(&world.post("v41-abc1234").await).await;
    assert_eq!(first["state"], "succeeded", "{first:#}");
    let rows = rows();
    assert!(rows.len() >= 16, "{} rows", rows.len());
    let mut jobs = None;
    for row in rows {
        if row.jobs.is_some() && row.jobs != jobs {
            jobs.clone_from(&row.jobs);
            let file = docs().join(row.jobs.as_deref().unwrap());
            world.gateway.server.kill();
            let spec = world.gateway.server.spec_mut();
            *spec = spec.clone().env("JOBS_FILE", file);
            world.gateway.server.start_again().unwrap();
            world.gateway.ready().await.unwrap();
        }
        let answer = post(&world.gateway, &row).await;
        assert_eq!(answer.status, 202, "{}: {}", row.example, answer.text());
        let ids = ids(&answer.json());
        assert!(!ids.is_empty(), "{}", answer.text());
        for id in &ids {
            let build = world.verdict(id).await;
            let expected = if row.ends == "rejected" { "rejected" } else { "succeeded" };
            let state = &build["state"];
            assert!(
                *state == expected || ids.len() > 1,
                "{} ended {state}: {build:#}",
                row.example
            );
        }
        // An event sent again is the same build.
        if row.example != "examples/native.json" {
            let again = post(&world.gateway, &row).await;
            assert_eq!(answer.json(), again.json(), "{}", row.example);
        }
    }
    let running = eventually("the image", || async {
        let target = world.gateway.ci().get("/api/targets/portfolio").await.ok()?.json();
        target["running"].as_str().map(str::to_owned)
    })
    .await;
    assert!(running.contains("v42-abc1234"), "{running}");
}

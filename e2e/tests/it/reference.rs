//! The API does what its reference says: Schemathesis makes requests of every kind from it, right ones and wrong ones, and
//! holds each answer against it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use testbed::{
    system::{CI_TOKEN, OPERATOR_TOKEN},
    tools_folder, workspace_folder,
};
use tokio::process::Command;

use crate::world::{Builds, cluster};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_api_does_what_its_reference_says() {
    let builds = Builds::start(cluster().await, "reference", "20s").await;
    let described = builds.gateway.http.get("/openapi.json").await.unwrap().json();
    let bodies =
        described["paths"]["/api/builds"]["post"]["requestBody"]["content"].as_object().unwrap();
    let without = bodies
        .iter()
        .filter(|(_, body)| body["examples"].as_object().is_none_or(serde_json::Map::is_empty));
    assert_eq!(
        without.map(|(kind, _)| kind).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "have no example"
    );
    let good = builds.post("v1-0000001").await;
    builds.verdict(&good).await;

    let folder = builds.scratch.folder("schemathesis").unwrap();
    let hooks: PathBuf = workspace_folder().join("e2e/tests/reference/hooks.py");
    let config = format!(
        "hooks = {hooks:?}\n[auth.openapi.ci]\nbearer = {CI_TOKEN:?}\n[auth.openapi.operator]\nbearer = {OPERATOR_TOKEN:?}\n\
         [parameters]\n\"path.name\" = \"portfolio\"\n\"path.token\" = {CI_TOKEN:?}\n\
         [[operations]]\ninclude-path = \"/api/rollouts/events\"\nparameters = {{ \"query.wait\" = \"10ms\" }}\n"
    );
    std::fs::write(folder.join("schemathesis.toml"), config).unwrap();
    let run = Command::new("python3")
        .args([
            "-m",
            "schemathesis.cli",
            "run",
            "--checks=all",
            "--max-examples=20",
            "--continue-on-failure",
            "--no-color",
        ])
        // The same requests each time: what other seeds find belongs into the tables of the unit tests.
        .args(["--request-timeout=65", "--suppress-health-check=all", "--seed=1"])
        .arg(format!("{}/openapi.json", builds.gateway.url))
        .env("PYTHONPATH", tools_folder().join("schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    // Each operation was tried.
    assert!(told.contains("Tested: 16"), "{told}");
}

//! What has to fit together, seen on the objects as the API server has them.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use testbed::{service_binary, workspace_folder};

use crate::installed::NAMESPACE;

/// What the label says, by which everything is found.
const NAME: &str = "app.kubernetes.io/name";

/// Our images, and the program in each.
pub(crate) const OURS: [(&str, &str); 4] = [
    ("mastereflex123/portfolio", "gateway"),
    ("mastereflex123/portfolio-contact-worker", "contact-worker"),
    ("mastereflex123/portfolio-deployer", "deployer"),
    ("mastereflex123/portfolio-deployer-git", "deployer"),
];

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The containers of all workloads, those that come first among them.
fn containers(objects: &[Value]) -> Vec<&Value> {
    let specs = objects.iter().map(|object| &object["spec"]["template"]["spec"]);
    specs
        .flat_map(|spec| list(&spec["initContainers"]).iter().chain(list(&spec["containers"])))
        .collect()
}

/// Every image has a tag, which is not `latest`.
pub(crate) fn images_are_pinned(objects: &[Value]) {
    let containers = containers(objects);
    assert!(containers.len() > 8, "{containers:#?}");
    for container in containers {
        let image = text(&container["image"]);
        let name = image.rsplit('/').next().unwrap();
        assert!(name.contains(':') && !name.ends_with(":latest"), "{image}");
    }
}

/// Each of our processes is given no variable that it does not know.
pub(crate) fn variables_are_known(objects: &[Value]) {
    for container in containers(objects) {
        let repository =
            text(&container["image"]).rsplit_once(':').unwrap().0.trim_start_matches("docker.io/");
        let Some((_, service)) = OURS.iter().find(|(image, _)| *image == repository) else {
            continue;
        };
        let help: String =
            [&["--help"][..], &["provision", "--help"]].map(|args| help(service, args)).concat();
        for variable in variables(objects, container) {
            // Those are the OpenTelemetry SDK's own.
            let known =
                variable.starts_with("OTEL_") || help.contains(&format!("[env: {variable}"));
            assert!(known, "{service} does not know {variable}");
        }
    }
}

fn help(service: &str, args: &[&str]) -> String {
    let output =
        Command::new(service_binary(service).unwrap()).args(args).env_clear().output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The names of a container's variables, also of those from `ConfigMap`s.
fn variables(objects: &[Value], container: &Value) -> BTreeSet<String> {
    let named = list(&container["env"]).iter().map(|variable| text(&variable["name"]).to_owned());
    let maps = list(&container["envFrom"]).iter().flat_map(|from| {
        let name = &from["configMapRef"]["name"];
        let map = objects
            .iter()
            .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == *name);
        map.unwrap()["data"].as_object().unwrap().keys().cloned()
    });
    named.chain(maps).collect()
}

/// `monitoring/prometheus.yml` looks for these labels and ports.
pub(crate) fn prometheus_finds_everybody(objects: &[Value]) {
    for (name, port) in [
        ("gateway", "admin"),
        ("contact-worker", "admin"),
        ("deployer", "admin"),
        ("nats", "metrics"),
    ] {
        let templates = objects.iter().map(|object| &object["spec"]["template"]);
        let found: Vec<_> =
            templates.filter(|template| template["metadata"]["labels"][NAME] == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        let ports = list(&found[0]["spec"]["containers"])
            .iter()
            .flat_map(|container| list(&container["ports"]));
        let ports: Vec<_> = ports.filter(|found| found["name"] == port).collect();
        assert_eq!(ports.len(), 1, "{name}");
        assert_eq!(ports[0]["containerPort"], if name == "nats" { 7_777 } else { 9_090 });
    }
}

/// The deployer's targets are what it has rights to, and what ArgoCD leaves to it.
pub(crate) fn everybody_names_the_same_targets(objects: &[Value]) {
    let named = |kind: &str, name: &str| {
        objects
            .iter()
            .find(|object| {
                object["kind"] == kind && text(&object["metadata"]["name"]).starts_with(name)
            })
            .unwrap()
    };
    let targets = text(&named("ConfigMap", "deployer-")["data"]["targets.yaml"]);
    let targets: BTreeSet<_> =
        targets.lines().filter_map(|line| line.trim().strip_prefix("deployment: ")).collect();
    assert!(!targets.is_empty());
    let rules = list(&named("Role", "deployer")["rules"]);
    let rights: BTreeSet<_> =
        rules.iter().flat_map(|rule| list(&rule["resourceNames"])).map(text).collect();
    assert_eq!(targets, rights);

    let application =
        fs::read_to_string(workspace_folder().join("argocd/application.yaml")).unwrap();
    let (_, ignored) = application.split_once("ignoreDifferences:").unwrap();
    let ignored: BTreeSet<_> =
        ignored.lines().filter_map(|line| line.trim().strip_prefix("name: ")).collect();
    assert_eq!(targets, ignored);
    for target in &targets {
        let deployment = named("Deployment", target);
        assert_eq!(deployment["metadata"]["namespace"], NAMESPACE);
    }
}

//! A cluster's network, on one machine: each port of each container has a port of its own here, and names lead where the
//! Services of the manifests say. Whoever is not among them is in a table, or the test fails.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::free_port;

use crate::{
    checks::{list, text},
    installed::NAMESPACE,
    pods::templates,
};

pub(crate) struct Network<'a> {
    objects: &'a [Value],
    /// By pod, and the port that its container says.
    ports: BTreeMap<(String, u16), u16>,
    /// Who is no pod of the manifests, as host and port, and who answers for it here.
    elsewhere: Vec<(String, String)>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(objects: &'a [Value], elsewhere: Vec<(String, String)>) -> Self {
        let mut ports = BTreeMap::new();
        for (pod, template) in templates(objects) {
            let containers = list(&template["spec"]["containers"]).iter();
            for port in containers.flat_map(|container| list(&container["ports"])) {
                ports.insert((pod.clone(), number(&port["containerPort"])), free_port());
            }
        }
        Self { objects, ports, elsewhere }
    }

    /// The port here that stands for one of a pod.
    pub(crate) fn port(&self, pod: &str, port: u16) -> u16 {
        let found = self.ports.get(&(pod.to_owned(), port));
        *found.unwrap_or_else(|| panic!("no container of {pod} has the port {port}"))
    }

    /// A text of the manifests, as a pod reads it, with what each address in it is here.
    pub(crate) fn translate(&self, pod: &str, text: &str) -> String {
        let in_word = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        let (mut here, mut rest) = (String::new(), text);
        while let Some(start) = rest.find(in_word) {
            here += &rest[..start];
            let word = &rest[start..];
            let word = &word[..word.find(|c: char| !in_word(c)).unwrap_or(word.len())];
            rest = &rest[start + word.len()..];
            // Not the path of a `file:///`.
            match address(word, here.ends_with("://")) {
                // Before an @ stand user and password.
                Some((host, port)) if !rest.starts_with('@') => here += &self.find(pod, host, port),
                _ => here += word,
            }
        }
        here + rest
    }

    fn find(&self, pod: &str, host: &str, port: u16) -> String {
        let address = format!("{host}:{port}");
        if let Some((_, here)) = self.elsewhere.iter().find(|(known, _)| *known == address) {
            return here.clone();
        }
        if ["127.0.0.1", "0.0.0.0"].contains(&host) {
            return format!("127.0.0.1:{}", self.port(pod, port));
        }
        // POD.SERVICE.NAMESPACE.svc, of which most may be left out.
        let name = host.strip_suffix(".svc").unwrap_or(host);
        let name = name.strip_suffix(&format!(".{NAMESPACE}")).unwrap_or(name);
        let (of_pod, service) =
            name.rsplit_once('.').map_or((None, name), |(pod, service)| (Some(pod), service));
        let is_service =
            |object: &&Value| object["kind"] == "Service" && object["metadata"]["name"] == service;
        let service =
            self.objects.iter().find(is_service).unwrap_or_else(|| panic!("who is {host}?"));
        let ports = list(&service["spec"]["ports"]);
        let found = ports.iter().find(|found| found["port"] == port);
        let target = &found.unwrap_or_else(|| panic!("{host} has no port {port}"))["targetPort"];
        let mut pods = templates(self.objects)
            .into_iter()
            .filter(|(_, template)| selects(&service["spec"], template));
        // cluster.conf names three servers, also where there is one and it is not used. Nobody answers to the others' names.
        let found = pods.find(|(pod, _)| of_pod.is_none_or(|name| name == pod));
        let Some((pod, template)) = found else { return address };
        // A name, which certificates and their checks are about.
        format!("localhost:{}", self.port(&pod, container_port(&template["spec"], text(target))))
    }
}

/// The number of a container's port, by its name.
pub(crate) fn container_port(spec: &Value, name: &str) -> u16 {
    let mut ports =
        list(&spec["containers"]).iter().flat_map(|container| list(&container["ports"]));
    let found = ports.find(|port| port["name"] == name);
    number(&found.unwrap_or_else(|| panic!("no port is called {name}"))["containerPort"])
}

fn number(port: &Value) -> u16 {
    u16::try_from(port.as_u64().unwrap()).unwrap()
}

fn selects(service: &Value, template: &Value) -> bool {
    let labels = &template["metadata"]["labels"];
    service["selector"]
        .as_object()
        .unwrap()
        .iter()
        .all(|(name, value)| labels[name.as_str()] == *value)
}

/// Host and port, if a word is an address: it ends in a port, or is the host of an `http://` without one.
fn address(word: &str, is_host: bool) -> Option<(&str, u16)> {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => Some((host, port.parse().ok()?)),
        None if is_host => Some((word, 80)),
        _ => None,
    }
}

/// Addresses are translated, and nothing else that looks like one.
pub(crate) fn tells_addresses_from_paths() {
    let elsewhere = [("mongodb-service:27017", "localhost:1"), ("portfolio:80", "localhost:2")];
    let elsewhere = elsewhere.map(|(known, here)| (known.to_owned(), here.to_owned()));
    let network = Network::new(&[], elsewhere.into());
    for (text, here) in [
        ("mongodb://mongodb-service:27017/?a=b", "mongodb://localhost:1/?a=b"),
        ("{ url: \"http://portfolio/health\" }", "{ url: \"http://localhost:2/health\" }"),
        ("file:///tmp/portfolio-1/git", "file:///tmp/portfolio-1/git"),
        ("git@github.com:a/b.git and a//b", "git@github.com:a/b.git and a//b"),
    ] {
        assert_eq!(network.translate("", text), here);
    }
}

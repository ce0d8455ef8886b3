//! A pod of the manifests as processes of this machine: its volumes are folders, and each container is a program with exactly
//! the arguments, the environment and the files that it is given.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use testbed::{
    Server, Spec, find_tool, http::Client, on_path, path_with, service_binary, tools_folder, within,
};
use tokio::net::TcpStream;

use crate::{
    checks::{OURS, list, text},
    network::{Network, container_port},
};

/// How long a process may take to get ready, and a command to come to its end.
const LIMIT: Duration = Duration::from_mins(3);

/// An image of others whose program is its entry point.
const EXPORTER: &str = "natsio/prometheus-nats-exporter";

/// The pods of all workloads, by name, with their templates: as many as a `StatefulSet` asks for, and one of everything
/// else.
pub(crate) fn templates(objects: &[Value]) -> Vec<(String, &Value)> {
    let mut pods = Vec::new();
    for object in objects {
        let (name, template) = (text(&object["metadata"]["name"]), &object["spec"]["template"]);
        match text(&object["kind"]) {
            "Deployment" | "Job" => pods.push((name.to_owned(), template)),
            "StatefulSet" => {
                let replicas = object["spec"]["replicas"].as_u64().unwrap();
                pods.extend((0..replicas).map(|index| (format!("{name}-{index}"), template)));
            }
            _ => {}
        }
    }
    pods
}

pub(crate) struct Pod<'a> {
    pub(crate) name: String,
    /// Its `spec`.
    pub(crate) spec: &'a Value,
    objects: &'a [Value],
    network: &'a Network<'a>,
    /// With a folder for each volume.
    folder: PathBuf,
    /// The folders, by where containers see them.
    mounts: BTreeMap<&'a str, PathBuf>,
}

impl<'a> Pod<'a> {
    /// Writes its volumes.
    pub(crate) fn new(
        objects: &'a [Value],
        network: &'a Network<'a>,
        name: &str,
        scratch: &Path,
    ) -> Self {
        let found = templates(objects).into_iter().find(|(found, _)| found == name);
        let (_, template) = found.unwrap_or_else(|| panic!("no pod is called {name}"));
        let spec = &template["spec"];
        let folder = scratch.join("pods").join(name);
        let mut mounts = BTreeMap::new();
        for mount in containers(spec).flat_map(|container| list(&container["volumeMounts"])) {
            assert!(mount["subPath"].is_null(), "{mount}");
            let volume = folder.join(text(&mount["name"]));
            // A claim's is in no list of volumes.
            fs::create_dir_all(&volume).unwrap();
            let before = mounts.insert(text(&mount["mountPath"]), volume.clone());
            assert!(before.is_none_or(|before| before == volume), "{mount}");
        }
        let pod = Self { name: name.to_owned(), spec, objects, network, folder, mounts };
        for volume in list(&spec["volumes"]) {
            pod.write(volume);
        }
        pod
    }

    fn write(&self, volume: &Value) {
        if volume["emptyDir"].is_object() {
            return;
        }
        let folder = self.folder.join(text(&volume["name"]));
        let (sources, mode) = match &volume["projected"] {
            Value::Null => (slice::from_ref(volume), default_mode(volume)),
            projected => (list(&projected["sources"]), &projected["defaultMode"]),
        };
        let mode = u32::try_from(mode.as_u64().unwrap()).unwrap();
        for source in sources {
            let kind = if source["secret"].is_object() { "Secret" } else { "ConfigMap" };
            let source = if kind == "Secret" { &source["secret"] } else { &source["configMap"] };
            let data = self
                .data(kind, source["name"].as_str().unwrap_or_else(|| text(&source["secretName"])));
            let all = data.keys().map(|key| (key.as_str(), key.as_str()));
            let items =
                list(&source["items"]).iter().map(|item| (text(&item["key"]), text(&item["path"])));
            let items: Vec<_> =
                if source["items"].is_null() { all.collect() } else { items.collect() };
            for (key, path) in items {
                // What is secret names nobody, and might look as if it did.
                let content =
                    if kind == "Secret" { data[key].clone() } else { self.file_here(&data[key]) };
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                // In a pod, a key is not its user's own, and ssh does not look at the others' rights.
                let mode = if self.is_key_of_ssh(kind, source) { mode & 0o700 } else { mode };
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    fn is_key_of_ssh(&self, kind: &str, source: &Value) -> bool {
        let is_it = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"] == source["name"]
        };
        self.objects
            .iter()
            .find(is_it)
            .is_some_and(|object| object["type"] == "kubernetes.io/ssh-auth")
    }

    /// What a `Secret` or `ConfigMap` holds.
    fn data(&self, kind: &str, name: &str) -> BTreeMap<String, Vec<u8>> {
        let found = self
            .objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        let data = found.unwrap_or_else(|| panic!("{}: no {kind} {name}", self.name))["data"]
            .as_object()
            .unwrap();
        let decode = |value: &Value| match kind {
            "Secret" => STANDARD.decode(text(value)).unwrap(),
            _ => text(value).as_bytes().to_vec(),
        };
        data.iter().map(|(key, value)| (key.clone(), decode(value))).collect()
    }

    /// A file of configuration, with the addresses and folders that are here.
    fn file_here(&self, content: &[u8]) -> Vec<u8> {
        let content = self.network.translate(&self.name, str::from_utf8(content).unwrap());
        let words =
            content.split(' ').map(|word| self.path_here(word).unwrap_or_else(|| word.to_owned()));
        words.collect::<Vec<_>>().join(" ").into_bytes()
    }

    /// A word of a command line or an environment, with the addresses and folders that are here.
    fn word_here(&self, word: &str) -> String {
        // --flag=value
        let (flag, value) = word.split_at(if word.starts_with("--") {
            word.find('=').map_or(0, |at| at + 1)
        } else {
            0
        });
        if value.starts_with('/') {
            let path = self
                .path_here(value)
                .unwrap_or_else(|| panic!("{}: {value} is in no volume", self.name));
            return format!("{flag}{path}");
        }
        self.network.translate(&self.name, word)
    }

    /// A path in a volume.
    fn path_here(&self, path: &str) -> Option<String> {
        // The longer of two that begin alike comes later.
        self.mounts.iter().rev().find_map(|(mount, folder)| {
            let rest = path.strip_prefix(mount)?;
            (rest.is_empty() || rest.starts_with('/'))
                .then(|| format!("{}{rest}", folder.display()))
        })
    }

    fn container(&self, name: &str) -> &'a Value {
        let found = containers(self.spec).find(|container| container["name"] == name);
        found.unwrap_or_else(|| panic!("{} has no container {name}", self.name))
    }

    /// How a container's process is started.
    pub(crate) fn process(&self, container: &str) -> Spec {
        let value = self.container(container);
        let words = list(&value["command"]).iter().chain(list(&value["args"])).map(text);
        let mut words: Vec<_> = words.map(str::to_owned).collect();
        let repository =
            text(&value["image"]).rsplit_once(':').unwrap().0.trim_start_matches("docker.io/");
        let program = match OURS.iter().find(|(image, _)| *image == repository) {
            Some((_, service)) => service_binary(service).unwrap(),
            None if repository == EXPORTER => program("prometheus-nats-exporter"),
            None => program(&words.remove(0)),
        };
        let words: Vec<_> = words.iter().flat_map(|word| self.words_here(word)).collect();
        let folder = value["workingDir"]
            .as_str()
            .map_or_else(|| self.folder.clone(), |folder| self.word_here(folder).into());
        let mut spec =
            self.in_environment(Spec::new(container, program, &folder).args(words), value);
        // Where they listen by default, each has an address of its own in a cluster.
        for (name, port) in [("LISTEN_ADDR", "http"), ("ADMIN_ADDR", "admin")] {
            assert!(spec.env.iter().all(|(set, _)| set != name), "{container} sets {name}");
            if list(&value["ports"]).iter().any(|found| found["name"] == port) {
                spec = spec.env(name, format!("127.0.0.1:{}", self.port_here(port)));
            }
        }
        spec
    }

    /// A script of bash that runs a command in a container: with its environment, and with its folders in the command.
    pub(crate) fn enter(&self, container: &str, path: &OsStr) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut variables = vec![quoted(&format!("PATH={}", path.display()))];
        for (name, value) in self.environment(self.container(container)) {
            variables.push(quoted(&format!("{name}={}", self.word_here(&value))));
        }
        let mounts = self.mounts.iter().rev().map(|(mount, folder)| {
            // Also as `NAME=PATH`.
            let folder = quoted(&folder.display().to_string());
            format!("    {mount}/*) word={folder}${{word#{mount}}} ;;\n    *={mount}/*) word=${{word%%=*}}={folder}${{word#*={mount}}} ;;\n")
        });
        let (variables, mounts) = (variables.join(" "), mounts.collect::<String>());
        format!(
            "words=()\nfor word; do\n  case $word in\n{mounts}  esac\n  words+=(\"$word\")\ndone\nexec env -i {variables} \"${{words[@]}}\"\n"
        )
    }

    /// The port here that stands for one of ours, by its name.
    pub(crate) fn port_here(&self, name: &str) -> u16 {
        self.network.port(&self.name, container_port(self.spec, name))
    }

    /// A word of a command line, or those that say the same on a machine that others use, too.
    fn words_here(&self, word: &str) -> Vec<String> {
        match word {
            "--bind_ip_all" => vec![
                "--bind_ip=127.0.0.1".to_owned(),
                format!("--port={}", self.port_here("mongodb")),
                // mongod's own default.
                format!("--dbpath={}", self.mounts["/data/db"].display()),
            ],
            "-port=7777" => {
                vec![format!("-port={}", self.port_here("metrics")), "-addr=127.0.0.1".to_owned()]
            }
            word => vec![self.word_here(word)],
        }
    }

    /// A process with the environment of a container, whose programs find each other as they do in its image.
    fn in_environment(&self, spec: Spec, container: &Value) -> Spec {
        let variables = self.environment(container);
        let spec = spec.env("PATH", path_with(&[tools_folder()]));
        variables.iter().fold(spec, |spec, (name, value)| spec.env(name, self.word_here(value)))
    }

    fn environment(&self, container: &Value) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let utf8 = |value: Vec<u8>| String::from_utf8(value).unwrap();
        for from in list(&container["envFrom"]) {
            let data = self.data("ConfigMap", text(&from["configMapRef"]["name"]));
            variables.extend(data.into_iter().map(|(name, value)| (name, utf8(value))));
        }
        for variable in list(&container["env"]) {
            let from = &variable["valueFrom"];
            let value = if let Some(value) = variable["value"].as_str() {
                value.to_owned()
            } else if from["fieldRef"]["fieldPath"] == "metadata.name" {
                self.name.clone()
            } else {
                let key = &from["secretKeyRef"];
                utf8(self.data("Secret", text(&key["name"]))[text(&key["key"])].clone())
            };
            assert!(!value.contains("$("), "{variable} refers to another");
            variables.insert(text(&variable["name"]).to_owned(), value);
        }
        variables
    }

    /// Runs a container to its end.
    pub(crate) async fn run(&self, container: &str) {
        finish(self.process(container)).await;
    }

    /// Waits until all of a container's probes succeed, each asked again until it does.
    pub(crate) async fn ready(&self, container: &str, server: &mut Server) {
        let value = self.container(container);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"].map(|name| &value[name]) {
            let port = |name: &Value| format!("127.0.0.1:{}", self.port_here(text(name)));
            if let Some(path) = probe["httpGet"]["path"].as_str() {
                let client = Client::new(&format!("http://{}", port(&probe["httpGet"]["port"])));
                let ask = || async {
                    client
                        .get(path)
                        .await
                        .ok()
                        .filter(|answer| answer.status.is_success())
                        .map(|_| ())
                };
                server.ready(LIMIT, ask).await.unwrap();
            } else if probe["tcpSocket"].is_object() {
                let address = port(&probe["tcpSocket"]["port"]);
                server
                    .ready(LIMIT, || async { TcpStream::connect(&address).await.ok().map(|_| ()) })
                    .await
                    .unwrap();
            } else if probe["exec"].is_object() {
                let words: Vec<_> = list(&probe["exec"]["command"]).iter().map(text).collect();
                let spec = Spec::new("probe", program(words[0]), &self.folder);
                let spec = spec.args(words[1..].iter().map(|word| self.word_here(word)));
                let spec = self.in_environment(spec, value);
                let succeeds = || async {
                    let mut probe = Server::start(spec.clone()).ok()?;
                    probe.wait(LIMIT).await.ok()?.success().then_some(())
                };
                within(LIMIT, &format!("a probe of {container}"), succeeds).await.unwrap();
                server.check_running().unwrap();
            }
        }
    }
}

/// Runs a program to its end, which has to be a good one.
async fn finish(spec: Spec) {
    let mut server = Server::start(spec).unwrap();
    let status = server.wait(LIMIT).await.unwrap();
    assert!(status.success(), "{} ended with {status}", server.spec().name);
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(&spec["initContainers"]).iter().chain(list(&spec["containers"]))
}

/// The names of the containers that last as long as their pod.
pub(crate) fn container_names(spec: &Value) -> impl Iterator<Item = &str> {
    list(&spec["containers"]).iter().map(|container| text(&container["name"]))
}

/// The mode of a volume's files.
fn default_mode(volume: &Value) -> &Value {
    let source =
        if volume["secret"].is_object() { &volume["secret"] } else { &volume["configMap"] };
    &source["defaultMode"]
}

/// A server of ours, or what is on any machine.
fn program(name: &str) -> PathBuf {
    let found = find_tool(name).ok().or_else(|| on_path(name));
    found.unwrap_or_else(|| panic!("{name} is not there: run `cargo xtask tools`"))
}

//! What the deployer is told, above all its targets.

use std::{fs, path::PathBuf, time::Duration};

use events::{ImageReference, TargetName};
use runtime::config::{Common, ConfigError, ProvisionArgs, duration};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Takes builds from NATS, rolls them out to Kubernetes Deployments, and reports a verdict that is true.
///
/// Kubernetes is reached as kubectl reaches it: `KUBECONFIG`, `~/.kube/config`, or the service account of its pod.
#[derive(Debug, clap::Parser)]
#[command(name = "deployer", version = runtime::VERSION)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    /// YAML file with the Deployments that get builds
    #[arg(long, env, global = true, value_name = "FILE")]
    targets_file: Option<PathBuf>,

    /// Where people reach the gateway, for links in Kubernetes' events
    #[arg(long, env, value_name = "URL")]
    pub(crate) gateway_url: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What it does in place of deploying.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the streams and consumers that the deployer needs, as a privileged NATS user; never deletes data
    Provision(ProvisionArgs),
}

/// A Deployment that gets builds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// What it is called everywhere.
    pub(crate) name: TargetName,
    /// The repository whose builds it takes.
    #[serde(deserialize_with = "repository")]
    pub(crate) image: ImageReference,
    /// Where the Deployment is.
    pub(crate) namespace: String,
    /// The Deployment's name.
    pub(crate) deployment: String,
    /// The container whose image is set.
    pub(crate) container: String,
    /// How long a rollout may take.
    #[serde(default = "ten_minutes", deserialize_with = "positive_duration")]
    pub(crate) deadline: Duration,
    /// Whether a failed rollout is undone.
    #[serde(default)]
    pub(crate) rollback: bool,
    /// How long a cause that may pass by itself is borne.
    #[serde(default = "half_a_minute", deserialize_with = "positive_duration")]
    pub(crate) failure_grace: Duration,
    /// What the new version is asked once it is rolled out.
    #[serde(default)]
    pub(crate) smoke: Option<Smoke>,
    /// The Argo Application that has to agree.
    #[serde(default)]
    pub(crate) argocd: Option<Argocd>,
}

/// A question that only the new version answers right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smoke {
    /// What is asked.
    pub(crate) url: String,
    /// Where the answer names its version, as a JSON Pointer.
    pub(crate) version_pointer: String,
    /// How often in a row it has to be right.
    pub(crate) successes: u32,
    /// How long it may take until it is.
    #[serde(deserialize_with = "positive_duration")]
    pub(crate) timeout: Duration,
}

/// An Argo Application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Argocd {
    /// Its name.
    pub(crate) application: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// How long it may take to agree.
    #[serde(deserialize_with = "positive_duration")]
    pub(crate) timeout: Duration,
}

/// `TARGETS_FILE` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    targets: Vec<Target>,
}

impl Cli {
    /// Reads `TARGETS_FILE`.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, ConfigError> {
        let wrong = |why: String| ConfigError::new("TARGETS_FILE", why);
        let path = self.targets_file.as_ref().ok_or_else(|| wrong("required; see --help".to_owned()))?;
        let text =
            fs::read_to_string(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        parse(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))
    }
}

fn parse(text: &str) -> Result<Vec<Target>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })?;
    for (index, target) in file.targets.iter().enumerate() {
        let earlier = &file.targets[..index];
        if earlier.iter().any(|other| other.name == target.name) {
            return Err(format!("two targets are called {}", target.name));
        }
        let place = |target: &Target| (target.namespace.clone(), target.deployment.clone(), target.container.clone());
        if let Some(other) = earlier.iter().find(|other| place(other) == place(target)) {
            return Err(format!("the targets {} and {} are the same container", other.name, target.name));
        }
    }
    if file.targets.is_empty() { Err("there are no targets".to_owned()) } else { Ok(file.targets) }
}

fn ten_minutes() -> Duration {
    Duration::from_mins(10)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match duration(&text) {
        Ok(duration) if duration.is_zero() => Err(D::Error::custom("a duration of nothing")),
        other => other.map_err(D::Error::custom),
    }
}

fn repository<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ImageReference, D::Error> {
    let text = String::deserialize(deserializer)?;
    let image: ImageReference = text.parse().map_err(D::Error::custom)?;
    if image.tag().is_some() || image.digest().is_some() {
        return Err(D::Error::custom("a target takes a repository, without tag and digest"));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#"
targets:
  - name: portfolio
    image: docker.io/mastereflex123/portfolio     # the repository whose builds it takes
    namespace: oriyan-portfolio
    deployment: oriyan-portfolio-app
    container: app
    deadline: 10m
    rollback: true
    failure_grace: 30s
    smoke: { url: "http://portfolio-service.oriyan-portfolio/health", version_pointer: /version, successes: 3, timeout: 30s }
    argocd: { application: portfolio-app, namespace: argocd, timeout: 5m }
"#;

    const SHORT: &str = "targets:\n  - { name: a, image: x/y, namespace: n, deployment: d, container: c }\n";

    #[test]
    fn the_file_of_the_contract_is_read() {
        let targets = parse(GIVEN).unwrap();
        assert_eq!(targets[0].deadline, Duration::from_mins(10));
        assert_eq!(targets[0].image.to_string(), "docker.io/mastereflex123/portfolio");
        assert_eq!(targets[0].smoke.as_ref().unwrap().successes, 3);
        let short = parse(SHORT).unwrap();
        assert_eq!((short[0].deadline, short[0].failure_grace), (ten_minutes(), half_a_minute()));
    }

    #[test]
    fn a_wrong_file_is_named_in_one_line() {
        let second = "  - { name: b, image: x/y, namespace: n, deployment: d, container: c }\n";
        for (text, expected) in [
            ("targets: []".to_owned(), "there are no targets"),
            (SHORT.replace("name: a", "name: A"), "a target's name has"),
            (SHORT.replace("x/y", "x/Y"), "a repository's parts"),
            (SHORT.replace("x/y", "x/y:v1"), "without tag and digest"),
            (SHORT.replace("container: c", "container: c, deadline: soon"), "'soon' is not a duration"),
            (SHORT.replace("container: c", "container: c, colour: red"), "colour"),
            (SHORT.replace(", container: c", ""), "container"),
            (format!("{SHORT}{second}"), "the targets a and b are the same container"),
            (format!("{SHORT}{}", second.replace("name: b", "name: a")), "two targets are called a"),
            ("targets: [".to_owned(), "line"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

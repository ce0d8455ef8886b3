//! `TARGETS_FILE`: the Deployments that get builds. What is wrong in it is told with its line and column.

mod gitops;

use std::time::Duration;

use events::{FreezeWindow, ImageReference, TargetName, TargetState};
use http::Uri;
use planning::Policy;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_saphyr::Spanned;
use service::config::duration;

pub(crate) use gitops::Gitops;

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
    #[serde(deserialize_with = "label")]
    pub(crate) namespace: String,
    /// The Deployment's name.
    #[serde(deserialize_with = "subdomain")]
    pub(crate) deployment: String,
    /// The container whose image is set.
    #[serde(deserialize_with = "label")]
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
    /// When nothing is deployed to it.
    #[serde(default, deserialize_with = "freeze_windows")]
    pub(crate) freeze_windows: Vec<FreezeWindow>,
    /// What the new version is asked once it is rolled out.
    #[serde(default)]
    pub(crate) smoke: Option<Smoke>,
    /// The Argo Application that has to agree.
    #[serde(default)]
    pub(crate) argocd: Option<Argocd>,
    /// The branch to which the image is committed, for `ArgoCD` to set it. Without it, we set it.
    #[serde(default)]
    pub(crate) gitops: Option<Gitops>,
}

impl Target {
    /// What it takes, and when.
    pub(crate) fn policy(&self) -> Policy {
        let (name, image) = (self.name.clone(), self.image.clone());
        Policy { name, image, freeze_windows: self.freeze_windows.clone() }
    }

    /// What it is told to do, as others are told of it.
    pub(crate) fn state(&self) -> TargetState {
        TargetState {
            image: self.image.to_string(),
            namespace: self.namespace.clone(),
            deployment: self.deployment.clone(),
            container: self.container.clone(),
            freeze_windows: self.freeze_windows.clone(),
            running: None,
            progress: None,
        }
    }
}

/// A question that only the new version answers right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smoke {
    /// What is asked.
    #[serde(deserialize_with = "http_url")]
    pub(crate) url: String,
    /// Where the answer names its version, as a JSON Pointer (RFC 6901).
    #[serde(deserialize_with = "pointer")]
    pub(crate) version_pointer: String,
    /// How often in a row it has to be right.
    #[serde(deserialize_with = "some_times")]
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
    #[serde(deserialize_with = "subdomain")]
    pub(crate) application: String,
    /// Its namespace.
    #[serde(deserialize_with = "label")]
    pub(crate) namespace: String,
    /// How long it may take to agree.
    #[serde(deserialize_with = "positive_duration")]
    pub(crate) timeout: Duration,
}

/// `TARGETS_FILE` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    targets: Vec<Spanned<Target>>,
}

/// Reads the text of `TARGETS_FILE`.
///
/// # Errors
/// The first thing that is wrong, in one line.
pub(crate) fn parse(text: &str) -> Result<Vec<Target>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        // What a program could do about it is of no use here.
        line.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned()
    })?;
    for (index, target) in file.targets.iter().enumerate() {
        let earlier = &file.targets[..index];
        let at = format!("line {} column {}", target.defined.line(), target.defined.column());
        let target = &target.value;
        if earlier.iter().any(|other| other.value.name == target.name) {
            return Err(format!("{at}: two targets are called {}", target.name));
        }
        if let Some(gitops) = &target.gitops {
            gitops.check(target.argocd.is_some()).map_err(|error| format!("{at}: {error}"))?;
        }
        let place = |target: &Target| {
            (target.namespace.clone(), target.deployment.clone(), target.container.clone())
        };
        if let Some(other) = earlier.iter().find(|other| place(&other.value) == place(target)) {
            return Err(format!(
                "{at}: the targets {} and {} are the same container",
                other.value.name, target.name
            ));
        }
    }
    if file.targets.is_empty() {
        return Err("there are no targets".to_owned());
    }
    Ok(file.targets.into_iter().map(|target| target.value).collect())
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

/// Text that fits, or what would.
fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    fits: fn(&str) -> bool,
    allowed: &str,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if fits(&text) {
        Ok(text)
    } else {
        Err(D::Error::custom(format!("'{}' is not {allowed}", text.escape_debug())))
    }
}

/// A name of Kubernetes', as RFC 1123 has labels.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(
        deserializer,
        is_label,
        "a name of Kubernetes': 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
    )
}

/// A name of Kubernetes', as RFC 1123 has subdomains.
fn subdomain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let fits = |text: &str| text.len() <= 253 && text.split('.').all(is_label);
    text(
        deserializer,
        fits,
        "a name of Kubernetes': a-z, 0-9, '-' and '.', with a letter or digit at both ends",
    )
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    ends && text.len() <= 63 && text.bytes().all(|b| inner(b) || b == b'-')
}

fn http_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let fits = |text: &str| {
        let url = text.parse::<Uri>().ok();
        url.is_some_and(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|h| !h.is_empty())
        })
    };
    text(deserializer, fits, "a URL such as http://portfolio-service.oriyan-portfolio/health")
}

fn pointer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let fits = |text: &str| json_patch::jsonptr::Pointer::parse(text).is_ok();
    text(deserializer, fits, "a JSON Pointer such as /version")
}

fn some_times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match i64::deserialize(deserializer)? {
        number @ 1..=100 => Ok(u32::try_from(number).unwrap_or(1)),
        number => Err(D::Error::custom(format!("{number} is not a number from 1 to 100"))),
    }
}

fn freeze_windows<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<FreezeWindow>, D::Error> {
    let windows = Vec::<FreezeWindow>::deserialize(deserializer)?;
    for window in &windows {
        if window.days.is_empty() {
            return Err(D::Error::custom("a freeze window needs days, such as [fri, sat]"));
        }
        if !planning::is_zone(&window.zone) {
            let zone = window.zone.escape_debug();
            return Err(D::Error::custom(format!(
                "'{zone}' is not a time zone such as Europe/Berlin"
            )));
        }
    }
    Ok(windows)
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

    const SHORT: &str =
        "targets:\n  - { name: a, image: x/y, namespace: n, deployment: d, container: c }\n";

    /// With a freeze window.
    fn frozen(window: &str) -> String {
        SHORT.replace("container: c", &format!("container: c, freeze_windows: [{window}]"))
    }

    #[test]
    fn the_file_of_the_contract_is_read() {
        let windows =
            frozen("{ days: [fri, sat], from: \"16:00\", to: \"08:00\", zone: Europe/Berlin }");
        assert_eq!(parse(&windows).unwrap()[0].policy().freeze_windows.len(), 1);
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
            (
                SHORT.replace("container: c", "container: c, deadline: soon"),
                "'soon' is not a duration",
            ),
            (SHORT.replace("container: c", "container: c, colour: red"), "colour"),
            (SHORT.replace(", container: c", ""), "container"),
            (
                SHORT.replace("namespace: n", "namespace: N"),
                "line 2 column 39: 'N' is not a name of Kubernetes'",
            ),
            (
                SHORT.replace("deployment: d", "deployment: d..e"),
                "'d..e' is not a name of Kubernetes'",
            ),
            (
                SHORT.replace("container: c", "container: c, container: d"),
                "line 2 column 71: duplicate mapping key: container",
            ),
            (
                format!("{SHORT}{second}"),
                "line 3 column 5: the targets a and b are the same container",
            ),
            (
                format!("{SHORT}{}", second.replace("name: b", "name: a")),
                "line 3 column 5: two targets are called a",
            ),
            ("targets: [".to_owned(), "line"),
            (
                GIVEN.replace("http://portfolio", "ftp://portfolio"),
                "line 11 column 19: 'ftp://portfolio-service",
            ),
            (
                GIVEN.replace("http://portfolio-service.oriyan-portfolio/health", "health"),
                "'health' is not a URL",
            ),
            (
                GIVEN.replace("pointer: /version", "pointer: version"),
                "'version' is not a JSON Pointer",
            ),
            (GIVEN.replace("successes: 3", "successes: 0"), "0 is not a number from 1 to 100"),
            (GIVEN.replace("timeout: 30s", "timeout: 30"), "'30' is not a duration"),
            (GIVEN.replace("timeout: 5m", "timeout: 0s"), "a duration of nothing"),
            (frozen("{ days: [], zone: UTC }"), "a freeze window needs days"),
            (frozen("{ days: [friday], zone: UTC }"), "friday"),
            (frozen("{ days: [fri] }"), "zone"),
            (
                frozen("{ days: [fri], zone: Berlin }"),
                "'Berlin' is not a time zone such as Europe/Berlin",
            ),
            (
                frozen("{ days: [fri], zone: UTC, from: 9 }"),
                "a time of day is written from 00:00 to 24:00",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

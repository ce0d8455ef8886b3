//! What to do with a build: accept or reject it, target by target, with a reason.

use events::{
    BuildFinished, BuildStatus, BuildTag, FreezeWindow, ImageReference, InvalidTag, TargetName,
    TargetState,
};

/// What a target takes, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The target.
    pub name: TargetName,
    /// The repository whose builds it takes.
    pub image: ImageReference,
    /// When nothing is deployed to it.
    pub freeze_windows: Vec<FreezeWindow>,
}

impl Policy {
    /// What the deployer told of a target; none if its repository cannot be read.
    pub fn of(name: &TargetName, state: &TargetState) -> Option<Self> {
        let image = state.image.parse().ok()?;
        Some(Self { name: name.clone(), image, freeze_windows: state.freeze_windows.clone() })
    }
}

/// What becomes of a build at one target, or at none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The target; none if no target takes the build.
    pub target: Option<TargetName>,
    /// The verdict on it.
    pub verdict: Judgement,
}

/// To deploy, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Set this image.
    Accept {
        /// With its tag, and its digest if the build has one.
        image: String,
    },
    /// Do nothing.
    Reject {
        /// In one sentence.
        reason: String,
    },
}

/// Decides for every target that a build is for. There is always at least one decision, so that nobody waits for nothing.
///
/// `objection` says what speaks against an image at one target.
pub fn plan(
    build: &BuildFinished,
    targets: &[Policy],
    objection: impl Fn(&Policy, &str) -> Option<String>,
) -> Vec<Decision> {
    let reject = |target: Option<TargetName>, reason: String| Decision {
        target,
        verdict: Judgement::Reject { reason },
    };
    let image: ImageReference = match build.image.parse() {
        Ok(image) => image,
        Err(error) => {
            return vec![reject(
                None,
                format!("the image {} cannot be read: {error}", build.image),
            )];
        }
    };
    let chosen = |target: &&Policy| build.target.as_ref().is_none_or(|name| *name == target.name);
    let takers: Vec<_> = targets
        .iter()
        .filter(|target| target.image.same_repository(&image))
        .filter(chosen)
        .collect();
    if takers.is_empty() {
        return vec![reject(None, nobody(build, &image, targets))];
    }
    let verdict = judge(build, &image);
    let decide = |target: &&Policy| {
        let verdict = match &verdict {
            Judgement::Accept { image } => objection(target, image)
                .map_or_else(|| verdict.clone(), |reason| Judgement::Reject { reason }),
            Judgement::Reject { .. } => verdict.clone(),
        };
        Decision { target: Some(target.name.clone()), verdict }
    };
    takers.iter().map(decide).collect()
}

/// Why no target takes it.
fn nobody(build: &BuildFinished, image: &ImageReference, targets: &[Policy]) -> String {
    if let Some(name) = &build.target {
        return format!("there is no target {name} that takes images of {}", image.name());
    }
    let mut known: Vec<_> = targets.iter().map(|target| target.image.name()).collect();
    known.sort();
    known.dedup();
    format!(
        "no target takes images of {}; there are targets for {}",
        image.name(),
        known.join(", ")
    )
}

/// What holds for every target alike.
fn judge(build: &BuildFinished, image: &ImageReference) -> Judgement {
    let reject = |reason: String| Judgement::Reject { reason };
    if build.status != BuildStatus::Success {
        return reject(format!("the build ended with {}: only success is deployed", build.status));
    }
    match image.tag().map(str::parse::<BuildTag>) {
        None => {
            return reject(
                "the image has no tag: only one like v42-abc1234 is deployed".to_owned(),
            );
        }
        Some(Err(error @ (InvalidTag::Latest | InvalidTag::Form))) => {
            return reject(error.to_string());
        }
        Some(Ok(_)) => {}
    }
    match (&build.digest, image.digest()) {
        (Some(digest), Some(pinned)) if digest != pinned => {
            reject(format!("the image names the digest {pinned}, the build {digest}"))
        }
        (Some(digest), None) => Judgement::Accept { image: format!("{}@{digest}", build.image) },
        _ => Judgement::Accept { image: build.image.clone() },
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use events::{BuildId, V1};

    use super::*;

    fn build(image: &str) -> BuildFinished {
        BuildFinished {
            v: V1,
            id: BuildId::new(),
            job: "portfolio".parse().unwrap(),
            number: 42,
            status: BuildStatus::Success,
            image: image.to_owned(),
            digest: None,
            commit: None,
            branch: None,
            url: None,
            forced: None,
            target: None,
            trace_id: None,
            received_at: DateTime::UNIX_EPOCH,
        }
    }

    fn targets() -> Vec<Policy> {
        let target = |name: &str, image: &str| Policy {
            name: name.parse().unwrap(),
            image: image.parse().unwrap(),
            freeze_windows: Vec::new(),
        };
        vec![target("one", "a/b"), target("two", "docker.io/a/b"), target("other", "ghcr.io/x/y")]
    }

    /// Each decision in words.
    fn said(build: &BuildFinished) -> Vec<String> {
        let words = |decision: Decision| {
            let target =
                decision.target.map_or_else(|| "-".to_owned(), |target| target.to_string());
            match decision.verdict {
                Judgement::Accept { image } => format!("{target} accepts {image}"),
                Judgement::Reject { reason } => format!("{target} rejects: {reason}"),
            }
        };
        let objection = |target: &Policy, image: &str| {
            (target.name.as_str() == "two" && image.contains("v1-")).then(|| "too old".to_owned())
        };
        plan(build, &targets(), objection).into_iter().map(words).collect()
    }

    #[test]
    fn one_target_may_object() {
        assert_eq!(
            said(&build("a/b:v1-abcd")),
            ["one accepts a/b:v1-abcd", "two rejects: too old"]
        );
    }

    #[test]
    fn a_build_may_be_for_one_target_alone() {
        let only = |name: &str| BuildFinished {
            target: Some(name.parse().unwrap()),
            ..build("a/b:v2-abcd")
        };
        assert_eq!(said(&only("two")), ["two accepts a/b:v2-abcd"]);
        assert_eq!(
            said(&only("other")),
            ["- rejects: there is no target other that takes images of docker.io/a/b"]
        );
    }

    #[test]
    fn every_target_of_the_repository_gets_the_image_as_it_was_posted() {
        assert_eq!(
            said(&build("index.docker.io/a/b:v42-abc1234")),
            [
                "one accepts index.docker.io/a/b:v42-abc1234",
                "two accepts index.docker.io/a/b:v42-abc1234"
            ]
        );
        assert_eq!(said(&build("ghcr.io/x/y:v1-abcd")), ["other accepts ghcr.io/x/y:v1-abcd"]);
    }

    #[test]
    fn a_digest_pins_the_image() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned =
            BuildFinished { digest: Some(digest.parse().unwrap()), ..build("ghcr.io/x/y:v1-abcd") };
        assert_eq!(said(&pinned), [format!("other accepts ghcr.io/x/y:v1-abcd@{digest}")]);
        let twice = BuildFinished { image: format!("{}@{digest}", pinned.image), ..pinned.clone() };
        assert_eq!(said(&twice), said(&pinned));
        let another = BuildFinished {
            image: format!("ghcr.io/x/y:v1-abcd@sha256:{}", "0b".repeat(32)),
            ..pinned
        };
        assert!(said(&another)[0].starts_with("other rejects: the image names the digest"));
    }

    #[test]
    fn what_is_not_deployed_is_rejected_with_the_reason() {
        for (build, expected) in [
            (build("ghcr.io/x/y"), "other rejects: the image has no tag"),
            (build("ghcr.io/x/y:latest"), "other rejects: the tag 'latest' names no build"),
            (build("ghcr.io/x/y:stable"), "other rejects: the tag is not v{number}-{commit}"),
            (
                build("ghcr.io/x/z:v1-abcd"),
                "- rejects: no target takes images of ghcr.io/x/z; there are targets for docker.io/a/b, ghcr.io/x/y",
            ),
            (build("!"), "- rejects: the image ! cannot be read"),
            (
                BuildFinished { status: BuildStatus::Unstable, ..build("ghcr.io/x/y:v1-abcd") },
                "other rejects: the build ended with unstable",
            ),
        ] {
            let said = said(&build);
            assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
        }
    }
}

//! Image references, tags and digests, by the grammar of the OCI distribution specification.
//!
//! Docker's familiar names are read too: `mastereflex123/portfolio` is the same repository as
//! `docker.io/mastereflex123/portfolio`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// The text is empty.
    #[error("an image reference is not empty")]
    Empty,
    /// The name is longer than the specification allows.
    #[error("an image's name has at most {} characters", ImageReference::MAX_NAME)]
    TooLong,
    /// The registry is not `host` or `host:port`.
    #[error("the registry is a host name, with a port if need be")]
    Registry,
    /// The repository has a part outside the grammar.
    #[error("a repository's parts have a-z and 0-9, with '.', '_', '__' or '-' between them")]
    Repository,
    /// The tag is outside the grammar.
    #[error(
        "a tag has 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', and starts with none of the last \
         two"
    )]
    Tag,
    /// The digest is outside the grammar.
    #[error("a digest is 'sha256:' and 64 of 0-9 and a-f, or 'sha512:' and 128 of them")]
    Digest,
}

/// A content digest, such as `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Returns the digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidImage::Digest)?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(InvalidImage::Digest),
        };
        if hex.len() == length && hex.bytes().all(is_lower_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidImage::Digest)
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidImage;

    fn try_from(text: String) -> Result<Self, InvalidImage> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image reference in full: registry, repository, and the tag or digest that picks one image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// The longest `registry/repository`, by the distribution specification.
    pub const MAX_NAME: usize = 255;

    /// Returns the registry's host: `docker.io` if the reference names none.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within its registry, such as `mastereflex123/portfolio`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns `registry/repository` in full.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns true if both name the same repository, with any tags.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }
}

impl FromStr for ImageReference {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        if text.is_empty() {
            return Err(InvalidImage::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(parse_tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, repository) = split_registry(name);
        if !is_registry(&registry) {
            return Err(InvalidImage::Registry);
        }
        if !repository.split('/').all(is_path_component) {
            return Err(InvalidImage::Repository);
        }
        if registry.len() + 1 + repository.len() > Self::MAX_NAME {
            return Err(InvalidImage::TooLong);
        }
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

const DOCKER_HUB: &str = "docker.io";

/// Splits a name by Docker's rule: the first part is a registry if it cannot be a user's name.
fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, name),
    };
    match registry {
        DOCKER_HUB | "index.docker.io" if !repository.contains('/') => {
            (DOCKER_HUB.to_owned(), format!("library/{repository}"))
        }
        "index.docker.io" => (DOCKER_HUB.to_owned(), repository.to_owned()),
        // Host names are case-insensitive.
        _ => (registry.to_ascii_lowercase(), repository.to_owned()),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = text;
    loop {
        let after = rest.trim_start_matches(alphanumeric);
        if after.len() == rest.len() {
            return false;
        }
        if after.is_empty() {
            return true;
        }
        rest = after.trim_start_matches(['.', '_', '-']);
        let separator = &after[..after.len() - rest.len()];
        if !matches!(separator, "." | "_" | "__") && !separator.bytes().all(|b| b == b'-') {
            return false;
        }
    }
}

/// Matches `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
fn parse_tag(text: &str) -> Result<String, InvalidImage> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(&first)
            if word(first)
                && bytes.len() <= 128
                && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-') =>
        {
            Ok(text.to_owned())
        }
        _ => Err(InvalidImage::Tag),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A tag names no build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTag {
    /// The tag is `latest`, which moves from build to build.
    #[error("the tag 'latest' names no build: a tag like v42-abc1234 does")]
    Latest,
    /// The tag has another form.
    #[error("the tag is not v{{number}}-{{commit}}, such as v42-abc1234")]
    Form,
}

/// The tag of a build: `v{number}-{commit}`, where the commit is an abbreviated or full git hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BuildTag {
    /// The build's number within its job.
    pub number: u64,
    /// The commit, 4 (git's shortest) to 64 hexadecimal digits.
    pub commit: String,
}

impl FromStr for BuildTag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        if text == "latest" {
            return Err(InvalidTag::Latest);
        }
        let (number, commit) =
            text.strip_prefix('v').and_then(|rest| rest.split_once('-')).ok_or(InvalidTag::Form)?;
        // Only the canonical form, so that one build has one tag: no sign, no leading zero.
        let canonical = number == "0"
            || (!number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit()));
        let number = number.parse().ok().filter(|_| canonical).ok_or(InvalidTag::Form)?;
        if (4..=64).contains(&commit.len()) && commit.bytes().all(is_lower_hex) {
            Ok(Self { number, commit: commit.to_owned() })
        } else {
            Err(InvalidTag::Form)
        }
    }
}

impl fmt::Display for BuildTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}-{}", self.number, self.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageReference, InvalidImage> {
        text.parse()
    }

    #[test]
    fn short_names_of_docker_hub_are_completed() {
        for (short, full) in [
            ("redis", "docker.io/library/redis"),
            ("redis:7", "docker.io/library/redis:7"),
            ("docker.io/redis", "docker.io/library/redis"),
            ("mastereflex123/portfolio", "docker.io/mastereflex123/portfolio"),
            (
                "index.docker.io/mastereflex123/portfolio:v1-abcd",
                "docker.io/mastereflex123/portfolio:v1-abcd",
            ),
            ("GHCR.io/a/b", "ghcr.io/a/b"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a:v1", "localhost:5000/a:v1"),
            ("registry.example:5000/team/a__b-c.d", "registry.example:5000/team/a__b-c.d"),
        ] {
            assert_eq!(parse(short).unwrap().to_string(), full, "{short}");
        }
    }

    #[test]
    fn an_error_names_the_part_outside_the_grammar() {
        let long = format!("a/{}", "x".repeat(250));
        for (text, why) in [
            ("", InvalidImage::Empty),
            (long.as_str(), InvalidImage::TooLong),
            ("a.example:0/b", InvalidImage::Registry),
            ("a.example:99999/b", InvalidImage::Registry),
            ("-a.example/b", InvalidImage::Registry),
            ("a//b", InvalidImage::Repository),
            ("a/B", InvalidImage::Repository),
            ("a/b_", InvalidImage::Repository),
            ("a/b___c", InvalidImage::Repository),
            ("a/b..c", InvalidImage::Repository),
            ("a b", InvalidImage::Repository),
            ("/a", InvalidImage::Repository),
            ("a:", InvalidImage::Tag),
            ("a:-x", InvalidImage::Tag),
            ("a:ü", InvalidImage::Tag),
            ("a@sha256:12", InvalidImage::Digest),
            ("a@md5:12", InvalidImage::Digest),
            ("a@", InvalidImage::Digest),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_reference_may_have_a_tag_and_a_digest() {
        let text = format!("a/b:v1-abcd@sha256:{}", "0a".repeat(32));
        let image = parse(&text).unwrap();
        assert_eq!(image.tag(), Some("v1-abcd"));
        assert_eq!(image.digest().unwrap().as_str(), format!("sha256:{}", "0a".repeat(32)));
        assert!(image.same_repository(&parse("docker.io/a/b").unwrap()));
    }

    #[test]
    fn a_build_tag_has_one_form() {
        let tag: BuildTag = "v42-abc1234".parse().unwrap();
        assert_eq!((tag.number, tag.commit.as_str()), (42, "abc1234"));
        assert_eq!("latest".parse::<BuildTag>(), Err(InvalidTag::Latest));
        for bad in [
            "",
            "v",
            "v42",
            "42-abc1234",
            "v042-abc1234",
            "v+4-abc1234",
            "v42-ABC1234",
            "v42-xyz1234",
            "v42-abc",
        ] {
            assert_eq!(bad.parse::<BuildTag>(), Err(InvalidTag::Form), "{bad}");
        }
    }
}

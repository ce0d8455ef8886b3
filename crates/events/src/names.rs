//! Names that are part of subjects. Dots separate a subject's tokens, which hold no space, `*` or
//! `>`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text is not a name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A target's name is not a DNS label.
    #[error(
        "a target's name has 1 to 63 of a-z, 0-9 and '-', and starts and ends with a letter or \
         digit"
    )]
    Target,
    /// A job's name is empty, too long, or holds control characters.
    #[error(
        "a job's name has 1 to {} characters, and no control characters",
        JobName::MAX_CHARACTERS
    )]
    Job,
}

/// The name of a target: a DNS label (RFC 1123), like Kubernetes' own names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = String, pattern = "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
)]
pub struct TargetName(String);

impl TargetName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TargetName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = text.len() <= 63
            && text.chars().all(allowed)
            && edge(text.chars().next())
            && edge(text.chars().next_back());
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidName::Target) }
    }
}

impl TryFrom<String> for TargetName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a CI job, as CI writes it: `portfolio`, or `folder/my job` in Jenkins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

impl JobName {
    /// The longest name, in characters. Its escaped form, of 2,400 bytes at most, still fits a
    /// subject.
    pub const MAX_CHARACTERS: usize = 200;

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as one token of a subject: every byte outside `A-Z a-z 0-9 _ -` becomes
    /// `%XX`, as in URLs.
    pub fn subject_token(&self) -> String {
        use fmt::Write as _;
        let mut token = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
                token.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                let _ = write!(token, "%{byte:02X}");
            }
        }
        token
    }
}

impl FromStr for JobName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = !text.trim().is_empty()
            && text.chars().count() <= Self::MAX_CHARACTERS
            && !text.chars().any(char::is_control);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidName::Job) }
    }
}

impl TryFrom<String> for JobName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_dns_label() {
        for good in ["portfolio", "a", "0", "eu-west-1", &"x".repeat(63)] {
            assert!(good.parse::<TargetName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "a_b", "ä", ">", "*", &"x".repeat(64)] {
            assert_eq!(bad.parse::<TargetName>(), Err(InvalidName::Target), "{bad}");
        }
    }

    #[test]
    fn any_name_of_a_job_becomes_one_token() {
        let token = |name: &str| name.parse::<JobName>().unwrap().subject_token();
        assert_eq!(token("portfolio"), "portfolio");
        assert_eq!(token("folder/my job.v2"), "folder%2Fmy%20job%2Ev2");
        assert_eq!(token("a>*%"), "a%3E%2A%25");
        assert_eq!(token("ü"), "%C3%BC");
    }

    #[test]
    fn a_job_name_is_neither_empty_nor_long() {
        for bad in ["", "  ", "a\nb", "a\0", &"x".repeat(201)] {
            assert_eq!(bad.parse::<JobName>(), Err(InvalidName::Job), "{bad:?}");
        }
    }
}

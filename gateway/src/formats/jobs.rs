//! `JOBS_FILE`: a finished pipeline run names no image, so the job's name leads to it.

use std::{fs, path::Path};

use events::JobName;
use serde::Deserialize;
use serde_json::Value;

/// The images of jobs whose events name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jobs(Vec<Job>);

/// A job, and the image that it makes, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    #[serde(rename = "job")]
    name: JobName,
    image: String,
    /// Whether a run may be deployed whose event cannot tell a stable build from an unstable one.
    #[serde(default)]
    accept_unstable: bool,
}

/// `JOBS_FILE` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    jobs: Vec<Job>,
}

/// How many digits of a commit are its short form, as Git and Jenkinsfiles have it.
const SHORT: usize = 7;

const PLACEHOLDERS: [&str; 4] = ["{number}", "{commit_short}", "{commit}", "{branch}"];

/// A parameter of the build, `{parameters.IMAGE}` for instance.
const PARAMETER: &str = "{parameters.";

/// What may stand in place of a placeholder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) number: u64,
    pub(super) commit: Option<&'a str>,
    pub(super) branch: Option<&'a str>,
    /// A JSON object of strings, or nothing.
    pub(super) parameters: &'a Value,
}

impl Jobs {
    /// Reads `JOBS_FILE`. The error names the file and what is wrong in it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        for (index, job) in file.jobs.iter().enumerate() {
            if file.jobs[..index].iter().any(|other| other.name == job.name) {
                return Err(format!("the job {} is there twice", job.name));
            }
            let mut rest = job.image.clone();
            for placeholder in PLACEHOLDERS {
                rest = rest.replace(placeholder, "1");
            }
            while let Some((parameter, _)) = parameter(&rest) {
                rest = rest.replace(&parameter, "1");
            }
            if rest.contains(['{', '}']) {
                let known = format!("{}, {PARAMETER}NAME}}", PLACEHOLDERS.join(", "));
                return Err(format!(
                    "job {}: the image has an unknown placeholder; known are {known}",
                    job.name
                ));
            }
        }
        Ok(Self(file.jobs))
    }

    /// The image of a job's run.
    ///
    /// # Errors
    /// In words: the job is not in the file, or the event does not say what its image is made of.
    pub(super) fn image(&self, job: &JobName, values: Values<'_>) -> Result<String, String> {
        let Some(known) = self.0.iter().find(|known| known.name == *job) else {
            return Err(format!(
                "the event names no image, and JOBS_FILE has none for the job {job}"
            ));
        };
        let missing = |what: &str| {
            format!("the event names no {what}, which the image of the job {job} is made of")
        };
        let mut image = known.image.replace("{number}", &values.number.to_string());
        if image.contains("{commit") {
            let commit =
                values.commit.filter(|commit| is_plain(commit)).ok_or_else(|| missing("commit"))?;
            let short = commit.get(..SHORT).unwrap_or(commit);
            image = image.replace("{commit_short}", short).replace("{commit}", commit);
        }
        if image.contains("{branch}") {
            let branch =
                values.branch.filter(|branch| is_plain(branch)).ok_or_else(|| missing("branch"))?;
            image = image.replace("{branch}", branch);
        }
        while let Some((placeholder, name)) = parameter(&image) {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
            let value = values.parameters[&name]
                .as_str()
                .filter(|value| !value.is_empty() && value.bytes().all(fits));
            image = image
                .replace(&placeholder, value.ok_or_else(|| missing(&format!("parameter {name}")))?);
        }
        Ok(image)
    }

    /// Whether a run of the job may be deployed whose event cannot tell a stable build from an unstable one.
    pub(super) fn accepts_unstable(&self, job: &JobName) -> bool {
        self.0.iter().any(|known| known.name == *job && known.accept_unstable)
    }
}

/// The first placeholder of a parameter in a text, and the parameter's name.
fn parameter(text: &str) -> Option<(String, String)> {
    let (_, rest) = text.split_once(PARAMETER)?;
    let (name, _) = rest.split_once('}')?;
    Some((format!("{PARAMETER}{name}}}"), name.to_owned()))
}

/// Whether it can stand in an image without meaning something else.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIVEN: &str = r#"
jobs:
  - { job: portfolio, image: "docker.io/mastereflex123/portfolio:v{number}-{commit_short}" }
  - { job: by-parameter, image: "x/y:{parameters.TAG}", accept_unstable: true }
  - { job: bad-parameter, image: "x/y:{parameters.BAD}" }
  - { job: number, image: "x/y:{parameters.NUMBER}" }
  - { job: folder/other, image: "x/{branch}:v{number}-{commit}" }
"#;

    #[test]
    fn an_image_is_made_of_what_the_event_says() {
        let jobs = Jobs::parse(GIVEN).unwrap();
        let parameters = json!({"TAG": "v42-abc1", "BAD": "a b", "NUMBER": 1});
        let image = |job: &str, commit, branch| {
            jobs.image(
                &job.parse().unwrap(),
                Values { number: 42, commit, branch, parameters: &parameters },
            )
        };
        let expected = "docker.io/mastereflex123/portfolio:v42-abc1234";
        assert_eq!(image("portfolio", Some("abc1234def"), None).as_deref(), Ok(expected));
        assert_eq!(image("portfolio", Some("abc1234"), None).as_deref(), Ok(expected));
        assert_eq!(
            image("folder/other", Some("abc1"), Some("main")).as_deref(),
            Ok("x/main:v42-abc1")
        );
        assert_eq!(image("by-parameter", None, None).as_deref(), Ok("x/y:v42-abc1"));
        assert!(jobs.accepts_unstable(&"by-parameter".parse().unwrap()));
        assert!(!jobs.accepts_unstable(&"portfolio".parse().unwrap()));
        for (job, commit, branch, expected) in [
            ("bad-parameter", None, None, "the event names no parameter BAD"),
            ("number", None, None, "the event names no parameter NUMBER"),
            ("unknown", None, None, "JOBS_FILE has none for the job unknown"),
            ("portfolio", None, None, "the event names no commit"),
            ("portfolio", Some("a/b:c"), None, "the event names no commit"),
            ("folder/other", Some("abc1"), Some("a@b"), "the event names no branch"),
        ] {
            let error = image(job, commit, branch).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_file_is_named_in_one_line() {
        for (text, expected) in [
            ("jobs: [", "line"),
            ("jobs:\n  - { job: a }", "image"),
            ("jobs:\n  - { job: a, image: b, colour: red }", "colour"),
            (
                "jobs:\n  - { job: a, image: \"b:{tag}\" }",
                "job a: the image has an unknown placeholder",
            ),
            (
                "jobs:\n  - { job: a, image: b }\n  - { job: a, image: c }",
                "the job a is there twice",
            ),
        ] {
            let error = Jobs::parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

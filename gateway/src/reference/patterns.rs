//! What texts have to look like, as regular expressions of JSON Schema (ECMA-262).
//!
//! White space around a text does not count, so each allows it. Where a pattern and the code that reads the text differ, the
//! reference is wrong: the tests hold them against each other.

/// White space, as Unicode has it.
macro_rules! space {
    () => {
        r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    };
}

/// Something with white space around it.
macro_rules! trimmed {
    ($inner:expr) => {
        concat!("^[", space!(), "]*", $inner, "[", space!(), "]*$")
    };
}

/// One line: no control characters.
macro_rules! one_line {
    () => {
        concat!(
            r"[^\u0000-\u001f\u007f-\u009f",
            space!(),
            r"](?:[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f",
            space!(),
            "])?"
        )
    };
}

/// A tag that names a build.
macro_rules! tag {
    () => {
        "v(?:0|[1-9][0-9]{0,14})-[0-9a-f]{4,64}"
    };
}

/// A line that is not empty.
pub(super) const LINE: &str = trimmed!(one_line!());

/// A line, or nothing.
pub(super) const OPTIONAL_LINE: &str = trimmed!(concat!("(?:", one_line!(), ")?"));

/// A text that is not empty; line breaks and tabs are allowed.
pub(super) const TEXT: &str = trimmed!(concat!(
    r"[^\u0000-\u001f\u007f-\u009f",
    space!(),
    r"](?:[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f",
    space!(),
    "])?"
));

/// An address, by the rules of HTML's `input type=email`.
pub(super) const EMAIL: &str = trimmed!(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?)*"
);

/// A number that is written as a text.
pub(super) const NUMBER: &str = trimmed!("[0-9]{1,15}");

/// One part of a repository's name.
macro_rules! part {
    ($separators:literal) => {
        concat!("[a-z0-9]+(?:(?:", $separators, ")[a-z0-9]+)*")
    };
}

/// One part of a host's name.
macro_rules! label {
    () => {
        "[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
    };
}

/// An image with a tag that names a build, and no digest. What stands before the first slash is a registry if it has a dot or
/// a port, or is localhost.
pub(super) const IMAGE: &str = trimmed!(concat!(
    "(?:(?:",
    label!(),
    r"(?:\.",
    label!(),
    ")+(?::[1-9][0-9]{0,3})?|",
    label!(),
    ":[1-9][0-9]{0,3}|localhost)/",
    part!(r"\.|__?|-+"),
    "(?:/",
    part!(r"\.|__?|-+"),
    ")*|",
    part!("__?|-+"),
    "(?:/",
    part!(r"\.|__?|-+"),
    ")*|",
    part!(r"\.|__?|-+"),
    "):",
    tag!()
));

/// A digest, or nothing.
pub(super) const OPTIONAL_DIGEST: &str = trimmed!("(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})?");

/// A target's name, or nothing.
pub(super) const OPTIONAL_TARGET: &str = trimmed!("(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)?");

/// A package URL of an image in a registry, with its digest and the tag that names its build.
pub(super) const PACKAGE_URL: &str = concat!(
    "^pkg:oci/[a-z0-9]{1,40}@sha256%3A[0-9a-f]{64}",
    r"\?repository_url=[a-z0-9]{1,20}\.[a-z]{2,8}(?:%2F[a-z0-9]{1,20}){1,3}&tag=",
    tag!(),
    "$"
);

/// Where Jenkins says that an event comes from: the URL of a job.
pub(super) const JOB_URL: &str =
    "^https?://[a-z0-9]{1,20}(?:[.][a-z0-9]{1,20}){0,3}(?:/job/[A-Za-z0-9_-]{1,20}){1,3}/$";

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use axum::http::HeaderMap;
    use events::TargetName;
    use proptest::{prelude::*, string::string_regex, test_runner::TestRunner};
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;
    use crate::formats::{self, Jobs};

    /// What fits the pattern is taken; what does not, is not. Half of the texts are made by the pattern, half are bent.
    fn agree(name: &str, pattern: &str, taken: impl Fn(&str) -> bool) {
        let regex = Regex::new(pattern).unwrap();
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        let made = string_regex(inner).unwrap();
        let bent =
            (string_regex(inner).unwrap(), any::<prop::sample::Index>(), any::<Option<char>>());
        let mut runner = TestRunner::default();
        runner
            .run(&made, |text| {
                prop_assert!(
                    text.chars().count() > 200 || taken(&text),
                    "{name} {text:?} fits, and is not taken"
                );
                Ok(())
            })
            .unwrap();
        runner
            .run(&bent, |(text, at, with)| {
                let mut chars: Vec<char> = text.chars().collect();
                if !chars.is_empty() {
                    let at = at.index(chars.len());
                    chars.splice(at..=at, with);
                }
                let text: String = chars.into_iter().collect();
                prop_assert!(
                    text.chars().count() > 200 || regex.is_match(&text) == taken(&text),
                    "{name} {text:?}: the pattern says {}",
                    regex.is_match(&text)
                );
                Ok(())
            })
            .unwrap();
    }

    fn build(field: &str, text: &str) -> bool {
        let mut body =
            json!({"job": "p", "number": 1, "status": "success", "image": "a/b:v1-abcd"});
        body[field] = text.into();
        let headers = HeaderMap::from_iter([(
            "content-type".parse().unwrap(),
            "application/json".parse().unwrap(),
        )]);
        formats::read(&headers, body.to_string().as_bytes(), &Jobs::default()).is_ok()
    }

    fn contact(field: &str, text: &str) -> bool {
        let mut body = json!({"name": "Ada", "email": "ada@example.org", "message": "hello"});
        body[field] = text.into();
        crate::contact::check(body).is_ok()
    }

    #[test]
    fn of_contacts() {
        agree("name", LINE, |text| text.chars().count() > 100 || contact("name", text));
        agree("email", EMAIL, |text| contact("email", text));
        agree("subject", OPTIONAL_LINE, |text| contact("subject", text));
        agree("message", TEXT, |text| contact("message", text));
    }

    #[test]
    fn of_builds() {
        agree("job", LINE, |text| build("job", text));
        agree("number", NUMBER, |text| build("number", text));
        agree("image", IMAGE, |text| build("image", text));
        agree("digest", OPTIONAL_DIGEST, |text| build("digest", text));
        agree("branch", OPTIONAL_LINE, |text| build("branch", text));
    }

    #[test]
    fn of_paths_and_queries() {
        let document: Value = serde_json::from_slice(&super::super::DOCUMENT).unwrap();
        let target = document["components"]["schemas"]["TargetName"]["pattern"].as_str().unwrap();
        agree("target", target, |text| TargetName::from_str(text).is_ok());
        let parameters =
            document["paths"]["/api/builds/{id}"]["get"]["parameters"].as_array().unwrap();
        let wait = parameters.iter().find(|parameter| parameter["name"] == "wait").unwrap();
        let wait = wait["schema"]["pattern"].as_str().unwrap();
        agree("wait", wait, |text| crate::builds::wait(text).is_ok());
    }
}

//! Takes what looks like a secret out of texts that others wrote: logs of containers, messages of registries. Pure.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// The longest line that is kept, in characters.
const MAX_LINE: usize = 400;

/// How many lines are kept.
pub(crate) const MAX_LINES: usize = 20;

const REDACTED: &str = "[redacted]";

/// What looks like a secret wherever it stands. Where a pattern has a group `keep`, that part stays.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        r"(?i)(?<keep>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}",
        // scheme://user:password@host
        r"(?<keep>\b[a-zA-Z][\w+.-]*://)[^\s/@]+@",
        // JSON Web Tokens; keys of AWS, GitHub, GitLab, Slack, Google, OpenAI and Stripe
        r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AIza|sk-|sk_live_|rk_live_)[\w-]{10,}",
        r"-----(?:BEGIN|END)[^-]*PRIVATE KEY-----.*",
        // Addresses of people
        r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
        // A line of nothing but a long key, as in the middle of a PEM file
        r"^\s*[A-Za-z0-9+/=]{40,}\s*$",
    ])
});

/// Values that their keys give away. Kubernetes' own sentences speak of secrets and tokens too, and hold none.
static KEYED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        // Authorization: Bearer …
        r"(?i)(?<keep>authorization\b\W{0,4}(?:\w+\s+)?)\S+",
        // password=…, "api_key": "…", AWS_SECRET_ACCESS_KEY=…
        &format!(r#"(?i)(?<keep>["']?[\w.-]*{KEYS}[\w.-]*["']?\s*(?:=>|[:=])\s*){VALUE}"#),
        // --token …
        &format!(r"(?i)(?<keep>--[\w-]*{KEYS}[\w-]*\s+){VALUE}"),
    ])
});

const KEYS: &str = "(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|cookie|session[_-]?id)";
const VALUE: &str = r#"(?:"[^"]*"|'[^']*'|[^\s,;&"']+)"#;

fn compile(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
}

/// A sentence of Kubernetes or of a registry, as one line, without what looks like a secret, and not too long.
pub(crate) fn message(text: &str) -> String {
    without(text, SECRETS.iter())
}

/// A line of a container's log, treated more strictly.
fn log_line(text: &str) -> String {
    without(text, KEYED.iter().chain(SECRETS.iter()))
}

fn without<'a>(text: &str, patterns: impl Iterator<Item = &'a Regex>) -> String {
    let mut text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4 * MAX_LINE).collect();
    for pattern in patterns {
        let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
            format!("{}{REDACTED}", found.name("keep").map_or("", |keep| keep.as_str()))
        });
        if let Cow::Owned(replaced) = replaced {
            text = replaced;
        }
    }
    let text = text.trim_end();
    if text.chars().count() <= MAX_LINE {
        return text.to_owned();
    }
    text.chars().take(MAX_LINE - 1).chain(['…']).collect()
}

/// The last lines of a log.
pub(crate) fn log_tail(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().filter(|text| !text.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].iter().map(|text| log_line(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_patterns_are_valid() {
        assert_eq!((SECRETS.len(), KEYED.len()), (8, 3));
    }

    #[test]
    fn secrets_are_taken_out_and_the_rest_stays() {
        for (text, expected) in [
            ("listening on 0.0.0.0:8080", "listening on 0.0.0.0:8080"),
            (
                "thread 'main' panicked at src/main.rs:7:5",
                "thread 'main' panicked at src/main.rs:7:5",
            ),
            ("DB_PASSWORD=hunter2 DB_HOST=db", "DB_PASSWORD=[redacted] DB_HOST=db"),
            (r#"{"api_key": "abc def", "port": 1}"#, r#"{"api_key": [redacted], "port": 1}"#),
            ("--token abc123 --port 1", "--token [redacted] --port 1"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
            ("got bearer abcdefgh123", "got bearer [redacted]"),
            ("mongodb://root:hunter2@mongo:27017/x", "mongodb://[redacted]mongo:27017/x"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc end", "jwt [redacted] end"),
            ("key AKIAIOSFODNN7EXAMPLE", "key [redacted]"),
            ("ghp_abcdefghijklmnop", "[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----", "[redacted]"),
            ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7", "[redacted]"),
            ("mail from ada@example.org", "mail from [redacted]"),
            ("a\u{1b}[31mred", "a [31mred"),
        ] {
            assert_eq!(log_line(text), expected, "{text}");
        }
    }

    #[test]
    fn kubernetes_own_sentences_stay() {
        for text in [
            r#"secret "app-secrets" not found"#,
            "couldn't find key password in Secret default/app",
            "failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://auth.docker.io/token?scope=x",
        ] {
            assert_eq!(message(text), text);
        }
        assert_eq!(
            message("https://u:p@registry.example/v2/: 401"),
            "https://[redacted]registry.example/v2/: 401"
        );
    }

    #[test]
    fn sizes_are_limited() {
        assert_eq!(log_line(&"x y ".repeat(1000)).chars().count(), MAX_LINE);
        let log: String = (0..100).fold(String::new(), |text, n| format!("{text}line {n}\n\n"));
        let tail = log_tail(&log);
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "line 80", "line 99"));
        assert!(log_tail("").is_empty());
    }
}

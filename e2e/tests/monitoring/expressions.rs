//! What expressions of Prometheus ask for: metrics, and labels of them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use testbed::workspace_folder;

/// What looks like a metric, and is none.
const WORDS: [&str; 24] = [
    "sum",
    "max",
    "min",
    "count",
    "avg",
    "topk",
    "quantile",
    "group",
    "stddev",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
    "nan",
    "start",
    "end",
];

/// What is followed by labels in brackets.
const CLAUSES: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// One metric, as an expression selects it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator and value.
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) selectors: BTreeSet<Selector>,
    /// By which its results are grouped or joined.
    pub(crate) labels: BTreeSet<String>,
    /// What is a string by itself: among them the labels that `label_replace` makes.
    pub(crate) strings: BTreeSet<String>,
}

pub(crate) fn monitoring() -> PathBuf {
    workspace_folder().join("monitoring")
}

/// Reads an expression, as far as that needs no grammar.
pub(crate) fn named(expression: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let (found, after) = string(rest);
            named.strings.insert(found.to_owned());
            rest = after;
        } else if c == '[' {
            rest = rest.split_once(']').unwrap().1;
        } else if c.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if c.is_ascii_alphabetic() || c == '_' || c == ':' {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            let word = &rest[..end];
            rest = rest[end..].trim_start();
            if CLAUSES.contains(&word) {
                if let Some((labels, after)) =
                    rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
                {
                    named.labels.extend(labels.split(',').map(|label| label.trim().to_owned()));
                    rest = after;
                }
            } else if !WORDS.contains(&word) && !rest.starts_with('(') {
                let (matchers, after) = matchers(rest);
                named.selectors.insert(Selector { metric: word.to_owned(), matchers });
                rest = after;
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    named.labels.remove("");
    named
}

/// The matchers in braces at the beginning, and what comes after them.
fn matchers(text: &str) -> (Vec<(String, String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix('}') {
            return (found, after);
        }
        let at = rest.find(['=', '!']).unwrap();
        let (label, after) = rest.split_at(at);
        let quote = after.find('"').unwrap();
        let (value, after_it) = string(&after[quote..]);
        found.push((label.trim().to_owned(), after[..quote].trim().to_owned(), value.to_owned()));
        rest = after_it;
    }
}

/// The string at the beginning, as it is written, and what comes after it.
fn string(text: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.unwrap() + 1;
    (&text[1..end], &text[end + 1..])
}

/// Each expression of each dashboard, with the variables replaced, and its legend.
pub(crate) fn panels() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(monitoring().join("grafana/dashboards")).unwrap() {
        let dashboard: Value =
            serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "1m").replace("$__range", "5m");
                let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
                found.push((format!("{} / {}", dashboard["title"], panel["title"]), query, legend));
            }
        }
    }
    assert!(found.len() > 100, "{found:?}");
    found
}

/// The labels that a text names in braces: `{{ name }}`, or with `prefix` as `{{ $labels.name }}`.
pub(crate) fn placeholders<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let inner = text.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    inner
        .filter_map(|(inner, _)| inner.trim().strip_prefix(prefix)?.split([' ', '|']).next())
        .collect()
}

#[test]
fn an_expression_is_read() {
    let named = named(
        r#"sum by (job, le) (rate(a:b{x="1", y!~"2|}"}[5m])) / on (job) group_left () up > 0.5"#,
    );
    let found: Vec<_> = named
        .selectors
        .iter()
        .map(|selector| (selector.metric.as_str(), selector.matchers.len()))
        .collect();
    assert_eq!(found, [("a:b", 2), ("up", 0)]);
    assert_eq!(named.labels.into_iter().collect::<Vec<_>>(), ["job", "le"]);
    assert_eq!(
        placeholders("{{ $labels.job }} {{ $value | f }}", "$labels.")
            .into_iter()
            .collect::<Vec<_>>(),
        ["job"]
    );
}

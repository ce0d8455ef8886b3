//! What real senders sent, read back from `docs/examples`.

use std::{fs, path::PathBuf};

use axum::http::{HeaderName, HeaderValue, header::CONTENT_TYPE};

use super::*;

const JOBS: &str = r#"
jobs:
  - { job: portfolio, image: "mastereflex123/portfolio:v{number}-{commit_short}" }
  - { job: team/portfolio, image: "mastereflex123/team:v{number}-{commit_short}" }
"#;

/// Recorded before commits were in the event.
const BY_PARAMETER: &str = r#"
jobs:
  - { job: portfolio, image: "{parameters.IMAGE}", accept_unstable: true }
"#;

fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples"));
    fs::read(folder.join(name)).unwrap()
}

/// The headers of a recorded request. The first line may be its request line.
fn headers(name: &str) -> HeaderMap {
    let text = file(name);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]).ok()?, line[colon + 1..].trim_ascii());
        Some((name, HeaderValue::from_bytes(value).ok()?))
    };
    lines.filter_map(header).collect()
}

fn said(result: Result<Message, Problem>) -> String {
    let build = |build: &Build| {
        let commit =
            build.commit.as_deref().map_or("-", |commit| commit.get(..7).unwrap_or(commit));
        format!("{} {} {} {} {commit}", build.job, build.number, build.status, build.image)
    };
    match result {
        Ok(Message::One(one, _)) => build(&one),
        Ok(Message::Batch(all)) => {
            all.iter().map(|(one, _)| build(one)).collect::<Vec<_>>().join(" + ")
        }
        Ok(Message::Ignored(what)) => format!("ignored: {what}"),
        Err(problem) => {
            let errors: Vec<_> =
                problem.errors().iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect();
            format!("{}: {} {}", problem.status().as_u16(), problem.detail(), errors.join("; "))
        }
    }
}

fn json(name: &str, jobs: &str) -> String {
    let headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    said(read(&headers, &file(name), &Jobs::parse(jobs).unwrap()))
}

fn posted(name: &str) -> String {
    let (headers, body) = (headers(&format!("{name}.headers")), file(&format!("{name}.body")));
    said(read(&headers, &body, &Jobs::parse(JOBS).unwrap()))
}

fn hooked(name: &str, jobs: &str) -> String {
    let (headers, body) = (headers(&format!("{name}.headers")), file(&format!("{name}.body")));
    said(read_hook(&headers, &body, &Jobs::parse(jobs).unwrap()))
}

const PUBLISHED: &str =
    "portfolio 42 success docker.io/mastereflex123/portfolio:v42-abc1234 abc1234";
const FINISHED: &str = "portfolio 42 success mastereflex123/portfolio:v42-abc1234 abc1234";

#[test]
fn cdevents_of_all_versions_are_read() {
    assert_eq!(json("cdevents-0.1.2-artifact-published-oci.json", JOBS), PUBLISHED);
    let docker = "portfolio 42 success mastereflex123/portfolio:v42-abc1234 abc1234";
    assert_eq!(json("cdevents-0.3.0-artifact-published-docker.json", JOBS), docker);
    assert_eq!(json("cdevents-0.4.1-artifact-published-oci.json", JOBS), PUBLISHED);
    assert_eq!(json("cdevents-0.5.1-artifact-published-oci.json", JOBS), PUBLISHED);
    assert_eq!(json("cdevents-0.5.1-pipelinerun-finished-success.json", JOBS), FINISHED);
    assert_eq!(
        json("cdevents-0.3.0-pipelinerun-finished-failure.json", JOBS),
        FINISHED.replace("success", "failure")
    );
    assert_eq!(
        json("cdevents-0.5.1-pipelinerun-finished-cancel.json", JOBS),
        FINISHED.replace("success", "aborted")
    );
    let no_commit = json("cdevents-0.1.2-pipelinerun-finished-success.json", JOBS);
    assert!(no_commit.ends_with(
        "/subject the event names no commit, which the image of the job portfolio is made of"
    ));
}

#[test]
fn cloudevents_are_read_in_all_modes() {
    assert_eq!(posted("cloudevents-binary-artifact-0.4.1"), PUBLISHED);
    assert_eq!(posted("cloudevents-binary-pipelinerun-0.5.1"), FINISHED);
    assert_eq!(posted("cloudevents-structured-artifact-0.5.1"), PUBLISHED);
    assert_eq!(posted("cloudevents-structured-pipelinerun-0.5.1"), FINISHED);
    assert_eq!(posted("cloudevents-structured-data-base64"), PUBLISHED);
    assert!(posted("cloudevents-batch-three").starts_with(&format!("{PUBLISHED} + {FINISHED}")));
    assert!(posted("cloudevents-batch-base64").starts_with(PUBLISHED));
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let headers = headers("cloudevents-batch-three.headers");
    let mut batch: Value = serde_json::from_slice(&file("cloudevents-batch-three.body")).unwrap();
    batch[1]["data"]["subject"]["id"] = "no-number".into();
    batch[1]["data"]["customData"] = Value::Null;
    let answer = said(read(&headers, batch.to_string().as_bytes(), &Jobs::parse(JOBS).unwrap()));
    assert!(answer.starts_with("422: ") && answer.contains(" /1/data"), "{answer}");
    for (body, expected) in [
        ("[]", "a batch has 1 to 50 events, this one has 0"),
        ("{}", "400: not JSON"),
        ("[1]", "/0 not a CloudEvent 1.0"),
        (
            r#"[{"specversion": "1.0", "id": "1", "source": "x", "type": "y"}]"#,
            "/0/type the event's type is not known",
        ),
    ] {
        let answer = said(read(&headers, body.as_bytes(), &Jobs::default()));
        assert!(answer.contains(expected), "{body}: {answer}");
    }
}

#[test]
fn a_batch_names_each_event_once() {
    let headers = headers("cloudevents-batch-three.headers");
    let mut batch: Value = serde_json::from_slice(&file("cloudevents-batch-three.body")).unwrap();
    batch[2]["id"] = batch[1]["id"].clone();
    let answer = said(read(&headers, batch.to_string().as_bytes(), &Jobs::parse(JOBS).unwrap()));
    assert!(
        answer.ends_with(" /2 the same source and id as another event of the batch"),
        "{answer}"
    );
}

#[test]
fn the_plugin_of_jenkins_is_read_as_java_writes_it() {
    let with_status =
        |name: &str| hooked(&format!("cdevents-plugin-with-status-finished-{name}"), JOBS);
    assert_eq!(with_status("success"), FINISHED);
    assert_eq!(with_status("failure"), FINISHED.replace("success", "failure"));
    assert_eq!(
        with_status("unstable"),
        FINISHED.replace("success", "unstable"),
        "unstable is no success"
    );
    assert_eq!(
        with_status("folder"),
        "team/portfolio 42 success mastereflex123/team:v42-abc1234 abc1234"
    );
    for name in ["started", "queued", "taskrun-finished"] {
        let answer = hooked(&format!("cdevents-plugin-{name}"), JOBS);
        assert!(
            answer.starts_with("ignored: dev.cdevents.")
                && answer.ends_with("is not the end of a build"),
            "{answer}"
        );
    }
    for name in ["completed", "umlaut"] {
        let answer = hooked(&format!("cloudevents-plugin-job-{name}"), JOBS);
        assert!(answer.starts_with("ignored: org.jenkinsci.job."), "{answer}");
    }
}

#[test]
fn a_run_that_may_have_been_unstable_is_not_deployed_unless_somebody_said_so() {
    let answer = hooked("cdevents-plugin-finished-success", JOBS);
    assert!(
        answer.contains("/customData/build/status missing: without it, nobody knows"),
        "{answer}"
    );
    let expected = "portfolio 42 success mastereflex123/portfolio:v42-abc1234 -";
    assert_eq!(hooked("cdevents-plugin-finished-params", BY_PARAMETER), expected);
    let answer = hooked("cdevents-plugin-finished-success", BY_PARAMETER);
    assert!(answer.contains("/subject the event names no parameter IMAGE"), "{answer}");
    for name in ["hostile-name", "umlaut"] {
        assert!(
            hooked(&format!("cdevents-plugin-finished-{name}"), JOBS).starts_with("422: "),
            "{name}"
        );
    }
}

#[test]
fn what_java_did_not_write_is_refused_with_the_reason() {
    for (body, expected) in [
        ("CloudEvent{", "it does not begin with an id"),
        ("CloudEvent{id='1'", "it has no source"),
        ("CloudEvent{id='1', source=a, type='t', data=null", "it has no data"),
        (
            "CloudEvent{id='1', source=a, type='t', data=BytesCloudEventData{value=[1, 2",
            "its data do not end",
        ),
        (
            "CloudEvent{id='1', source=a, type='t', data=BytesCloudEventData{value=[300]}",
            "not numbers from -128 to 127",
        ),
        (
            "CloudEvent{id='1', source=a, type='t', data=BytesCloudEventData{value=[-61]}",
            "its data are not JSON",
        ),
    ] {
        let answer = said(read_hook(&HeaderMap::new(), body.as_bytes(), &Jobs::default()));
        assert!(answer.starts_with("400: ") && answer.contains(expected), "{body}: {answer}");
    }
}

#[test]
fn an_unknown_version_is_told_with_those_that_are_known() {
    let mut event: Value =
        serde_json::from_slice(&file("cdevents-0.5.1-artifact-published-oci.json")).unwrap();
    for version in ["0.6.0", "1.0.0", "0.5", "", "0.5.x"] {
        event["context"]["specversion"] = version.into();
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let answer = said(read(&headers, event.to_string().as_bytes(), &Jobs::default()));
        let expected =
            format!("the version of CDEvents is '{version}'; known are 0.1, 0.2, 0.3, 0.4 and 0.5");
        assert!(answer.starts_with("422: ") && answer.contains(&expected), "{answer}");
    }
}

/// Whatever is sent: it is read, or refused with a reason, and never a mistake of ours. `PROPTEST_CASES` says how often.
mod anything {
    use proptest::prelude::*;

    use super::*;

    const TEXTS: [&str; 8] = [
        "",
        "x",
        "dev.cdevents.artifact.published.0.2.0",
        "pkg:oci/a@sha256%3A1",
        "0.9",
        "1.0",
        "\u{0}",
        "🙂",
    ];

    const TYPES: [&str; 3] =
        ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"];

    /// An example with some bytes put in place of others.
    fn spoiled(examples: &'static [&str]) -> impl Strategy<Value = Vec<u8>> {
        let change =
            (any::<prop::sample::Index>(), 0..40_usize, prop::collection::vec(any::<u8>(), 0..20));
        (prop::sample::select(examples), prop::collection::vec(change, 1..6)).prop_map(
            |(name, changes)| {
                let mut bytes = file(name);
                for (at, length, new) in changes {
                    let at = at.index(bytes.len().max(1)).min(bytes.len());
                    let end = (at + length).min(bytes.len());
                    bytes.splice(at..end, new);
                }
                bytes
            },
        )
    }

    /// An example with one of its values put in place of another, which leaves it JSON.
    fn mixed(examples: &'static [&str]) -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(&TEXTS[..]).prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            Just(serde_json::json!({})),
            Just(serde_json::json!([1, [2], {"a": 3}])),
        ];
        let place = prop::collection::vec(any::<prop::sample::Index>(), 1..6);
        (prop::sample::select(examples), place, value).prop_map(|(name, places, value)| {
            let mut whole: Value = serde_json::from_slice(&file(name)).unwrap();
            let mut pointer = String::new();
            for place in places {
                let inner = match whole.pointer(&pointer) {
                    Some(Value::Object(fields)) => {
                        fields.keys().nth(place.index(fields.len().max(1))).cloned()
                    }
                    Some(Value::Array(items)) if !items.is_empty() => {
                        Some(place.index(items.len()).to_string())
                    }
                    _ => None,
                };
                let Some(inner) = inner else { break };
                pointer = format!("{pointer}/{inner}");
            }
            if let Some(at) = whole.pointer_mut(&pointer) {
                *at = value;
            }
            whole.to_string().into_bytes()
        })
    }

    /// An event as the cdevents-plugin of Jenkins sends it: its bytes in decimal, signed.
    fn in_decimal(event: &[u8]) -> Vec<u8> {
        let sent =
            String::from_utf8(file("cdevents-plugin-with-status-finished-success.body")).unwrap();
        let (head, rest) = sent.split_once("value=[").unwrap();
        let (_, tail) = rest.split_once(']').unwrap();
        let bytes: Vec<_> = event.iter().map(|byte| byte.cast_signed().to_string()).collect();
        format!("{head}value=[{}]{tail}", bytes.join(", ")).into_bytes()
    }

    fn judge(body: &[u8], content_type: &str, binary: bool) {
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())]);
        if binary {
            let attributes = [
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", "a/%ff"),
                ("ce-type", "dev.cdevents.artifact.published.0.2.0"),
            ];
            headers.extend(attributes.map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value))
            }));
        }
        let jobs = Jobs::parse(JOBS).unwrap();
        for result in [read(&headers, body, &jobs), read_hook(&headers, body, &jobs)] {
            if let Err(problem) = result {
                assert!(problem.status().is_client_error(), "{}", problem.detail());
            }
        }
    }

    proptest! {
        #[test]
        fn bytes(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3_usize, binary: bool) {
            judge(&body, TYPES[kind], binary);
        }
    }

    /// The tests of one adapter, on examples of what it reads.
    macro_rules! adapter {
        ($name:ident, $examples:expr, $mixed:expr) => {
            mod $name {
                use super::*;

                proptest! {
                    #[test]
                    fn spoiled_examples(body in spoiled(&$examples), kind in 0..3_usize, binary: bool) {
                        judge(&body, TYPES[kind], binary);
                    }

                    #[test]
                    fn mixed_examples(body in $mixed, kind in 0..3_usize, binary: bool) {
                        judge(&body, TYPES[kind], binary);
                    }
                }
            }
        };
    }

    const CDEVENTS: [&str; 4] = [
        "cdevents-0.1.2-artifact-published-oci.json",
        "cdevents-0.3.0-artifact-published-docker.json",
        "cdevents-0.4.1-artifact-published-oci.json",
        "cdevents-0.5.1-pipelinerun-finished-success.json",
    ];

    const CLOUDEVENTS: [&str; 3] = [
        "cloudevents-batch-three.body",
        "cloudevents-binary-artifact-0.4.1.body",
        "cloudevents-structured-data-base64.body",
    ];

    adapter!(native, ["native.json"], mixed(&["native.json"]));
    adapter!(cdevents, CDEVENTS, mixed(&CDEVENTS));
    adapter!(cloudevents, CLOUDEVENTS, mixed(&CLOUDEVENTS));
    adapter!(
        jenkins,
        [
            "cdevents-plugin-with-status-finished-success.body",
            "cdevents-plugin-finished-success.body"
        ],
        mixed(&CDEVENTS).prop_map(|event| in_decimal(&event))
    );
}

//! `nats/streams/*.json` are the streams of the code, for `nats stream add --config`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use events::{ALL_STREAMS, Stream};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../nats/streams")
}

/// `UPDATE_FILES=1 cargo test -p events` writes the files again.
#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of this test, not configuration")]
fn the_files_for_the_nats_cli_equal_the_code() {
    for stream in ALL_STREAMS {
        let path = folder().join(format!("{}.json", stream.name));
        let expected = stream.to_json(1);
        if std::env::var_os("UPDATE_FILES").is_some() {
            fs::write(&path, format!("{expected:#}\n")).unwrap();
        }
        let found: Value =
            serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default();
        assert!(found == expected, "{} has to hold:\n{expected:#}", path.display());
    }
}

#[test]
fn there_is_a_file_for_nothing_else() {
    let files: BTreeSet<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected: BTreeSet<_> =
        ALL_STREAMS.iter().map(|stream| format!("{}.json", stream.name).into()).collect();
    assert_eq!(files, expected);
}

#[test]
fn no_two_streams_want_the_same_subject() {
    let of = |stream: &Stream| -> BTreeSet<_> {
        stream
            .subjects
            .iter()
            .map(|subject| subject.split('.').take(2).collect::<Vec<_>>())
            .collect()
    };
    let tokens: Vec<_> = ALL_STREAMS.into_iter().flat_map(of).collect();
    let different: BTreeSet<_> = tokens.iter().collect();
    assert_eq!(different.len(), tokens.len());
}

#[test]
fn nothing_accepted_is_discarded() {
    let forgetful = ["ROLLOUTS", "IDEMPOTENCY_VISITORS"];
    for stream in ALL_STREAMS.iter().filter(|stream| !forgetful.contains(&stream.name)) {
        assert_eq!(stream.to_json(1)["discard"], Value::from("new"), "{}", stream.name);
    }
}

//! Every command of the documents is in `commands.txt`, which says where it is run: by this test, in a system of the manifests; by
//! another one; or not here, and why.

mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use testbed::workspace_folder;

pub(crate) use run::{can_run, run_at, say_what_works};

const TABLE: &str = "e2e/tests/manifests/commands.txt";

/// It is run by this test.
const HERE: &str = "here";

/// It is run by this test, for `overlays/production`.
pub(crate) const UPGRADE: &str = "here, as an upgrade";

/// It is run by this test, where an `ArgoCD` is at work.
pub(crate) const WITH_ARGOCD: &str = "here, with ArgoCD";

/// What a command in the middle of a sentence begins with.
const PROGRAMS: [&str; 15] = [
    "cargo",
    "contact-worker",
    "curl",
    "deployer",
    "docker",
    "gateway",
    "git",
    "kind",
    "kubectl",
    "nats",
    "npx",
    "openssl",
    "printf",
    "rm",
    "ssh-keyscan",
];

/// By document, and by the command's first line: where it is run.
type Listed = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the table.
fn listed() -> Listed {
    let mut listed = Listed::new();
    let (mut document, mut place) = ("", "");
    let table = fs::read_to_string(workspace_folder().join(TABLE)).unwrap();
    for line in table.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            document = name;
        } else if let Some(found) = line.strip_prefix('[') {
            place = found.strip_suffix(']').unwrap_or_else(|| panic!("{line} has no end"));
        } else if !line.is_empty() && !line.starts_with("# ") && line != "#" {
            let before = listed
                .entry(document.to_owned())
                .or_default()
                .insert(line.to_owned(), place.to_owned());
            assert!(before.is_none(), "{document}: {line} is there twice");
        }
    }
    listed
}

/// The documents, in the order in which their commands are run: what removes everything comes last.
fn documents() -> Vec<String> {
    let mut documents: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned).into();
    for folder in ["docs", "docs/runbooks"] {
        let entries = fs::read_dir(workspace_folder().join(folder)).unwrap();
        let paths = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "md"));
        documents
            .extend(paths.map(|path| format!("{folder}/{}", path.file_name().unwrap().display())));
    }
    documents.sort_by_key(|name| (name == "docs/install.md", name.clone()));
    documents
}

/// The commands of a document in their order: blocks, and what stands in sentences, each as a block of its own.
fn commands(document: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(workspace_folder().join(document)).unwrap();
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            found.extend(part.strip_prefix("sh\n").map(split));
            continue;
        }
        let spans = part.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        found.extend(spans.filter(|span| is_command(span)).map(|span| vec![span.to_owned()]));
    }
    found
}

/// Whether a piece of code in a sentence is something to type.
fn is_command(span: &str) -> bool {
    let is_variable = |word: &&str| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let mut words = span.split(' ').skip_while(is_variable);
    let Some(first) = words.next() else { return false };
    words.next().is_some()
        && (PROGRAMS.contains(&first)
            || ["ci/", "k8s/", "nats/"].iter().any(|folder| first.starts_with(folder)))
}

/// The commands of a block, each of which may have several lines: bash knows where one ends.
fn split(block: &str) -> Vec<String> {
    let (mut commands, mut command) = (Vec::new(), String::new());
    for line in block.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        command = command + line + "\n";
        if is_whole(&command) {
            commands.push(command.trim().to_owned());
            command.clear();
        }
    }
    assert!(command.is_empty(), "bash does not understand {command}");
    commands
}

fn is_whole(command: &str) -> bool {
    let output = Command::new("bash").args(["-n", "-c", command]).output().unwrap();
    output.status.success() && output.stderr.is_empty() && !command.ends_with("\\\n")
}

/// By what a command is known.
fn first_line(command: &str) -> &str {
    command.lines().next().unwrap()
}

/// Holds the table against the documents.
pub(crate) fn name_no_other_commands() {
    let listed = listed();
    let mut found = BTreeMap::new();
    for document in documents() {
        let commands = commands(&document).concat();
        let lines: BTreeSet<_> =
            commands.iter().map(|command| first_line(command).to_owned()).collect();
        if !lines.is_empty() {
            found.insert(document, lines);
        }
    }
    let known: BTreeMap<_, BTreeSet<_>> = listed
        .iter()
        .map(|(document, by_line)| (document.clone(), by_line.keys().cloned().collect()))
        .collect();
    for (document, lines) in &found {
        let known = known.get(document).cloned().unwrap_or_default();
        assert_eq!(lines, &known, "{document}: left, its commands; right, those in {TABLE}");
    }
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        known.keys().collect::<Vec<_>>(),
        "left, the documents with commands; right, {TABLE}"
    );

    for place in listed.values().flat_map(BTreeMap::values) {
        let known = [HERE, UPGRADE, WITH_ARGOCD].contains(&place.as_str())
            || ["not here: ", "no command: "].iter().any(|start| place.starts_with(start))
            || workspace_folder().join(place.split(": ").next().unwrap()).is_file();
        assert!(known, "[{place}] is no place");
    }
}

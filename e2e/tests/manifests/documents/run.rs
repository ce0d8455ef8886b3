//! Runs the commands of documents, and judges what they say.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;
use testbed::{Fate, eventually, workspace_folder};

use super::{HERE, commands, documents, first_line, listed};
use crate::{
    documented::{Shell, blocks, forwarded},
    installed::{Installed, NAMESPACE},
    processes::{System, make_secrets, with},
    rights,
};

/// The image that is rolled out.
const IMAGE: &str = "mastereflex123/portfolio";

/// An error's answer (RFC 9457), as it comes and as jq shows it.
const REFUSED: [&str; 4] = ["\"status\":4", "\"status\":5", "\"status\": 4", "\"status\": 5"];

/// Parts of commands that say nothing if all is well, or if nothing is under way.
const SILENT: [&str; 5] = [" > ", "select(", "--signal", "state=running", "!=\"Healthy\""];

/// What is said to be run here asks for these, beside what the runbook and the Secrets need.
pub(crate) fn can_run() -> bool {
    testbed::can_run_with(&["ssh-keygen"], "REQUIRE_PROGRAMS") && {
        let mut curl = Command::new("curl");
        // Old ones do not know it, Ubuntu 22.04's for example.
        let knows_json = curl.args(["--json", "{}", "--version"]).stderr(Stdio::null()).output();
        let is_new = knows_json.is_ok_and(|output| output.status.success());
        testbed::can_run(is_new, "curl 7.82 or newer", "REQUIRE_PROGRAMS")
    }
}

/// Runs those that are said to be run here: in a system of `overlays/kind` that has a past.
pub(crate) async fn say_what_works() {
    let listed = listed();
    let installed = Installed::start("k8s/overlays/kind").await;
    installed.all_ready().await;
    rights::in_argocd(&installed).await;
    make_secrets(&installed).await;
    let shell = Shell::new(&installed);
    let mut problems = Vec::new();
    with(&installed, async |system| {
        let failed = make_a_past(system).await;
        shell.may_enter(system.pods);
        for document in documents() {
            let Some(by_line) = listed.get(&document) else { continue };
            let mut done = BTreeSet::new();
            for block in commands(&document) {
                let chosen: Vec<_> = block
                    .into_iter()
                    .filter(|command| {
                        by_line.get(first_line(command)).is_some_and(|place| place == HERE)
                    })
                    .collect();
                // What a sentence names again is not meant to be done again.
                if chosen.is_empty() || (chosen.len() == 1 && done.contains(&chosen)) {
                    continue;
                }
                done.extend(chosen.iter().map(|command| vec![command.clone()]));
                quiet(system).await;
                let needs_letter = chosen.iter().any(|command| command.contains("dead-letters"));
                let stream = if document.contains("contacts") { "CONTACTS" } else { "PIPELINE" };
                // One that was redriven comes back.
                let letter = if needs_letter {
                    eventually("a dead letter", || newest_letter(system, stream)).await
                } else {
                    0
                };
                let stands_for = StandsFor {
                    build: &failed,
                    pod: &a_pod(&installed).await,
                    letter,
                    revision: &good_revision(&installed).await,
                };
                let chosen: Vec<_> =
                    chosen.iter().map(|command| stands_for.in_place(command)).collect();
                let text = forwarded(system, &(sign_in() + &script(&chosen)));
                problems.extend(judge(
                    &document,
                    &shell.try_to_run(&installed, &text).stdout,
                    &chosen,
                ));
            }
        }
    })
    .await;
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Runs those of another place, for an overlay that is installed.
pub(crate) fn run_at(place: &str, installed: &Installed) {
    let shell = Shell::new(installed);
    for (document, by_line) in listed() {
        for block in commands(&document) {
            let chosen: Vec<_> = block
                .into_iter()
                .filter(|command| {
                    by_line.get(first_line(command)).is_some_and(|known| known == place)
                })
                .collect();
            let told = shell.try_to_run(installed, &script(&chosen)).stdout;
            let problems = judge(&document, &told, &chosen);
            assert!(problems.is_empty(), "{}", problems.join("\n"));
        }
    }
}

/// Builds that succeeded, one that failed, and what could not be handled. Gives the one that failed.
async fn make_a_past(system: &mut System<'_>) -> String {
    system.start_all().await;
    system.rolls_out(IMAGE, 2).await;
    system.rolls_out(IMAGE, 3).await;
    let failed = system.posts(IMAGE, 4, Fate::ImageNotFound).await;
    assert_eq!(system.verdict(&failed).await["rollouts"][0]["state"], "rolled_back");
    let bus = system.bus("gateway").await;
    for subject in ["contacts.submitted", "pipeline.build.portfolio"] {
        bus.publish(subject, "[\"nonsense\"]".into()).await.unwrap().await.unwrap();
    }
    for stream in ["CONTACTS", "PIPELINE"] {
        eventually("a dead letter", || newest_letter(system, stream)).await;
    }
    failed
}

/// The sequence of the newest dead letter of a stream.
async fn newest_letter(system: &System<'_>, stream: &str) -> Option<u64> {
    let letters = system.bus("operator").await.get_stream("DEAD_LETTERS").await.unwrap();
    Some(letters.get_last_raw_message_by_subject(&format!("dead.{stream}")).await.ok()?.sequence)
}

/// A pod that may be removed.
async fn a_pod(installed: &Installed) -> String {
    let get = [
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector",
        "app.kubernetes.io/name=contact-worker",
    ];
    let name = ["--output", "jsonpath={.items[0].metadata.name}"];
    installed.cluster.kubectl(&[&get[..], &name].concat()).await.unwrap()
}

/// Waits until nothing is rolled out, since many commands ask for something to be.
async fn quiet(system: &System<'_>) {
    eventually("a quiet target", || async {
        let targets: Value = system.operator().get("/api/targets").await.ok()?.json();
        let targets = targets["targets"].as_array()?;
        targets
            .iter()
            .all(|target| target["queue"].as_array().is_some_and(Vec::is_empty))
            .then_some(())
    })
    .await;
}

/// The newest revision of the gateway's Deployment with a version that is good.
async fn good_revision(installed: &Installed) -> String {
    let history =
        ["--namespace", NAMESPACE, "rollout", "history", "deployment/oriyan-portfolio-app"];
    let told = installed.cluster.kubectl(&history).await.unwrap();
    let is_good =
        |line: &&str| [2, 3].iter().any(|number| line.contains(&Fate::Ready.tag(*number)));
    told.lines()
        .rfind(is_good)
        .unwrap_or_else(|| panic!("{told}"))
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

/// What placeholders of commands stand for.
struct StandsFor<'a> {
    /// One that failed.
    build: &'a str,
    pod: &'a str,
    letter: u64,
    revision: &'a str,
}

impl StandsFor<'_> {
    /// A command with all that, and with what it needs to have been, and to be again.
    fn in_place(&self, command: &str) -> String {
        const ON_KUBECTL: &str = "kubectl -n oriyan-portfolio";
        const APP: &str = "deployment/oriyan-portfolio-app";
        let (resume, none) = (format!("{ON_KUBECTL} rollout resume"), "--replicas=0");
        [
            ("/ID/", format!("/{}/", self.build)),
            (" NAME", format!(" {}", self.pod)),
            ("-letters show 1", format!("-letters show {}", self.letter)),
            ("-letters redrive 1", format!("-letters redrive {}", self.letter)),
            ("-letters erase 1", format!("-letters erase {}", self.letter)),
            ("--to-revision=N", format!("--to-revision={}", self.revision)),
            // Newer than what was rolled out.
            ("v2-abc1234", Fate::Ready.tag(9)),
            ("--number 2", "--number 9".to_owned()),
            (&resume, format!("{ON_KUBECTL} rollout pause {APP} && {resume}")),
            (none, format!("{none} && {ON_KUBECTL} scale {APP} --replicas=2")),
        ]
        .iter()
        .fold(command.to_owned(), |command, (there, here)| command.replace(there, here))
    }
}

/// What the runbooks' commands rest on.
fn sign_in() -> String {
    let text = fs::read_to_string(workspace_folder().join("docs/runbooks/README.md")).unwrap();
    blocks(&text).into_iter().filter(|block| block.contains("export NATS_URL")).collect()
}

/// A script that says of each command how it ended.
fn script(commands: &[String]) -> String {
    let mut script = "set +e\nexec 2>&1\n".to_owned();
    for (index, command) in commands.iter().enumerate() {
        script = script + command + "\nprintf '\\n@@ %s %s\\n' " + &index.to_string() + " $?\n";
    }
    script
}

/// Each command has to have ended well, to have said something, and to have been refused nothing.
fn judge(document: &str, told: &[u8], commands: &[String]) -> Vec<String> {
    let told = String::from_utf8_lossy(told);
    let (mut rest, mut problems) = (told.as_ref(), Vec::new());
    for (index, command) in commands.iter().enumerate() {
        let Some((said, after)) = rest.split_once(&format!("\n@@ {index} ")) else {
            problems.push(format!("{document}: {command}: it ended the shell: {rest}"));
            break;
        };
        let (code, after) = after.split_once('\n').unwrap();
        rest = after;
        show(command, said);
        // grep finds nothing, diff finds something.
        let may_be_one = command.contains("grep ") || command.contains("kubectl diff");
        let ended_well = code == "0" || (code == "1" && may_be_one);
        let refused = said.trim() == "null" || REFUSED.iter().any(|text| said.contains(text));
        let asks = ["curl", "kubectl", "nats "].iter().any(|program| command.starts_with(program));
        let may_be_silent = may_be_one || SILENT.iter().any(|part| command.contains(part));
        let answers = !asks || may_be_silent || !said.trim().is_empty();
        if !ended_well || refused || !answers {
            problems.push(format!("{document}: {command}: ended with {code}, and said: {said}"));
        }
    }
    problems
}

/// For people who look at what the documents' commands say: `--nocapture`.
#[expect(clippy::print_stdout, reason = "the test's own output")]
fn show(command: &str, said: &str) {
    println!("$ {command}\n{said}");
}

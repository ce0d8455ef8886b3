//! `ci/deploy` as a pipeline calls it: what it prints, and how it ends. It needs curl, which is no part of the tools.

use std::{fs, path::PathBuf, process::Stdio};

use serde_json::json;
use testbed::{Fate, eventually, system::CI_TOKEN};
use tokio::process::Command;

use crate::world::{Builds, cluster, image};

fn can_run() -> bool {
    testbed::can_run_with(&["curl"], "REQUIRE_PROGRAMS")
}

/// How it ended, and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    text: String,
}

impl Builds {
    fn script(&self, tag: &str, number: u64) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg("exec 2>&1; exec \"$0\" \"$@\"");
        command.arg(testbed::workspace_folder().join("ci/deploy"));
        command.args([
            "--gateway",
            &self.gateway.url,
            "--image",
            &image(tag),
            "--job",
            "portfolio",
        ]);
        command.args(["--number", &number.to_string(), "--timeout", "60s"]);
        command
            .env("DEPLOY_TOKEN", CI_TOKEN)
            .env_remove("TRACEPARENT")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn deploy(&self, tag: &str, number: u64) -> Ended {
        ended(self.script(tag, number)).await
    }
}

async fn ended(mut command: Command) -> Ended {
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(CI_TOKEN), "{text}");
    Ended { code: output.status.code(), text }
}

/// The same, while what it prints can be read in a file.
async fn ended_in(mut command: Command, file: PathBuf) -> Ended {
    let status = command.stdout(fs::File::create(&file).unwrap()).status().await.unwrap();
    Ended { code: status.code(), text: fs::read_to_string(file).unwrap() }
}

#[tokio::test]
async fn it_ends_as_the_rollout_does() {
    if !can_run() {
        return;
    }
    let world = Builds::start(cluster().await, "ci-deploy", "60s").await;

    let good = world.deploy("v2-abc1234", 2).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.text.starts_with("build accepted: http://127.0.0.1:"), "{good:?}");
    assert!(good.text.contains("build succeeded\nportfolio: succeeded, "), "{good:?}");
    println!("== good\n{}", good.text);

    let again = world.deploy("v2-abc1234", 2).await;
    assert_eq!(
        (again.code, again.text.lines().next()),
        (Some(0), good.text.lines().next()),
        "it is the same build"
    );

    let bad = world.deploy(&Fate::ImageNotFound.tag(3), 3).await;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(
        bad.text.contains("build failed\n") && bad.text.contains("cannot be pulled"),
        "{bad:?}"
    );
    println!("== bad\n{}", bad.text);

    let freeze = json!({"reason": "the shop is open"});
    let path = "/api/targets/portfolio/freeze";
    assert_eq!(world.gateway.operator().post_json(path, &freeze).await.unwrap().status, 202);
    let frozen = world.deploy("v4-abc1234", 4).await;
    assert_eq!(frozen.code, Some(2), "{frozen:?}");
    assert!(
        frozen.text.contains("frozen by ana until somebody resumes it: the shop is open"),
        "{frozen:?}"
    );
    println!("== frozen\n{}", frozen.text);
    let mut dry = world.script("v4-abc1234", 4);
    dry.arg("--dry-run");
    let dry = ended(dry).await;
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.text.starts_with("portfolio: would reject: the target is frozen"), "{dry:?}");

    let refused = world.deploy("latest", 5).await;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.text.contains("/image: the tag 'latest' names no build"), "{refused:?}");
    let mut unknown = world.script("v6-abc1234", 6);
    unknown.env("DEPLOY_TOKEN", "wrong");
    assert_eq!(ended(unknown).await.code, Some(5));
}

#[tokio::test]
async fn it_waits_in_line_and_outlives_the_gateway() {
    if !can_run() {
        return;
    }
    let mut world = Builds::start(cluster().await, "ci-line", "60s").await;
    // What runs takes three seconds for each of two pods.
    let first = world.post(&Fate::SlowlyReady.tag(2)).await;
    eventually("the first to run", || async {
        (world.show(&first).await["rollouts"][0]["state"] == "progressing").then_some(())
    })
    .await;
    let script = world.script("v3-abc1234", 3);
    let waiting = tokio::spawn(ended(script));
    world.verdict(&first).await;
    let queued = waiting.await.unwrap();
    assert_eq!(queued.code, Some(0), "{queued:?}");
    assert!(queued.text.contains("build pending\nportfolio: accepted, "), "{queued:?}");
    println!("== queued\n{}", queued.text);

    let script = world.script(&Fate::SlowlyReady.tag(4), 4);
    let printed = world.scratch.folder("console").unwrap().join("restart");
    let waiting = tokio::spawn(ended_in(script, printed.clone()));
    eventually("the next to run", || async {
        let target = world.gateway.ci().get("/api/targets/portfolio").await.ok()?.json();
        (target["queue"][0]["state"] == "progressing").then_some(())
    })
    .await;
    world.gateway.server.kill();
    eventually("a word about it", || async {
        fs::read_to_string(&printed).ok()?.contains("gateway not available").then_some(())
    })
    .await;
    world.gateway.server.start_again().unwrap();
    let outlived = waiting.await.unwrap();
    assert_eq!(outlived.code, Some(0), "{outlived:?}");
    assert!(outlived.text.contains("gateway answers again, after "), "{outlived:?}");
    println!("== restart\n{}", outlived.text);
}

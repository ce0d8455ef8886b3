//! `cargo xtask up --check`: one contact and one build, all the way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::json;
use testbed::{system::CI_TOKEN, within};

use super::stack::Stack;
use crate::run::say;

/// Posts them and shows what became of them.
pub(crate) async fn run(stack: &Stack) -> anyhow::Result<()> {
    contact(stack).await?;
    build(stack).await?;
    say("\nall is well");
    Ok(())
}

async fn contact(stack: &Stack) -> anyhow::Result<()> {
    let contact =
        json!({"name": "Ada Lovelace", "email": "ada@example.org", "message": "It computes."});
    let answer = stack.http().post_json("/api/contact", &contact).await?;
    ensure!(
        answer.status == 202,
        "the contact was answered with {}: {}",
        answer.status,
        answer.text()
    );
    let id = answer.json()["id"].as_str().context("no id")?.to_owned();
    say(&format!("contact {id} was accepted"));
    let stored = within(Duration::from_secs(30), "the contact in MongoDB", || async {
        stack.mongo.find_by_id("portfolio", "contacts", &id).await.ok()?
    })
    .await?;
    say(&format!("contact {id} is in MongoDB: {stored}"));
    Ok(())
}

async fn build(stack: &Stack) -> anyhow::Result<()> {
    // Every check is a new version, so that each is a rollout of its own.
    let number = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let image = format!("mastereflex123/portfolio:v{number}-abc1234");
    let build = json!({"job": "portfolio", "number": number, "status": "success", "image": image});
    let ci = stack.http().bearer(CI_TOKEN);
    let answer = ci.post_json("/api/builds", &build).await?;
    ensure!(
        answer.status == 202,
        "the build was answered with {}: {}",
        answer.status,
        answer.text()
    );
    let path = answer.json()["url"].as_str().context("no url")?.to_owned();
    say(&format!("build of {image} was accepted"));
    let verdict = within(Duration::from_secs(150), "a verdict", || async {
        let answer = ci.get(&format!("{path}?wait=30s")).await.ok()?;
        (answer.json()["terminal"] == true).then(|| answer.json())
    })
    .await?;
    let rollout = &verdict["rollouts"][0];
    say(&format!("build of {image} has {}: {}", verdict["state"], rollout["transitions"]));
    ensure!(verdict["state"] == "succeeded", "the build has not succeeded: {}", rollout["reason"]);
    Ok(())
}

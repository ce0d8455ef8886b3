//! What people decide is done, by everybody and after every restart, and it is told who decided it.

use http::Method;
use serde_json::{Value, json};
use testbed::{eventually, http::Answer};

use crate::world::{Builds, cluster, image, states};

impl Builds {
    /// The target, once it is so.
    async fn target_once(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || async {
            let target = self.gateway.ci().get("/api/targets/portfolio").await.ok()?;
            (target.status == 200).then(|| target.json()).filter(|target| fits(target))
        })
        .await
    }

    async fn decide(&self, path: &str, body: &Value) -> Answer {
        let answer = self.gateway.operator().post_json(path, body).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer
    }

    async fn dry_run(&self, tag: &str) -> Value {
        let build =
            json!({"job": "portfolio", "number": 1, "status": "success", "image": image(tag)});
        let answer = self.gateway.ci().post_json("/api/builds?dry_run=true", &build).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["decisions"][0].clone()
    }
}

fn reason(build: &Value) -> &str {
    build["rollouts"][0]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_frozen_target_takes_nothing_until_it_is_resumed() {
    let mut world = Builds::start(cluster().await, "frozen", "60s").await;
    world.target_once("what runs", |target| target["running"] == image("v1-0000001")).await;
    let path = "/api/targets/portfolio/freeze";
    let answer = world
        .decide(path, &json!({"reason": "the shop is open", "until": "2100-01-01T00:00:00Z"}))
        .await;
    let freeze =
        json!({"by": "ana", "reason": "the shop is open", "until": "2100-01-01T00:00:00.000Z"});
    assert_eq!(answer.json()["freeze"], freeze);

    // Both forget nothing.
    world.deployer.kill_and_start_again().unwrap();
    world.gateway.kill_and_start_again().unwrap();
    world.gateway.ready().await.unwrap();
    let expected = "the target is frozen by ana until 2100-01-01T00:00:00Z: the shop is open";
    assert_eq!(world.dry_run("v2-abc1234").await["reason"], expected);
    let build = world.verdict(&world.post("v2-abc1234").await).await;
    assert_eq!((&build["state"], reason(&build)), (&json!("rejected"), expected), "{build:#}");

    let resumed = world.gateway.operator().send(Method::DELETE, path, "").await.unwrap();
    assert_eq!(
        (resumed.status.as_u16(), &resumed.json()["freeze"]),
        (202, &json!(null)),
        "{}",
        resumed.text()
    );
    assert_eq!(world.dry_run("v2-abc1234").await["decision"], "accept");
    let build = world.verdict(&world.post("v2-abc1234").await).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
}

#[tokio::test]
async fn an_operator_goes_back_even_while_the_target_is_frozen() {
    let world = Builds::start(cluster().await, "back", "60s").await;
    world.target_once("what runs", |target| target["running"] == image("v1-0000001")).await;
    let nothing = world
        .gateway
        .operator()
        .post_json("/api/targets/portfolio/rollback", &json!({"reason": "x"}))
        .await;
    assert_eq!(nothing.unwrap().status, 409);
    for tag in ["v2-abc1234", "v3-abc1234"] {
        let build = world.verdict(&world.post(tag).await).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
    }
    let target =
        world.target_once("what runs", |target| target["running"] == image("v3-abc1234")).await;
    assert_eq!(target["way_back"], image("v2-abc1234"), "{target:#}");
    assert_eq!(target["last_verdict"]["state"], "succeeded");
    world.decide("/api/targets/portfolio/freeze", &json!({"reason": "v3 loses orders"})).await;
    let path = "/api/targets/portfolio/rollback";
    let stale = json!({"reason": "v3 loses orders", "image": image("v1-0000001")});
    assert_eq!(world.gateway.operator().post_json(path, &stale).await.unwrap().status, 409);
    let body = json!({"reason": "v3 loses orders", "image": image("v2-abc1234")});
    let id = world.decide(path, &body).await.json()["id"].as_str().unwrap().to_owned();
    let build = world.verdict(&id).await;
    assert_eq!(
        (&build["state"], states(&build).last()),
        (&json!("succeeded"), Some(&"succeeded")),
        "{build:#}"
    );
    assert_eq!(
        build["forced"],
        json!({"by": "ana", "reason": "v3 loses orders", "rollback": true})
    );
    assert_eq!(build["build"]["image"], image("v2-abc1234"));
    world
        .target_once("the version before", |target| target["running"] == image("v2-abc1234"))
        .await;
}

#[tokio::test]
async fn a_build_that_is_older_is_rejected_until_an_operator_forces_it() {
    let world = Builds::start(cluster().await, "older", "60s").await;
    world.verdict(&world.post("v5-abc1234").await).await;
    world.target_once("what runs", |target| target["running"] == image("v5-abc1234")).await;
    let told = world.dry_run("v4-abc1234").await;
    let id = world.post("v4-abc1234").await;
    let build = world.verdict(&id).await;
    assert_eq!(build["state"], "rejected", "{build:#}");
    assert_eq!(
        told,
        json!({"target": "portfolio", "decision": "reject", "image": null, "reason": reason(&build)})
    );
    let path = format!("/api/builds/{id}/force");
    let answer = world.decide(&path, &json!({"reason": "v5 is slow", "target": "portfolio"})).await;
    let forced = world.verdict(answer.json()["id"].as_str().unwrap()).await;
    assert_eq!(forced["state"], "succeeded", "{forced:#}");
    assert_eq!(forced["forced"]["by"], "ana");
}

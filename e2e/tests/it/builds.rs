//! A build ends in a verdict that is true.

use serde_json::json;
use testbed::eventually;

use crate::world::{Builds, cluster, image, logged, states};

#[tokio::test]
async fn a_good_build_succeeds_and_kubectl_agrees() {
    let cluster = cluster().await;
    let world = Builds::start(cluster, "good", "60s").await;
    let id = world.post("v2-abc1234").await;
    let build = world.verdict(&id).await;

    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(states(&build), ["accepted", "patching", "progressing", "succeeded"]);
    let rollout = &build["rollouts"][0];
    assert_eq!(rollout["image"], image("v2-abc1234"));
    assert_eq!(rollout["previous_image"], image("v1-0000001"));
    assert_eq!(
        rollout["progress"],
        json!({"desired": 2, "updated": 2, "ready": 2, "available": 2})
    );
    cluster
        .kubectl(&[
            "-n",
            "good",
            "rollout",
            "status",
            "deployment/oriyan-portfolio-app",
            "--timeout=1s",
        ])
        .await
        .unwrap();
    let managers = [
        "-n",
        "good",
        "get",
        "deployment/oriyan-portfolio-app",
        "--show-managed-fields",
        "-o",
        "jsonpath={.metadata.managedFields[*].manager} {.spec.template.spec.containers[0].image}",
    ];
    let found = cluster.kubectl(&managers).await.unwrap();
    assert!(found.contains("deployer") && found.ends_with(&image("v2-abc1234")), "{found}");
}

#[tokio::test]
async fn a_build_that_never_gets_ready_fails_by_our_deadline_and_kubectl_agrees() {
    let cluster = cluster().await;
    let world = Builds::start(cluster, "never-ready", "3s").await;
    let id = world.post("v2-bad01234").await;
    let build = world.verdict(&id).await;

    assert_eq!(build["state"], "failed", "{build:#}");
    let rollout = &build["rollouts"][0];
    assert_eq!(rollout["diagnosis"]["cause"], "DeadlineExceeded");
    assert!(rollout["reason"].as_str().unwrap().contains("not done within 3s"), "{build:#}");
    let status = [
        "-n",
        "never-ready",
        "rollout",
        "status",
        "deployment/oriyan-portfolio-app",
        "--timeout=1s",
    ];
    let error = cluster.kubectl(&status).await.unwrap_err().to_string();
    assert!(error.contains("timed out waiting for the condition"), "{error}");
}

#[tokio::test]
async fn what_no_target_takes_is_rejected_with_the_reason() {
    let world = Builds::start(cluster().await, "rejects", "60s").await;
    for (body, target, reason) in [
        (json!({"image": "x/y:v1-abcd"}), json!(null), "no target takes images of docker.io/x/y"),
        (
            json!({"image": image("v2-abc1234"), "status": "failure"}),
            json!("portfolio"),
            "the build ended with failure",
        ),
    ] {
        let mut build = json!({"job": "portfolio", "number": 1, "status": "success"});
        build.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = world.gateway.ci().post_json("/api/builds", &build).await.unwrap();
        let build = world.verdict(answer.json()["id"].as_str().unwrap()).await;
        assert_eq!(build["state"], "rejected", "{build:#}");
        assert_eq!(build["rollouts"][0]["target"], target);
        let found = build["rollouts"][0]["reason"].as_str().unwrap();
        assert!(found.starts_with(reason), "{found}");
    }
}

#[tokio::test]
async fn a_trace_goes_on_from_the_client_to_the_rollout() {
    let world = Builds::start(cluster().await, "traced", "60s").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let ci = world.gateway.ci().with("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"));
    let build =
        json!({"job": "portfolio", "number": 1, "status": "success", "image": image("v2-abc1234")});
    let answer = ci.post_json("/api/builds", &build).await.unwrap();
    assert!(answer.header("traceresponse").contains(trace), "{}", answer.header("traceresponse"));
    world.verdict(answer.json()["id"].as_str().unwrap()).await;
    for message in ["build accepted", "rollout succeeded"] {
        let line = logged(&world.deployer.server, message, |line| {
            line["message"].as_str().is_some_and(|text| text.starts_with(message))
        });
        assert_eq!(line.await["trace_id"], trace);
    }
}

#[tokio::test]
async fn builds_are_found_by_another_gateway_and_after_a_restart() {
    let mut world = Builds::start(cluster().await, "replicas", "60s").await;
    let other = testbed::Gateway::start(&world.scratch.folder("gateway-2").unwrap(), &world.nats)
        .await
        .unwrap();
    let id = world.post("v2-abc1234").await;
    let found = other.ci().get(&format!("/api/builds/{id}")).await.unwrap();
    assert_eq!((found.status.as_u16(), &found.json()["id"]), (200, &json!(id)));
    let verdict = world.verdict(&id).await;

    world.gateway.kill_and_start_again().unwrap();
    world.gateway.ready().await.unwrap();
    assert_eq!(world.show(&id).await, verdict);
    eventually("the same on the other", || async {
        (other.ci().get(&format!("/api/builds/{id}")).await.ok()?.json() == verdict).then_some(())
    })
    .await;
    let unknown = "01980000-0000-7000-8000-000000000001";
    assert_eq!(other.ci().get(&format!("/api/builds/{unknown}")).await.unwrap().status, 404);
}

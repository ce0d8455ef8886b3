//! A rollout comes to its true end when parts are killed in its middle, and writes to the cluster once.

use std::time::Duration;

use events::{BuildId, DeployRequested, V1};
use serde_json::{Value, json};
use testbed::{Cluster, Scratch, eventually};

use crate::world::{Builds, cluster, image, states};

/// A field of the target's Deployment.
async fn field(cluster: &Cluster, namespace: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    cluster
        .kubectl(&["-n", namespace, "get", "deployment/oriyan-portfolio-app", "-o", &path])
        .await
        .unwrap()
}

async fn in_state(world: &Builds, id: &str, state: &str) -> Value {
    eventually(state, || async {
        let build = world.show(id).await;
        (build["rollouts"][0]["state"] == state).then_some(build)
    })
    .await
}

#[tokio::test]
async fn a_deployer_that_is_killed_goes_on_and_keeps_the_deadline() {
    let cluster = cluster().await;
    let mut world = Builds::start(cluster, "killed", "8s").await;
    let before = field(cluster, "killed", ".metadata.generation").await.parse::<u64>().unwrap();
    let id = world.post("v2-bad01234").await;
    for _ in 0..3 {
        in_state(&world, &id, "progressing").await;
        world.deployer.kill_and_start_again().unwrap();
        world.deployer.ready().await.unwrap();
    }
    let build = world.verdict(&id).await;
    assert_eq!(build["state"], "failed", "{build:#}");
    assert_eq!(build["rollouts"][0]["diagnosis"]["cause"], "DeadlineExceeded");
    assert_eq!(states(&build), ["accepted", "patching", "progressing", "failed"]);
    assert_eq!(
        field(cluster, "killed", ".metadata.generation").await,
        (before + 1).to_string(),
        "one write"
    );
    let at = |index: usize| {
        let text = build["rollouts"][0]["transitions"][index]["at"].as_str().unwrap().to_owned();
        text.parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    };
    let took = (at(3) - at(1)).to_std().unwrap();
    assert!(
        took >= Duration::from_secs(8),
        "the deadline is the one that was set at first: {took:?}"
    );
}

#[tokio::test]
async fn builds_that_are_killed_anywhere_succeed_with_one_write_each() {
    let cluster = cluster().await;
    let mut world = Builds::start(cluster, "anywhere", "60s").await;
    let before = field(cluster, "anywhere", ".metadata.generation").await.parse::<u64>().unwrap();
    for round in 0..5_u64 {
        let tag = format!("v{}-abc1234", round + 2);
        let id = world.post(&tag).await;
        // Each round a little later, from before the planner to after the verdict.
        tokio::time::sleep(Duration::from_millis(15 * round)).await;
        world.deployer.kill_and_start_again().unwrap();
        let build = world.verdict(&id).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
        let generation = field(cluster, "anywhere", ".metadata.generation").await;
        assert_eq!(generation, (before + round + 1).to_string(), "one write a rollout");
    }
}

#[tokio::test]
async fn a_rollout_survives_the_bus() {
    let cluster = cluster().await;
    let mut world = Builds::start(cluster, "no-bus", "60s").await;
    let id = world.post("v2-bad01234").await;
    in_state(&world, &id, "progressing").await;
    world.nats.server.kill();
    // Meanwhile the version gets well: the image is the same, and the pods are ready.
    cluster
        .kubectl(&["-n", "no-bus", "scale", "deployment/oriyan-portfolio-app", "--replicas=0"])
        .await
        .unwrap();
    world.nats.start_again().await.unwrap();
    let build = world.verdict(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
}

#[tokio::test]
async fn a_rollout_survives_the_api_server_and_builds_wait_for_it() {
    // A control plane of its own, since it is stopped.
    let scratch = Scratch::new().unwrap();
    let mut cluster = Cluster::start(scratch.path()).await.unwrap();
    let world = Builds::start(&cluster, "own", "60s").await;
    let first = world.post("v2-bad01234").await;
    in_state(&world, &first, "progressing").await;
    cluster.api_server.kill();
    eventually("an unready deployer", || async {
        let report = world.deployer.admin.get("/readyz").await.ok()?.json();
        (report["dependencies"]["kubernetes"]["ready"] == false).then_some(())
    })
    .await;
    let second = world.post("v3-abc1234").await;
    assert_eq!(world.show(&second).await["terminal"], false);
    cluster.start_api_server_again().await.unwrap();

    // Somebody else takes the first one's place, which is no success of it.
    let image = image("v1-abc1234");
    let set =
        ["-n", "own", "set", "image", "deployment/oriyan-portfolio-app", &format!("app={image}")];
    cluster.kubectl(&set).await.unwrap();
    let build = world.verdict(&first).await;
    assert_eq!(build["rollouts"][0]["state"], "reverted", "{build:#}");
    assert!(build["rollouts"][0]["reason"].as_str().unwrap().contains(&image), "{build:#}");
    let build = world.verdict(&second).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
}

#[tokio::test]
async fn a_request_for_an_image_of_another_repository_is_rejected() {
    let cluster = cluster().await;
    let world = Builds::start(cluster, "another", "60s").await;
    let before = field(cluster, "another", ".metadata.generation").await;
    let request = DeployRequested {
        v: V1,
        build_id: BuildId::new(),
        target: "portfolio".parse().unwrap(),
        image: "mastereflex123/another:v9-abc1234".to_owned(),
        forced: true,
        rollback: false,
        requested_at: chrono::Utc::now(),
    };
    let jetstream =
        async_nats::jetstream::new(async_nats::connect(world.nats.url()).await.unwrap());
    let payload = serde_json::to_vec(&request).unwrap();
    jetstream
        .publish(DeployRequested::subject_of(&request.target), payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
    let rollouts = jetstream.get_stream("ROLLOUTS").await.unwrap();
    let subject = format!("rollout.portfolio.{}", request.build_id);
    let change = eventually("its verdict", || async {
        let last = rollouts.get_last_raw_message_by_subject(&subject).await.ok()?;
        serde_json::from_slice::<Value>(&last.payload).ok()
    })
    .await;
    let reason =
        "mastereflex123/another:v9-abc1234 is not an image of docker.io/mastereflex123/portfolio";
    assert_eq!(
        (&change["state"], &change["reason"]),
        (&json!("rejected"), &json!(reason)),
        "{change:#}"
    );
    assert_eq!(
        field(cluster, "another", ".metadata.generation").await,
        before,
        "nothing was written"
    );
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let cluster = cluster().await;
    let world = Builds::start(cluster, "missing", "60s").await;
    cluster.kubectl(&["-n", "missing", "delete", "deployment/oriyan-portfolio-app"]).await.unwrap();
    let id = world.post("v2-abc1234").await;
    let build = world.verdict(&id).await;
    assert_eq!(build["state"], "failed", "{build:#}");
    assert_eq!(build["rollouts"][0]["diagnosis"]["cause"], "DeploymentNotFound");
}

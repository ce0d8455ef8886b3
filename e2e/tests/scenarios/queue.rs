//! What became of earlier builds, and what waits.

use events::{BuildFinished, BuildId, BuildStatus, Forced, V1};
use serde_json::json;
use testbed::{Fate, eventually};

use crate::scene::{Case, Scene, Verdict};

/// Tells the deployer of a build that a person forces.
async fn force(scene: &Scene, tag: &str) -> BuildId {
    let id = BuildId::new();
    let build = BuildFinished {
        v: V1,
        id,
        job: scene.case.name.parse().unwrap(),
        number: 1,
        status: BuildStatus::Success,
        image: scene.image_of(tag),
        digest: None,
        commit: None,
        branch: None,
        url: None,
        forced: Some(Forced {
            by: "ana".to_owned(),
            reason: "the registry was wrong".to_owned(),
            rollback: false,
        }),
        target: None,
        trace_id: None,
        received_at: chrono::Utc::now(),
    };
    let url = scene.world.shared().await.bus.nats.url();
    let client = async_nats::connect(url).await.unwrap();
    let payload = serde_json::to_vec(&build).unwrap();
    let subject = format!("pipeline.build.{}", scene.case.name);
    async_nats::jetstream::new(client)
        .publish(subject, payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
    id
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("same-build-twice", "the same build twice", |scene| async move {
            let tag = Fate::Ready.tag(2);
            scene.post(&tag).await.verdict().await.succeeded(15.0);
            let generation = scene.field(".metadata.generation").await;
            let again = scene.roll_out(&tag).await;
            again.succeeded(15.0);
            assert_eq!(scene.field(".metadata.generation").await, generation, "nothing was written again");
        }),
        Case::new("already-runs", "the image runs already", |scene| async move {
            let generation = scene.field(".metadata.generation").await;
            let verdict = scene.roll_out(&Fate::Ready.tag(1)).await;
            verdict.succeeded(15.0);
            assert_eq!(scene.field(".metadata.generation").await, generation, "nothing was written");
        }),
        Case::new("older", "the build is older than what runs", |scene| async move {
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("rejected", "", 5.0).says("older than what runs");
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(3)));
        })
        .first(Fate::Ready.tag(3)),
        Case::new("five-queued", "five builds at once: the newest follows the first", |scene| async move {
            scene.hold().await;
            let first = scene.post(&Fate::Ready.tag(2)).await;
            first.reaches("progressing").await;
            let mut others = Vec::new();
            for number in 3..=6 {
                others.push(scene.post(&Fate::Ready.tag(number)).await);
            }
            let newest = others.pop().unwrap();
            scene.release().await;
            first.verdict().await.succeeded(20.0);
            newest.watched().await.verdict().await.succeeded(15.0);
            for build in others {
                build.verdict().await.is("superseded", "", 30.0).says("a newer build takes its place");
            }
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(6)));
        }),
        Case::new("rollback-fails", "the way back fails too", |scene| async move {
            let verdict = scene.roll_out(&Fate::ImageNotFound.tag(2)).await;
            verdict.is("failed", "ImagePullBackOff", 8.0).says("could not be rolled back");
            assert_eq!(verdict.field("/rollback/diagnosis/cause"), &json!("DeadlineExceeded"), "{:#}", verdict.0);
        })
        .first(Fate::NeverReady.tag(1))
        .settings("deadline: 6s, failure_grace: 3s, rollback: true"),
        Case::new("no-way-back", "there is no image to go back to", |scene| async move {
            // What runs is known to be bad.
            let first = scene.post(&Fate::ImageNotFound.tag(1)).await.verdict().await;
            first.is("failed", "ImagePullBackOff", 8.0);
            let verdict = scene.roll_out(&Fate::ImageNotFound.tag(2)).await;
            verdict.is("failed", "ImagePullBackOff", 8.0).says("there is no image to go back to");
            assert_eq!(scene.image().await, scene.image_of(&Fate::ImageNotFound.tag(2)));
        })
        .first(Fate::ImageNotFound.tag(1)),
        Case::new("quarantined", "a version that failed before, and is forced then", |scene| async move {
            let tag = Fate::ImageNotFound.tag(2);
            let first = scene.post(&tag).await.verdict().await;
            first.is("rolled_back", "ImagePullBackOff", 8.0);
            let generation = scene.field(".metadata.generation").await;
            scene.roll_out(&tag).await.is("rejected", "", 5.0).says("quarantine");
            assert_eq!(scene.field(".metadata.generation").await, generation, "nothing was written");
            let id = force(&scene, &tag).await;
            let gateway = &scene.world.shared().await.bus.gateway;
            let forced = eventually("a verdict", || async {
                let build = gateway.ci().get(&format!("/api/builds/{id}?wait=20s")).await.ok()?.json();
                (build["terminal"] == true).then_some(build)
            })
            .await;
            assert_eq!(forced["rollouts"][0]["state"], "rolled_back", "{forced:#}");
        }),
        Case::new("parallel", "two targets of one repository, one of which fails", |scene| async move {
            // The new pod of the other one finds no room beside the old one.
            let other = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "other", "namespace": scene.case.name},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "other"}}, "template": {
                    "metadata": {"labels": {"app": "other"}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app",
                        "image": scene.image_of(&Fate::Ready.tag(1)), "resources": {"requests": {"memory": "600Gi"}}}]}}}});
            scene.cluster().await.apply(&other.to_string()).await.unwrap();
            scene.kubectl(&["rollout", "status", "deployment/other", "--timeout=30s"]).await.unwrap();
            let Verdict(build) = scene.roll_out(&Fate::Ready.tag(2)).await;
            assert_eq!((&build["state"], build["rollouts"].as_array().unwrap().len()), (&json!("failed"), 2), "{build:#}");
            for rollout in build["rollouts"].as_array().unwrap() {
                let expected = if rollout["target"] == "parallel-other" { "rolled_back" } else { "succeeded" };
                assert_eq!(rollout["state"], expected, "{build:#}");
            }
        })
        .beside("  - { name: parallel-other, image: x/parallel, namespace: parallel, deployment: other, container: app, rollback: true, failure_grace: 3s }\n"),
    ]
}

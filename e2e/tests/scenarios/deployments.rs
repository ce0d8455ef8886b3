//! What stands in the Deployment, and what people do to it meanwhile.

use serde_json::json;
use testbed::{Fate, eventually};

use crate::scene::{Case, Scene};

/// A build whose image has been set, and whose rollout gets no further until it is released.
async fn held(scene: &Scene) -> crate::scene::Watched<'_> {
    scene.hold().await;
    scene.post(&Fate::Ready.tag(2)).await.watched().await
}

#[expect(clippy::too_many_lines, reason = "a list")]
pub(crate) fn cases() -> Vec<Case> {
    let one_of_one = json!({"spec": {"replicas": 1, "strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}});
    vec![
        Case::new("old-failure-stands", "an old `ProgressDeadlineExceeded` stands", |scene| async move {
            let first = scene.post(&Fate::NeverReady.tag(2)).await.verdict().await;
            first.is("failed", "ProgressDeadlineExceeded", 10.0);
            let condition = scene.field(".status.conditions[?(@.type==\"Progressing\")].reason").await;
            assert_eq!(condition, "ProgressDeadlineExceeded");
            scene.roll_out(&Fate::Ready.tag(3)).await.succeeded(15.0);
        })
        .settings("deadline: 30s, failure_grace: 3s, rollback: false")
        .deployment(json!({"spec": {"progressDeadlineSeconds": 3}})),
        Case::new("paused", "the Deployment is paused, and resumed later", |scene| async move {
            scene.kubectl(&["rollout", "pause", "deployment/app"]).await.unwrap();
            let watched = scene.post(&Fate::Ready.tag(2)).await.watched().await;
            eventually("a paused Deployment with our image, and no new pod", || async {
                let seen = scene.field(".status.observedGeneration").await == scene.field(".metadata.generation").await;
                seen.then_some(())
            })
            .await;
            assert_eq!(watched.build.show().await["terminal"], false);
            scene.kubectl(&["rollout", "resume", "deployment/app"]).await.unwrap();
            watched.verdict().await.succeeded(15.0);
        }),
        Case::new("paused-for-good", "the Deployment stays paused", |scene| async move {
            scene.kubectl(&["rollout", "pause", "deployment/app"]).await.unwrap();
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("rolled_back", "DeadlineExceeded", 8.0).says("paused");
        })
        .settings("deadline: 4s, failure_grace: 3s, rollback: true"),
        Case::new("scaled-to-0", "scaled to 0", |scene| async move {
            scene.roll_out(&Fate::Ready.tag(2)).await.succeeded(15.0);
        })
        .deployment(json!({"spec": {"replicas": 0}})),
        Case::new("scaled-up", "scaled up meanwhile", |scene| async move {
            let watched = held(&scene).await;
            scene.kubectl(&["scale", "deployment/app", "--replicas=4"]).await.unwrap();
            scene.release().await;
            let verdict = watched.verdict().await;
            verdict.succeeded(25.0);
            assert_eq!(verdict.field("/progress/desired"), &json!(4));
        }),
        Case::new("scaled-down", "scaled down meanwhile", |scene| async move {
            let watched = held(&scene).await;
            scene.kubectl(&["scale", "deployment/app", "--replicas=1"]).await.unwrap();
            scene.release().await;
            let verdict = watched.verdict().await;
            verdict.succeeded(25.0);
            assert_eq!(verdict.field("/progress/desired"), &json!(1));
        })
        .deployment(json!({"spec": {"replicas": 3}})),
        Case::new("scaled-by-hpa", "scaled by a HorizontalPodAutoscaler meanwhile", |scene| async move {
            let watched = held(&scene).await;
            // Its minimum is above what there is, which it corrects without any metrics.
            scene.kubectl(&["autoscale", "deployment/app", "--min=4", "--max=6", "--cpu=50%"]).await.unwrap();
            let scaled = || async { (scene.field(".spec.replicas").await == "4").then_some(()) };
            eventually("a Deployment that has been scaled", scaled).await;
            scene.release().await;
            let verdict = watched.verdict().await;
            verdict.succeeded(40.0);
            assert_eq!(verdict.field("/progress/desired"), &json!(4));
        })
        .settings("deadline: 60s, failure_grace: 3s, rollback: true"),
        Case::new("template-edited", "another field of the template is edited meanwhile", |scene| async move {
            let watched = held(&scene).await;
            scene.kubectl(&["set", "env", "deployment/app", "COLOUR=blue"]).await.unwrap();
            scene.release().await;
            let verdict = watched.verdict().await;
            verdict.succeeded(25.0);
            let status = scene.kubectl(&["rollout", "status", "deployment/app", "--timeout=1s"]).await.unwrap();
            assert!(status.contains("successfully rolled out"), "{status}");
        }),
        Case::new("image-changed", "somebody sets another image meanwhile", |scene| async move {
            let watched = held(&scene).await;
            let theirs = scene.image_of(&Fate::Ready.tag(9));
            scene.kubectl(&["set", "image", "deployment/app", &format!("app={theirs}")]).await.unwrap();
            let verdict = watched.verdict().await;
            verdict.is("reverted", "ImageReplaced", 8.0).says("kubectl-set").says(&theirs);
            assert_eq!(scene.image().await, theirs);
        }),
        Case::new("deleted", "the Deployment is deleted meanwhile", |scene| async move {
            let watched = held(&scene).await;
            scene.kubectl(&["delete", "deployment/app"]).await.unwrap();
            let verdict = watched.verdict().await;
            verdict.is("failed", "DeploymentNotFound", 8.0).says("could not be rolled back");
        }),
        Case::new("missing", "there is no such Deployment", |scene| async move {
            scene.kubectl(&["delete", "deployment/app"]).await.unwrap();
            scene.roll_out(&Fate::Ready.tag(2)).await.is("failed", "DeploymentNotFound", 5.0);
        }),
        Case::new("container-missing", "there is no such container", |scene| async move {
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("failed", "ContainerNotFound", 5.0).says("has no container app");
        })
        .deployment(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "x/web:v1-abcd"}]}}}}),
        ),
        Case::new("recreate", "strategy `Recreate`", |scene| async move {
            scene.roll_out(&Fate::Ready.tag(2)).await.succeeded(15.0);
        })
        .deployment(json!({"spec": {"strategy": {"type": "Recreate"}}})),
        Case::new("one-of-one", "1 of 1 may be unavailable, and never is available", |scene| async move {
            let verdict = scene.roll_out(&Fate::NeverReady.tag(2)).await;
            verdict.is("rolled_back", "DeadlineExceeded", 8.0);
        })
        .settings("deadline: 4s, failure_grace: 3s, rollback: true")
        .deployment(one_of_one),
    ]
}

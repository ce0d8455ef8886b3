//! What becomes of the new pods.

use serde_json::json;
use testbed::Fate;

use crate::scene::{Case, Scene, Verdict};

/// A version with a fate fails within so many seconds, and the one before it serves again.
async fn rolls_back(scene: &Scene, fate: Fate, cause: &str, within: f64) -> Verdict {
    let verdict = scene.roll_out(&fate.tag(2)).await;
    verdict.is("rolled_back", cause, within);
    assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
    let status = scene.kubectl(&["rollout", "status", "deployment/app", "--timeout=1s"]).await;
    assert!(status.unwrap().contains("successfully rolled out"));
    assert_eq!(verdict.field("/rollback/image"), &json!(scene.image_of(&Fate::Ready.tag(1))));
    verdict
}

async fn is_told_among_the_events(scene: &Scene, reason: &str) {
    testbed::eventually("an event on the Deployment", || async {
        let text = scene.kubectl(&["describe", "deployment/app"]).await.ok()?;
        text.contains(reason).then_some(())
    })
    .await;
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("happy-1", "all is well, 1 replica", |scene| async move {
            let tag = Fate::Ready.tag(2);
            scene.roll_out(&tag).await.succeeded(15.0);
            is_told_among_the_events(&scene, "RolloutSucceeded").await;
            let history = scene.kubectl(&["rollout", "history", "deployment/app"]).await.unwrap();
            assert!(history.contains(&scene.image_of(&tag)), "{history}");
        })
        .deployment(json!({"spec": {"replicas": 1}})),
        Case::new("happy-5", "all is well, 5 replicas", |scene| async move {
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.succeeded(15.0);
            assert_eq!(verdict.field("/progress"), &json!({"desired": 5, "updated": 5, "ready": 5, "available": 5}));
        })
        .deployment(json!({"spec": {"replicas": 5}})),
        Case::new("slow", "slow, but fine", |scene| async move {
            scene.roll_out(&Fate::SlowlyReady.tag(2)).await.succeeded(20.0);
        }),
        Case::new("image-not-found", "the image does not exist", |scene| async move {
            let verdict = rolls_back(&scene, Fate::ImageNotFound, "ImagePullBackOff", 8.0).await;
            verdict.says("cannot be pulled").says("not found").says("serves again");
            assert_eq!(verdict.field("/diagnosis/pods/0/container"), &json!("app"));
            let events = verdict.field("/diagnosis/events").to_string();
            assert!(events.contains("Failed: Failed to pull image"), "{:#}", verdict.0);
            is_told_among_the_events(&scene, "RolloutRolledBack").await;
        }),
        Case::new("access-denied", "the registry denies access to the image", |scene| async move {
            rolls_back(&scene, Fate::AccessDenied, "ImagePullBackOff", 8.0).await.says("denied");
        }),
        Case::new("pull-passes", "a pull that fails at first", |scene| async move {
            scene.roll_out(&Fate::PullPasses.tag(2)).await.succeeded(15.0);
        }),
        Case::new("pull-hangs", "a pull that fails for no clear reason", |scene| async move {
            let verdict = rolls_back(&scene, Fate::PullHangs, "ImagePullBackOff", 10.0).await;
            assert!(verdict.seconds() >= 3.0, "it may have passed: {:#}", verdict.0);
        }),
        Case::new("crash-loop", "crashes again and again", |scene| async move {
            let verdict = rolls_back(&scene, Fate::CrashLoop, "CrashLoopBackOff", 10.0).await;
            verdict.says("exit code 3");
            assert_eq!(verdict.field("/diagnosis/pods/0/exit_code"), &json!(3));
            let log = verdict.field("/diagnosis/pods/0/log_tail");
            assert_eq!(log[2], "thread 'main' panicked: no database, no service", "{:#}", verdict.0);
            assert_eq!(log[1], "DB_PASSWORD=[redacted] is refused");
            assert!(verdict.seconds() >= 3.0, "it may have passed: {:#}", verdict.0);
        }),
        Case::new("crash-passes", "crashes once and recovers", |scene| async move {
            scene.roll_out(&Fate::CrashPasses.tag(2)).await.succeeded(15.0);
        }),
        Case::new("oom", "takes more memory than its limit", |scene| async move {
            let verdict = rolls_back(&scene, Fate::OutOfMemory, "OOMKilled", 10.0).await;
            assert_eq!(verdict.field("/diagnosis/pods/0/exit_code"), &json!(137));
        }),
        Case::new("missing-secret", "a Secret is missing", |scene| async move {
            let verdict = rolls_back(&scene, Fate::MissingSecret, "CreateContainerConfigError", 8.0).await;
            verdict.says("secret \"portfolio-secrets\" not found");
        }),
        Case::new("invalid-image-name", "the image's name is none", |scene| async move {
            rolls_back(&scene, Fate::InvalidImageName, "InvalidImageName", 8.0).await;
        }),
        Case::new("quota", "the quota has no room", |scene| async move {
            let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods", "namespace": "quota"},
                "spec": {"hard": {"pods": "2"}}});
            scene.cluster().await.apply(&quota.to_string()).await.unwrap();
            testbed::eventually("a quota that counts", || async {
                let used = scene.kubectl(&["get", "quota/pods", "-o", "jsonpath={.status.used.pods}"]).await.ok()?;
                (used == "2").then_some(())
            })
            .await;
            let verdict = rolls_back(&scene, Fate::Ready, "FailedCreate", 8.0).await;
            verdict.says("exceeded quota");
        }),
        Case::new("pod-security", "pod security admission refuses the pods", |scene| async move {
            let label = "pod-security.kubernetes.io/enforce=restricted";
            scene.cluster().await.kubectl(&["label", "namespace", "pod-security", label]).await.unwrap();
            rolls_back(&scene, Fate::Ready, "FailedCreate", 8.0).await.says("violates PodSecurity");
        }),
        Case::new("unschedulable", "no node has room", |scene| async move {
            let verdict = rolls_back(&scene, Fate::Ready, "Unschedulable", 10.0).await;
            verdict.says("Insufficient cpu");
        })
        .deployment(json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "app", "image": format!("x/unschedulable:{}", Fate::Ready.tag(1)), "resources": {"requests": {"cpu": "600"}}}]}}}})),
        Case::new("never-ready", "runs, and is never ready", |scene| async move {
            let verdict = rolls_back(&scene, Fate::NeverReady, "DeadlineExceeded", 8.0).await;
            verdict.says("not done within 4s");
            assert!(verdict.seconds() >= 3.5, "{:#}", verdict.0);
            assert_eq!(verdict.field("/diagnosis/pods/0/reason"), &json!("NotReady"), "{:#}", verdict.0);
        })
        .settings("deadline: 4s, failure_grace: 3s, rollback: true"),
        Case::new("progress-deadline", "Kubernetes gives up before our deadline", |scene| async move {
            rolls_back(&scene, Fate::NeverReady, "ProgressDeadlineExceeded", 10.0).await;
        })
        .deployment(json!({"spec": {"progressDeadlineSeconds": 3}})),
        Case::new("crashes-when-ready", "ready, and crashes within `minReadySeconds`", |scene| async move {
            let verdict = rolls_back(&scene, Fate::CrashesWhenReady, "CrashLoopBackOff", 15.0).await;
            verdict.says("exit code 3");
        })
        .deployment(json!({"spec": {"minReadySeconds": 4}})),
    ]
}

//! `ArgoCD` beside us, which may agree, not agree, or undo what we do.

use serde_json::{Value, json};
use testbed::{Fate, eventually};

use crate::scene::{Case, Scene};

const GATED: &str = "deadline: 30s, failure_grace: 3s, rollback: true, argocd: { application: NAME, namespace: argocd, timeout: 8s }";

/// An Application of the scenario's Deployment, and of `more`, with something of its own in its `spec`.
pub(crate) async fn application(scene: &Scene, spec: &Value, more: &str) {
    let shared = scene.world.shared().await;
    let name = scene.case.name;
    shared
        .argocd
        .commit(name, &format!("{}\n---\n{more}", scene.case.deployment_manifest()))
        .unwrap();
    shared.cluster.apply(&shared.argocd.application(name, name, spec)).await.unwrap();
}

/// What lets us patch live.
pub(crate) fn ignoring_our_image(self_heal: bool) -> Value {
    json!({
        "ignoreDifferences": [{"group": "apps", "kind": "Deployment",
            "jqPathExpressions": [".spec.template.spec.containers[] | select(.name==\"app\").image"]}],
        "syncPolicy": {"automated": {"selfHeal": self_heal}, "syncOptions": ["RespectIgnoreDifferences=true"]},
    })
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("argocd-agrees", "ArgoCD agrees: Synced and Healthy", |scene| async move {
            application(&scene, &ignoring_our_image(true), "").await;
            let shared = scene.world.shared().await;
            shared.argocd.is_well(&shared.cluster, scene.case.name).await.unwrap();
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.succeeded(20.0);
            assert!(verdict.states().contains(&"awaiting_argocd".to_owned()), "{:#}", verdict.0);
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(2)));
        })
        .settings(GATED),
        Case::new("argocd-out-of-sync", "ArgoCD stays OutOfSync", |scene| async move {
            application(&scene, &json!({}), "").await;
            let shared = scene.world.shared().await;
            shared.argocd.is_well(&shared.cluster, scene.case.name).await.unwrap();
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("rolled_back", "ApplicationNotSynced", 25.0).says("OutOfSync");
        })
        .settings(GATED),
        Case::new("argocd-degraded", "ArgoCD calls the application Degraded", |scene| async move {
            let other = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "other", "namespace": scene.case.name},
                "spec": {"replicas": 1, "progressDeadlineSeconds": 2, "selector": {"matchLabels": {"app": "other"}}, "template": {
                    "metadata": {"labels": {"app": "other"}},
                    "spec": {"containers": [{"name": "app", "image": format!("x/other:{}", Fate::NeverReady.tag(1))}]}}}});
            application(&scene, &ignoring_our_image(true), &other.to_string()).await;
            eventually("a degraded Application", || async {
                let path = "jsonpath={.status.health.status}";
                let get = ["--namespace", "argocd", "get", "application", scene.case.name, "-o", path];
                (scene.cluster().await.kubectl(&get).await.ok()? == "Degraded").then_some(())
            })
            .await;
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("rolled_back", "ApplicationDegraded", 20.0);
        })
        .settings(GATED),
        Case::new("argocd-heals", "ArgoCD's selfHeal reverts the image", |scene| async move {
            application(&scene, &json!({"syncPolicy": {"automated": {"selfHeal": true}}}), "").await;
            let shared = scene.world.shared().await;
            shared.argocd.is_well(&shared.cluster, scene.case.name).await.unwrap();
            let verdict = scene.roll_out(&Fate::NeverReady.tag(2)).await;
            verdict.is("reverted", "ImageReplaced", 20.0).says("argocd-controller");
            verdict.says("ignoreDifferences").says("RespectIgnoreDifferences=true");
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
        })
        .settings(GATED),
        Case::new("argocd-missing", "there is no such Application", |scene| async move {
            let generation = scene.field(".metadata.generation").await;
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("failed", "ApplicationNotFound", 5.0);
            assert_eq!(scene.field(".metadata.generation").await, generation, "nothing was written");
        })
        .settings(GATED),
    ]
}

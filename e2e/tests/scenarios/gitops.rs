//! The strategy `gitops`: the deployer commits, and a real `ArgoCD` applies.

use std::{fs, path::Path};

use serde_json::{Value, json};
use testbed::{ArgoCd, Fate, Scratch, Service, eventually, system};

use crate::scene::{Case, Scene};

const GITOPS: &str = "deadline: 60s, failure_grace: 3s, rollback: true, argocd: { application: NAME, namespace: argocd, timeout: 20s }, \
     gitops: { repository: GIT, branch: gitops-staging, file: k8s/kustomization.yaml }";

/// As [`GITOPS`], for an `ArgoCD` that is not waited for so long.
const IMPATIENT: &str = "deadline: 60s, failure_grace: 3s, rollback: true, argocd: { application: NAME, namespace: argocd, timeout: 6s }, \
     gitops: { repository: GIT, branch: gitops-staging, file: k8s/kustomization.yaml }";

/// As [`GITOPS`], with time for somebody else to take over.
const PATIENT: &str = "deadline: 120s, failure_grace: 3s, rollback: true, argocd: { application: NAME, namespace: argocd, timeout: 60s }, \
     gitops: { repository: GIT, branch: gitops-staging, file: k8s/kustomization.yaml }";

const KUSTOMIZATION: &str = "k8s/kustomization.yaml";

/// An Application that does as it is told.
fn automated() -> Value {
    json!({"syncPolicy": {"automated": {"selfHeal": true}}})
}

/// An Application that waits for a person. Without any policy: of an empty one `ArgoCD` takes the key away, a moment later, and
/// with it whatever has been written there in between.
fn by_hand() -> Value {
    json!({"syncPolicy": null})
}

/// A repository with a kustomization, in which others' images may stand too, and an Application that follows it.
async fn follow(scene: &Scene, spec: &Value, others: &[&str]) {
    let shared = scene.world.shared().await;
    let name = scene.case.name;
    let image = |name: &str| {
        format!("  - name: x/{name}\n    newTag: {} # set by the deployer\n", Fate::Ready.tag(1))
    };
    let mut files = vec![("k8s/app.yaml".to_owned(), scene.case.deployment_manifest())];
    let mut images = image(name);
    for other in others {
        let manifest =
            scene.case.deployment_manifest().replace(&format!("x/{name}:"), &format!("x/{other}:"));
        let manifest =
            manifest.replace("\"name\":\"app\",\"namespace\"", "\"name\":\"other\",\"namespace\"");
        files.push((
            "k8s/other.yaml".to_owned(),
            manifest.replace(&format!("\"app\":\"{name}\""), "\"app\":\"other\""),
        ));
        images.push_str(&image(other));
    }
    let resources: Vec<_> = files.iter().map(|(path, _)| path.trim_start_matches("k8s/")).collect();
    let kustomization = format!(
        "# people write here too\nresources: [{}]\nimages:\n{images}",
        resources.join(", ")
    );
    let mut all: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    all.push((KUSTOMIZATION, &kustomization));
    shared.argocd.commit_files(name, &all).unwrap();
    shared.cluster.apply(&shared.argocd.application(name, name, spec)).await.unwrap();
    if spec["syncPolicy"]["automated"].is_object() {
        shared.argocd.is_well(&shared.cluster, name).await.unwrap();
    }
}

/// The branch's kustomization.
async fn kustomization(scene: &Scene) -> String {
    let shared = scene.world.shared().await;
    shared
        .argocd
        .git(scene.case.name, &["show", &format!("gitops-staging:{KUSTOMIZATION}")])
        .unwrap()
}

/// The messages of all commits, the newest first.
async fn commits(scene: &Scene) -> Vec<String> {
    let shared = scene.world.shared().await;
    let log = shared.argocd.git(
        scene.case.name,
        &[
            "log",
            "--format=%s | %(trailers:key=Rollout,separator=)%(trailers:key=Rollback,separator=)",
        ],
    );
    log.unwrap().lines().map(str::to_owned).collect()
}

/// Changes the kustomization as a person would.
fn commit_by_hand(argocd: &ArgoCd, repository: &str, from: &str, to: &str) {
    let edit = |clone: &Path| {
        let file = clone.join(KUSTOMIZATION);
        let text = fs::read_to_string(&file)?;
        Ok(fs::write(&file, text.replace(from, to))?)
    };
    argocd.edit(repository, "by hand", edit).unwrap();
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = verdicts();
    cases.extend(others());
    cases
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn verdicts() -> Vec<Case> {
    vec![
        Case::new("gitops-agrees", "gitops: ArgoCD applies the commit", |scene| async move {
            follow(&scene, &automated(), &[]).await;
            let tag = Fate::Ready.tag(2);
            let before = kustomization(&scene).await;
            let build = scene.post(&tag).await;
            let id = build.id.clone();
            build.watched().await.verdict().await.succeeded(20.0);
            assert_eq!(scene.image().await, scene.image_of(&tag));
            assert_eq!(
                kustomization(&scene).await,
                before.replace(&Fate::Ready.tag(1), &tag),
                "nothing else is touched"
            );
            let name = scene.case.name;
            let expected = format!("Deploy x/{name}:{tag} to {name} | Rollout: {name}.{id}");
            assert_eq!(commits(&scene).await, [expected.as_str(), "the application |"]);
        })
        .settings(GITOPS),
        Case::new("gitops-rolled-back", "gitops: the image does not exist", |scene| async move {
            follow(&scene, &automated(), &[]).await;
            let before = kustomization(&scene).await;
            let verdict = scene.roll_out(&Fate::ImageNotFound.tag(2)).await;
            verdict.is("rolled_back", "ImagePullBackOff", 10.0);
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
            assert_eq!(kustomization(&scene).await, before);
            let commits = commits(&scene).await;
            assert_eq!(commits.len(), 3, "{commits:?}");
            assert!(
                commits[0].starts_with("Take gitops-rolled-back back to x/gitops-rolled-back:"),
                "{commits:?}"
            );
        })
        .settings(GITOPS),
        Case::new(
            "gitops-ignored",
            "gitops: the Application ignores the image",
            |scene| async move {
                follow(&scene, &crate::argocd::ignoring_our_image(true), &[]).await;
                let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
                verdict
                    .is("rolled_back", "ApplicationNotSynced", 20.0)
                    .says("RespectIgnoreDifferences=true");
            },
        )
        .settings(GITOPS),
        Case::new(
            "gitops-by-hand",
            "gitops: ArgoCD waits for a person to sync",
            |scene| async move {
                follow(&scene, &by_hand(), &[]).await;
                let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
                verdict
                    .is("rolled_back", "ApplicationNotSynced", 20.0)
                    .says("OutOfSync")
                    .says("nothing syncs it automatically: spec.syncPolicy.automated");
            },
        )
        .settings(IMPATIENT),
        Case::new(
            "gitops-unbuildable",
            "gitops: ArgoCD cannot build the branch",
            |scene| async move {
                follow(&scene, &automated(), &[]).await;
                let shared = scene.world.shared().await;
                commit_by_hand(
                    &shared.argocd,
                    scene.case.name,
                    "resources: [",
                    "resources: [missing.yaml, ",
                );
                let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
                verdict
                    .is("failed", "ComparisonError", 20.0)
                    .says("missing.yaml")
                    .says("could not be rolled back");
                assert!(
                    kustomization(&scene).await.contains(&Fate::Ready.tag(1)),
                    "the commit was taken back all the same"
                );
            },
        )
        .settings(GITOPS),
        Case::new(
            "gitops-no-file",
            "gitops: the file does not set the image",
            |scene| async move {
                follow(&scene, &automated(), &[]).await;
                let shared = scene.world.shared().await;
                commit_by_hand(
                    &shared.argocd,
                    scene.case.name,
                    "newTag: ",
                    "newName: x/other\n    newTag: ",
                );
                let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
                verdict
                    .is("failed", "KustomizationInvalid", 5.0)
                    .says("do not name docker.io/x/gitops-no-file");
            },
        )
        .settings(GITOPS),
        Case::new("gitops-no-access", "gitops: there is no such repository", |scene| async move {
            let shared = scene.world.shared().await;
            let other = shared.argocd.application(scene.case.name, scene.case.name, &json!({}));
            shared.cluster.apply(&other).await.unwrap();
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.is("failed", "GitRefused", 10.0).says("does not appear to be a git repository");
            assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
        })
        .settings(GITOPS),
    ]
}

fn others() -> Vec<Case> {
    vec![
        Case::new("gitops-replaced", "gitops: a person commits another tag", |scene| async move {
            follow(&scene, &automated(), &[]).await;
            let build = scene.post(&Fate::NeverReady.tag(2)).await;
            build.reaches("progressing").await;
            let shared = scene.world.shared().await;
            commit_by_hand(&shared.argocd, scene.case.name, &Fate::NeverReady.tag(2), &Fate::Ready.tag(3));
            // As a webhook of the repository's would.
            let refresh = "argocd.argoproj.io/refresh=normal";
            let annotate = ["--namespace", "argocd", "annotate", "application", scene.case.name, refresh, "--overwrite"];
            shared.cluster.kubectl(&annotate).await.unwrap();
            let verdict = build.watched().await.verdict().await;
            verdict.is("reverted", "ImageReplaced", 20.0).says("gitops-staging");
            assert!(kustomization(&scene).await.contains(&Fate::Ready.tag(3)), "what the person wants stays");
        })
        .settings(GITOPS),
        Case::new("gitops-two", "gitops: two builds, and a person, commit at once", |scene| async move {
            follow(&scene, &automated(), &["gitops-two-b"]).await;
            let scratch = Scratch::new().unwrap();
            let bus = scene.own_bus(&scratch, 2).await;
            let shared = scene.world.shared().await;
            let tag = Fate::Ready.tag(2);
            let ci = bus.gateway.ci();
            let other = json!({"job": "other", "number": 2, "status": "success", "image": format!("x/gitops-two-b:{tag}")});
            let (first, second) = tokio::join!(scene.post_to(&ci, &tag), ci.post_json("/api/builds", &other));
            let second = second.unwrap().json()["id"].as_str().unwrap().to_owned();
            for round in 0..5 {
                commit_by_hand(&shared.argocd, scene.case.name, "# people", &format!("# {round}\n# people"));
            }
            first.verdict().await.succeeded(30.0);
            let second = eventually("the other build's verdict", || async {
                let build = ci.get(&format!("/api/builds/{second}?wait=5s")).await.ok()?.json();
                (build["terminal"] == true).then_some(build)
            })
            .await;
            assert_eq!(second["rollouts"][0]["state"], "succeeded", "{second:#}");
            let text = kustomization(&scene).await;
            assert_eq!(text.matches(&tag).count(), 2, "{text}");
            assert!((0..5).all(|round| text.contains(&format!("# {round}\n"))), "{text}");
            let commits = commits(&scene).await;
            assert_eq!(commits.len(), 1 + 2 + 5, "{commits:?}");
            assert!(scene.kubectl(&["get", "deployment/other", "-o", "yaml"]).await.unwrap().contains(&tag));
        })
        .settings(GITOPS)
        .beside(
            "  - { name: gitops-two-b, image: x/gitops-two-b, namespace: gitops-two, deployment: other, container: app, deadline: 60s, \
             argocd: { application: gitops-two, namespace: argocd, timeout: 20s }, \
             gitops: { repository: GIT, branch: gitops-staging, file: k8s/kustomization.yaml } }\n",
        )
        .own_bus(),
        Case::new("gitops-killed", "gitops: the deployer is killed after its commit", |scene| async move {
            follow(&scene, &by_hand(), &[]).await;
            let scratch = Scratch::new().unwrap();
            let mut bus = scene.own_bus(&scratch, 1).await;
            let shared = scene.world.shared().await;
            let build = scene.post_to(&bus.gateway.ci(), &Fate::Ready.tag(2)).await;
            eventually("a commit", || async { (commits(&scene).await.len() == 2).then_some(()) }).await;
            bus.deployers.clear();
            let again: Service = {
                let folder = scratch.folder("deployer-again").unwrap();
                let git = format!("file://{}", shared.argocd.repositories().display());
                let targets = format!("targets:\n{}", scene.case.target(&shared.smoke.url, &git));
                let spec = system::deployer_spec(&folder, &bus.nats.url(), shared.cluster.kubeconfig(), &targets).unwrap();
                system::start(spec).await.unwrap()
            };
            let name = scene.case.name;
            shared.cluster.apply(&shared.argocd.application(name, name, &automated())).await.unwrap();
            build.verdict().await.succeeded(60.0);
            assert_eq!(commits(&scene).await.len(), 2, "it committed once");
            drop(again);
        })
        .settings(PATIENT)
        .own_bus(),
    ]
}

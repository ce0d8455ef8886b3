//! Parts that die, pause or are cut off meanwhile.

use std::time::Duration;

use testbed::{Cluster, Fate, Scratch, Server, Service, eventually};

use crate::{
    argocd,
    scene::{Case, Scene},
    smoke::Answers,
    world::Bus,
};

async fn generation(scene: &Scene) -> u64 {
    scene.field(".metadata.generation").await.parse().unwrap()
}

/// Kills whoever has begun with a build, or both if nobody says so, and starts them again.
fn kill_active(deployers: &mut [Service], build: &str) {
    let has_begun = |deployer: &Service| {
        deployer
            .server
            .log()
            .lines()
            .any(|line| line.contains("rollout begins") && line.contains(build))
    };
    let nobody = !deployers.iter().any(has_begun);
    for deployer in deployers.iter_mut().filter(|deployer| nobody || has_begun(deployer)) {
        deployer.kill_and_start_again().unwrap();
    }
}

#[expect(clippy::too_many_lines, reason = "a list")]
pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("bus-away", "the bus is away meanwhile", |scene| async move {
            let scratch = Scratch::new().unwrap();
            let mut bus = scene.own_bus(&scratch, 1).await;
            let ci = bus.gateway.ci();
            let watched = scene.post_to(&ci, &Fate::SlowlyReady.tag(2)).await.watched().await;
            bus.nats.server.kill();
            eventually("pods of the new version", || async {
                (scene.field(".status.updatedReplicas").await == "2").then_some(())
            })
            .await;
            bus.nats.start_again().await.unwrap();
            watched.verdict().await.succeeded(30.0);
        })
        .own_bus(),
        Case::new(
            "two-deployers",
            "two deployers, the active one is killed in every state",
            |scene| async move {
                let shared = scene.world.shared().await;
                argocd::application(&scene, &argocd::ignoring_our_image(true), "").await;
                shared.argocd.is_well(&shared.cluster, scene.case.name).await.unwrap();
                let scratch = Scratch::new().unwrap();
                let mut bus = scene.own_bus(&scratch, 2).await;
                let ci = bus.gateway.ci();
                let first = scene.image_of(&Fate::Ready.tag(1));
                let mut number = 1;
                for (state, fate, answers, verdict, cause) in [
                    ("accepted", Fate::ImageNotFound, None, "rolled_back", "ImagePullBackOff"),
                    ("patching", Fate::ImageNotFound, None, "rolled_back", "ImagePullBackOff"),
                    ("progressing", Fate::ImageNotFound, None, "rolled_back", "ImagePullBackOff"),
                    ("rolling_back", Fate::ImageNotFound, None, "rolled_back", "ImagePullBackOff"),
                    (
                        "smoke_testing",
                        Fate::Ready,
                        Some(Answers::Status(500)),
                        "rolled_back",
                        "SmokeTestFailed",
                    ),
                    ("awaiting_argocd", Fate::Ready, None, "succeeded", ""),
                ] {
                    number += 1;
                    let tag = fate.tag(number);
                    let answers = answers.unwrap_or_else(|| Answers::Version(tag.clone()));
                    shared.smoke.answer(scene.case.name, answers);
                    let before = generation(&scene).await;
                    let build = scene.post_to(&ci, &tag).await;
                    build.reaches(state).await;
                    kill_active(&mut bus.deployers, &build.id);
                    let found = build.verdict().await;
                    assert_eq!(
                        (found.state().as_str(), found.cause().as_str()),
                        (verdict, cause),
                        "{state}: {:#}",
                        found.0
                    );
                    let (writes, image) = if verdict == "succeeded" {
                        (1, scene.image_of(&tag))
                    } else {
                        (2, first.clone())
                    };
                    assert_eq!(scene.image().await, image, "{state}");
                    assert_eq!(
                        generation(&scene).await,
                        before + writes,
                        "one write, and one back: {state}"
                    );
                }
                let tag = Fate::Ready.tag(99);
                shared.smoke.answer(scene.case.name, Answers::Version(tag.clone()));
                scene.post_to(&ci, &tag).await.watched().await.verdict().await.succeeded(20.0);
            },
        )
        .settings(
            "deadline: 30s, failure_grace: 3s, rollback: true, \
             smoke: { url: SMOKE, version_pointer: /version, successes: 3, timeout: 3s }, \
             argocd: { application: NAME, namespace: argocd, timeout: 15s }",
        )
        .own_bus(),
        Case::new(
            "paused-deployer",
            "the active deployer is stopped beyond its lease, and woken",
            |scene| async move {
                let scratch = Scratch::new().unwrap();
                let bus = scene.own_bus(&scratch, 2).await;
                let ci = bus.gateway.ci();
                scene.hold().await;
                let build = scene.post_to(&ci, &Fate::Ready.tag(2)).await;
                build.reaches("progressing").await;
                let active = active(
                    &scene,
                    &bus.deployers.iter().map(|deployer| &deployer.server).collect::<Vec<_>>(),
                )
                .await;
                let paused = &bus.deployers[active].server;
                paused.pause().unwrap();
                let watched = build.watched().await;
                scene.release().await;
                watched.verdict().await.succeeded(30.0);
                let next = scene.post_to(&ci, &Fate::Ready.tag(3)).await;
                next.verdict().await.succeeded(30.0);
                let generation = scene.field(".metadata.generation").await;
                paused.resume().unwrap();
                eventually("a deployer that has learnt that it was overtaken", || async {
                    let log = paused.log();
                    // Overtaken, or, if it was stopped in the middle of a word, cut off.
                    let said =
                        ["another executor went on", "a dependency is away", "could not settle"];
                    said.iter().any(|said| log.contains(said)).then_some(())
                })
                .await;
                assert_eq!(
                    scene.field(".metadata.generation").await,
                    generation,
                    "it writes nothing more"
                );
                assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(3)));
            },
        )
        .own_bus(),
        Case::new(
            "stopped-while-it-passes",
            "the deployer is stopped while a trouble passes",
            |scene| async move {
                let scratch = Scratch::new().unwrap();
                let bus = scene.own_bus(&scratch, 1).await;
                let build = scene.post_to(&bus.gateway.ci(), &Fate::PullPasses.tag(2)).await;
                eventually("a trouble that may pass", || async {
                    let build = build.show().await;
                    (build["rollouts"][0]["diagnosis"]["cause"] == "ImagePullBackOff").then_some(())
                })
                .await;
                let deployer = &bus.deployers[0].server;
                deployer.pause().unwrap();
                let watched = build.watched().await;
                let status = scene
                    .kubectl(&["rollout", "status", "deployment/app", "--timeout=30s"])
                    .await
                    .unwrap();
                assert!(status.contains("successfully rolled out"), "{status}");
                // Longer than the grace: what it saw last is too old to judge by.
                tokio::time::sleep(Duration::from_secs(4)).await;
                deployer.resume().unwrap();
                watched.verdict().await.succeeded(30.0);
            },
        )
        .own_bus(),
        Case::new("rights-taken", "our rights are taken away meanwhile", |scene| async move {
            let cluster = scene.cluster().await;
            let role = [
                "create",
                "role",
                "deployer",
                "--verb=*",
                "--resource=deployments.apps,replicasets.apps,pods,pods/log,events",
            ];
            scene.kubectl(&role).await.unwrap();
            scene
                .kubectl(&[
                    "create",
                    "rolebinding",
                    "deployer",
                    "--role=deployer",
                    "--user=deployer",
                ])
                .await
                .unwrap();
            let scratch = Scratch::new().unwrap();
            let targets = format!("targets:\n{}", scene.case.target("", ""));
            let bus =
                Bus::start(&scratch, cluster.deployer_kubeconfig().to_owned(), &targets, 1).await;
            scene.hold().await;
            let build = scene.post_to(&bus.gateway.ci(), &Fate::Ready.tag(2)).await;
            let watched = build.watched().await;
            scene.kubectl(&["delete", "rolebinding", "deployer"]).await.unwrap();
            scene.release().await;
            let verdict = watched.verdict().await;
            verdict.is("failed", "Forbidden", 30.0).says("could not be rolled back");
        })
        .own_bus(),
        Case::new(
            "api-server-away",
            "the API server is away for 20 s, and is restarted in the next rollout",
            |scene| async move {
                let scratch = Scratch::new().unwrap();
                let mut cluster =
                    Cluster::start(&scratch.folder("cluster").unwrap()).await.unwrap();
                cluster.apply(&scene.case.manifests()).await.unwrap();
                let bus = Bus::start(
                    &scratch,
                    cluster.kubeconfig().to_owned(),
                    &format!("targets:\n{}", scene.case.target("", "")),
                    1,
                )
                .await;
                let ci = bus.gateway.ci();
                let build = scene.post_to(&ci, &Fate::SlowlyReady.tag(2)).await;
                build.reaches("progressing").await;
                cluster.api_server.kill();
                // As long as the outage is meant to last.
                tokio::time::sleep(Duration::from_secs(20)).await;
                assert_eq!(build.show().await["terminal"], false);
                cluster.start_api_server_again().await.unwrap();
                let verdict = build.verdict().await;
                verdict.succeeded(60.0);
                scene.record(&verdict, None);
                // It is only restarted.
                let build = scene.post_to(&ci, &Fate::SlowlyReady.tag(3)).await;
                build.reaches("progressing").await;
                cluster.api_server.kill();
                cluster.start_api_server_again().await.unwrap();
                build.verdict().await.succeeded(60.0);
                cluster.stop().await;
            },
        )
        .settings("deadline: 2m, failure_grace: 3s, rollback: true")
        .own_bus(),
    ]
}

/// The deployer that carries out the rollout: the one that said so.
async fn active(_scene: &Scene, deployers: &[&Server]) -> usize {
    eventually("an active deployer", || async {
        deployers.iter().position(|deployer| deployer.log().contains("image set"))
    })
    .await
}

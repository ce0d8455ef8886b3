//! Parts that die, pause or are cut off meanwhile.

use std::time::Duration;

use testbed::{Cluster, Fate, Scratch, Server, eventually};

use crate::{
    scene::{Case, Scene},
    world::Bus,
};

/// The states between which a deployer may die.
const STATES: [&str; 4] = ["accepted", "patching", "progressing", "rolling_back"];

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
        Case::new("two-deployers", "two deployers, the active one is killed in every state", |scene| async move {
            let scratch = Scratch::new().unwrap();
            let mut bus = scene.own_bus(&scratch, 2).await;
            let ci = bus.gateway.ci();
            let generation = |text: String| text.parse::<u64>().unwrap();
            for (round, state) in STATES.into_iter().enumerate() {
                let before = generation(scene.field(".metadata.generation").await);
                let number = u64::try_from(round).unwrap() + 2;
                let build = scene.post_to(&ci, &Fate::ImageNotFound.tag(number)).await;
                build.reaches(state).await;
                // Whichever is active.
                for deployer in &mut bus.deployers {
                    deployer.kill_and_start_again().unwrap();
                }
                let verdict = build.verdict().await;
                assert_eq!(
                    (verdict.state().as_str(), verdict.cause().as_str()),
                    ("rolled_back", "ImagePullBackOff"),
                    "{:#}",
                    verdict.0
                );
                assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
                let after = generation(scene.field(".metadata.generation").await);
                assert_eq!(after, before + 2, "one write, and one back");
            }
            scene.post_to(&ci, &Fate::Ready.tag(9)).await.watched().await.verdict().await.succeeded(20.0);
        })
        .own_bus(),
        Case::new(
            "paused-deployer",
            "the active deployer is stopped beyond its lease, and woken",
            |scene| async move {
                let scratch = Scratch::new().unwrap();
                let bus = scene.own_bus(&scratch, 2).await;
                let ci = bus.gateway.ci();
                let build = scene.post_to(&ci, &Fate::SlowlyReady.tag(2)).await;
                build.reaches("progressing").await;
                let active =
                    active(&scene, &bus.deployers.iter().map(|deployer| &deployer.server).collect::<Vec<_>>()).await;
                let paused = &bus.deployers[active].server;
                paused.pause().unwrap();
                let watched = build.watched().await;
                watched.verdict().await.succeeded(30.0);
                let next = scene.post_to(&ci, &Fate::Ready.tag(3)).await;
                next.verdict().await.succeeded(30.0);
                let generation = scene.field(".metadata.generation").await;
                paused.resume().unwrap();
                eventually("a deployer that has learnt that it was overtaken", || async {
                    let log = paused.log();
                    // Overtaken, or, if it was stopped in the middle of a word, cut off.
                    let said = ["another executor went on", "a dependency is away", "could not settle"];
                    said.iter().any(|said| log.contains(said)).then_some(())
                })
                .await;
                assert_eq!(scene.field(".metadata.generation").await, generation, "it writes nothing more");
                assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(3)));
            },
        )
        .own_bus(),
        Case::new("stopped-while-it-passes", "the deployer is stopped while a trouble passes", |scene| async move {
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
            let status = scene.kubectl(&["rollout", "status", "deployment/app", "--timeout=30s"]).await.unwrap();
            assert!(status.contains("successfully rolled out"), "{status}");
            // Longer than the grace: what it saw last is too old to judge by.
            tokio::time::sleep(Duration::from_secs(4)).await;
            deployer.resume().unwrap();
            watched.verdict().await.succeeded(30.0);
        })
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
            scene.kubectl(&["create", "rolebinding", "deployer", "--role=deployer", "--user=deployer"]).await.unwrap();
            let scratch = Scratch::new().unwrap();
            let targets = format!("targets:\n{}", scene.case.target(""));
            let bus = Bus::start(&scratch, cluster.deployer_kubeconfig().to_owned(), &targets, 1).await;
            let build = scene.post_to(&bus.gateway.ci(), &Fate::SlowlyReady.tag(2)).await;
            let watched = build.watched().await;
            scene.kubectl(&["delete", "rolebinding", "deployer"]).await.unwrap();
            let verdict = watched.verdict().await;
            verdict.is("failed", "Forbidden", 30.0).says("could not be rolled back");
        })
        .own_bus(),
        Case::new("api-server-away", "the API server is away for 20 s", |scene| async move {
            let scratch = Scratch::new().unwrap();
            let mut cluster = Cluster::start(&scratch.folder("cluster").unwrap()).await.unwrap();
            cluster.apply(&scene.case.manifests()).await.unwrap();
            let bus = Bus::start(
                &scratch,
                cluster.kubeconfig().to_owned(),
                &format!("targets:\n{}", scene.case.target("")),
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
            let good = scene.post_to(&ci, &Fate::Ready.tag(3)).await.verdict().await;
            good.succeeded(20.0);
            cluster.stop().await;
        })
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

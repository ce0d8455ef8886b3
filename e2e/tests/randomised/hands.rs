//! Those who act: CI, fate, and a third hand.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};
use testbed::{Cluster, Fate, Service, http};
use tokio::time::sleep;

use crate::{NAMESPACE, TARGETS, target};

/// Choices that a seed makes again.
pub(crate) struct Choices(Rng);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.u64(least..=most)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.0.u64(0..n) == 0
    }

    async fn pause(&mut self, least_ms: u64, most_ms: u64) {
        sleep(Duration::from_millis(self.between(least_ms, most_ms))).await;
    }

    fn fate(&mut self) -> Fate {
        match self.between(0, 19) {
            0..=8 => Fate::Ready,
            9 | 10 => Fate::SlowlyReady,
            11 | 12 => Fate::PullPasses,
            13 | 14 => Fate::ImageNotFound,
            15 => Fate::MissingSecret,
            16 => Fate::CrashLoop,
            17 => Fate::CrashPasses,
            18 => Fate::PullHangs,
            _ => Fate::NeverReady,
        }
    }
}

/// CI: posts builds of one target, each with a higher number, and mostly waits for the verdict before the next.
pub(crate) async fn post(
    ci: http::Client,
    target: String,
    builds: usize,
    mut choices: Choices,
) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 1..=u64::try_from(builds).unwrap() {
        choices.pause(0, 500).await;
        let image = format!("x/{target}:{}", choices.fate().tag(number));
        let build = json!({"job": target, "number": number, "status": "success", "image": image});
        let answer = ci.post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        if !choices.one_in(4) {
            let wait = format!("/api/builds/{id}?wait=30s");
            let _: Option<Value> = ci.get(&wait).await.ok().map(|answer| answer.json());
        }
        ids.push(id);
    }
    ids
}

/// A third hand: sets images and environments, and scales.
pub(crate) async fn edit(cluster: Arc<Cluster>, mut choices: Choices) {
    loop {
        choices.pause(300, 1_500).await;
        let index =
            usize::try_from(choices.between(0, u64::try_from(TARGETS).unwrap() - 1)).unwrap();
        let deployment = format!("deployment/{}", target(index));
        let value = choices.between(0, 99);
        let args = match value % 3 {
            0 => vec![
                "set".to_owned(),
                "image".to_owned(),
                deployment,
                format!("app=x/{}:v0-abc{value:02}", target(index)),
            ],
            1 => vec!["set".to_owned(), "env".to_owned(), deployment, format!("VALUE={value}")],
            _ => vec![
                "scale".to_owned(),
                deployment,
                format!("--replicas={}", choices.between(1, 3)),
            ],
        };
        let args: Vec<_> =
            ["--namespace", NAMESPACE].into_iter().chain(args.iter().map(String::as_str)).collect();
        // Others write too, so it may be told that it comes too late.
        let _ = cluster.kubectl(&args).await;
    }
}

/// The deployers, which fate kills, or stops for longer than their lease.
pub(crate) struct Deployers(pub(crate) Vec<Service>);

impl Deployers {
    pub(crate) async fn trouble(mut self, mut choices: Choices) {
        loop {
            choices.pause(500, 4_000).await;
            let index = usize::from(choices.one_in(2));
            let deployer = &mut self.0[index];
            if choices.one_in(3) {
                deployer.server.pause().unwrap();
                choices.pause(1_000, 9_000).await;
                deployer.server.resume().unwrap();
            } else {
                deployer.server.kill();
                choices.pause(0, 2_000).await;
                deployer.server.start_again().unwrap();
            }
        }
    }
}

//! Kills processes at random moments, again and again, while visitors post. `--rounds` of `cargo
//! xtask test` sets the number of rounds.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::visitors::{Contacts, Visitors};

/// The number of rounds, unless `TEST_ROUNDS` is set.
const ROUNDS: u32 = 10;

/// The number of rounds that was asked for, or else this one.
#[expect(clippy::disallowed_methods, reason = "how cargo xtask test hands it on")]
pub(crate) fn rounds(unless_told: u32) -> u32 {
    std::env::var("TEST_ROUNDS").map_or(unless_told, |text| text.parse().unwrap())
}

/// Random numbers, new in every run.
struct Chance {
    state: RandomState,
    count: u64,
}

impl Chance {
    fn new() -> Self {
        Self { state: RandomState::new(), count: 0 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.count += 1;
        self.state.hash_one(self.count) % limit
    }

    /// Waits for a random time, so that the next step happens at another moment each time.
    async fn pause(&mut self, at_most: Duration) {
        let micros = u64::try_from(at_most.as_micros()).unwrap();
        tokio::time::sleep(Duration::from_micros(self.below(micros))).await;
    }
}

impl Contacts {
    fn kill(&mut self, part: u64) {
        match part {
            0 => self.nats[0].server.kill(),
            1 => self.mongo.server.kill(),
            2 => self.gateway.server.kill(),
            _ => self.worker.server.kill(),
        }
    }

    async fn start_again(&mut self, part: u64) {
        match part {
            0 => self.nats[0].start_again().await.unwrap(),
            1 => self.mongo.start_again().await.unwrap(),
            2 => self.gateway.server.start_again().unwrap(),
            _ => self.worker.server.start_again().unwrap(),
        }
    }
}

#[tokio::test]
async fn one_after_the_other() {
    let mut world = Contacts::start().await;
    let visitors = Visitors::start(&world.gateway);
    let mut chance = Chance::new();
    for _ in 0..rounds(ROUNDS) {
        visitors.more(20).await;
        let part = chance.below(4);
        chance.pause(Duration::from_millis(200)).await;
        world.kill(part);
        chance.pause(Duration::from_millis(200)).await;
        world.start_again(part).await;
    }
    visitors.more(20).await;
    world.stored_once(&visitors.stop().await).await;
}

#[tokio::test]
async fn all_together() {
    let mut world = Contacts::start().await;
    let visitors = Visitors::start(&world.gateway);
    let mut chance = Chance::new();
    for _ in 0..rounds(ROUNDS) {
        visitors.more(20).await;
        chance.pause(Duration::from_millis(200)).await;
        let first = chance.below(4);
        let order = [0, 1, 2, 3].map(|part| (part + first) % 4);
        for part in order {
            world.kill(part);
        }
        for part in order {
            world.start_again(part).await;
        }
    }
    visitors.more(20).await;
    world.stored_once(&visitors.stop().await).await;
}

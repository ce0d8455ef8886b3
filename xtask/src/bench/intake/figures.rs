//! The results of all rounds. Pure.

use std::{collections::BTreeMap, fmt};

use super::contender::Contender;
use crate::bench::{
    cpu::Used,
    direct::Published,
    stats::{Series, figure},
    wrk::{Body, Seen},
};

/// The result of one round. Times are in milliseconds; costs are CPU microseconds a contact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    rate: f64,
    p50: f64,
    p99: f64,
    /// The cost of the process that takes contacts; none if there is no such process.
    service: Option<f64>,
    /// The cost of the server that stores contacts; none if nothing is stored.
    server: Option<f64>,
    /// The cost of the program that makes the load.
    load: f64,
    /// The number of requests with no answer, or another than they should have.
    wrong: f64,
}

impl Outcome {
    pub(super) fn of_requests(seen: Seen, body: Body, used: Used<2>) -> Self {
        let wrong = match body {
            Body::Valid => seen.refused,
            Body::Invalid => seen.answers - seen.refused,
        };
        let Used { servers: [service, server], load } = used.a_contact(seen.answers);
        Self {
            rate: seen.rate,
            p50: seen.p50,
            p99: seen.p99,
            service: Some(service),
            server: (body == Body::Valid).then_some(server),
            load,
            wrong: wrong + seen.failed,
        }
    }

    pub(super) fn of_groups(published: Published, used: Used<2>) -> Self {
        let Used { servers: [_, server], load } = used.a_contact(published.contacts);
        let Published { rate, p50, p99, .. } = published;
        Self { rate, p50, p99, service: None, server: Some(server), load, wrong: 0.0 }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s, p99 {} ms", figure(self.rate), figure(self.p99))?;
        if self.wrong > 0.0 {
            write!(f, ", {} NOT ANSWERED AS THEY SHOULD BE", self.wrong)?;
        }
        Ok(())
    }
}

/// The figures of one contender at one number of connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    pub(super) rate: Series,
    pub(super) p50: Series,
    pub(super) p99: Series,
    pub(super) service: Series,
    pub(super) server: Series,
    pub(super) load: Series,
    pub(super) wrong: f64,
}

/// The figures of all contenders.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<(Contender, usize), Column>);

impl Figures {
    pub(super) fn add(&mut self, contender: Contender, connections: usize, outcome: Outcome) {
        let column = self.0.entry((contender, connections)).or_default();
        column.rate.push(outcome.rate);
        column.p50.push(outcome.p50);
        column.p99.push(outcome.p99);
        outcome.service.into_iter().for_each(|service| column.service.push(service));
        outcome.server.into_iter().for_each(|server| column.server.push(server));
        column.load.push(outcome.load);
        column.wrong += outcome.wrong;
    }

    pub(super) fn get(&self, contender: Contender, connections: usize) -> Option<&Column> {
        self.0.get(&(contender, connections))
    }

    /// Returns the numbers of connections at which a contender was measured.
    pub(super) fn connections(&self) -> Vec<usize> {
        let mut all: Vec<_> = self.0.keys().map(|(_, connections)| *connections).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Returns the contenders that have not answered each request as they should.
    pub(super) fn wrong(&self) -> impl Iterator<Item = (Contender, usize, f64)> {
        let wrong = self.0.iter().filter(|(_, column)| column.wrong > 0.0);
        wrong.map(|((contender, connections), column)| (*contender, *connections, column.wrong))
    }
}

//! Measures the effect of more gateways, more workers, and three servers of the bus in place of
//! one.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use testbed::{Mongo, Service, within};

use super::{
    build::Build,
    direct::{self, Waiting},
    report::Report,
    servers::{Bus, Kind},
    stats::{Series, figure},
    wrk,
};
use crate::run::say;

/// The numbers of clients that post at once, over all gateways.
const CONNECTIONS: [usize; 3] = [1, 256, 1_000];

/// The numbers of gateways and of servers of the bus.
const INTAKE: [(usize, usize); 6] = [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3), (4, 3)];

/// The numbers of workers and of servers of the bus.
const STORING: [(usize, usize); 4] = [(1, 1), (2, 1), (4, 1), (1, 3)];

/// The number of contacts in each group that waits.
const GROUP: u64 = 50;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds that each measurement of gateways takes
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Contacts that wait for workers
    #[arg(long, default_value_t = 200_000)]
    contacts: u64,
}

/// The figures of some gateways at one number of connections.
#[derive(Clone, Debug, Default)]
struct Intake {
    rate: Series,
    p50: Series,
    p99: Series,
    /// The number of requests; `not_accepted` of them were refused or had no answer.
    requests: f64,
    not_accepted: f64,
}

/// Measures all combinations in turns.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    wrk::check()?;
    let time = Duration::from_secs(args.seconds);
    let mut intake = vec![vec![Intake::default(); CONNECTIONS.len()]; INTAKE.len()];
    let mut storing = vec![Series::default(); STORING.len()];
    for round in 1..=rounds {
        for ((gateways, servers), figures) in INTAKE.into_iter().zip(&mut intake) {
            for (connections, figures) in CONNECTIONS.into_iter().zip(figures) {
                figures.add(&gateways_take(gateways, servers, connections, time).await?, time);
            }
        }
        for ((workers, servers), figures) in STORING.into_iter().zip(&mut storing) {
            figures.push(workers_store(workers, servers, args.contacts).await?);
        }
        say(&format!("round {round} is done"));
    }
    Ok(report(args, rounds, &intake, &storing))
}

impl Intake {
    /// Adds the result of a round: the rate of all gateways together, and the latency of the
    /// slowest.
    fn add(&mut self, seen: &[wrk::Seen], time: Duration) {
        let most = |of: fn(&wrk::Seen) -> f64| seen.iter().map(of).fold(0.0, f64::max);
        self.rate.push(seen.iter().map(|seen| seen.rate).sum());
        self.p50.push(most(|seen| seen.p50));
        self.p99.push(most(|seen| seen.p99));
        self.requests += seen.iter().map(|seen| seen.rate * time.as_secs_f64()).sum::<f64>();
        self.not_accepted += seen.iter().map(|seen| seen.refused + seen.failed).sum::<f64>();
    }
}

async fn bus(servers: usize) -> anyhow::Result<Bus> {
    let kind = if servers == 1 { Kind::Plain } else { Kind::Three };
    Bus::start_as(kind, Build::This).await
}

async fn gateways_take(
    gateways: usize,
    servers: usize,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Vec<wrk::Seen>> {
    let bus = bus(servers).await?;
    let mut running = Vec::new();
    for index in 0..gateways {
        running.push(bus.gateway_in(&format!("gateway-{index}"), &[]).await?);
    }
    // A single client uses a single gateway.
    let used = gateways.min(connections);
    let load = running[..used]
        .iter()
        .map(|gateway| wrk::post_contacts(&gateway.url, connections / used, time));
    try_join_all(load).await
}

async fn workers_store(workers: usize, servers: usize, contacts: u64) -> anyhow::Result<f64> {
    let bus = bus(servers).await?;
    let mongo = Mongo::start(&bus.scratch.folder("mongodb")?).await?;
    let specs =
        (0..workers).map(|index| bus.worker_spec(&format!("worker-{index}"), &mongo, "portfolio"));
    let specs = specs.collect::<anyhow::Result<Vec<_>>>()?;
    bus.provision(&specs[0]).await?;
    direct::fill(&bus, Waiting { contacts, group: GROUP, largest: false }).await?;
    let stored = mongo.collection("portfolio", "contacts").await?;
    let started = Instant::now();
    let mut running = specs.into_iter().map(Service::start).collect::<anyhow::Result<Vec<_>>>()?;
    for worker in &mut running {
        worker.ready().await?;
    }
    let all =
        || async { (stored.estimated_document_count().await.ok()? >= contacts).then_some(()) };
    within(Duration::from_mins(10), "all contacts to be stored", all).await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(mongo.count("portfolio", "contacts").await? == contacts, "some contacts are missing");
    #[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
    Ok(contacts as f64 / seconds)
}

fn report(args: &Args, rounds: usize, intake: &[Vec<Intake>], storing: &[Series]) -> Report {
    let mut report = Report::new("Scaling");
    report.say(&format!(
        "`cargo xtask bench scaling`: {rounds} rounds in turns; median (smallest–largest). All processes share the machine's two cores and \
         its disk, also those that\nwould have machines of their own: it shows what more of them cost, not what more machines bring. Each \
         of three servers has each message, and a 202 waits for\ntwo of them (`sync_interval: always`). {} s for each figure of gateways, \
         which share the clients; times are those of the slowest. As in the benchmark\nof intake otherwise.",
        args.seconds
    ));
    let connections = CONNECTIONS.map(|count| count.to_string());
    let head = |first| {
        [first].into_iter().chain(connections.iter().map(String::as_str)).collect::<Vec<_>>()
    };
    let rows = |cell: &dyn Fn(usize, usize) -> String| -> Vec<Vec<String>> {
        let row = |(index, combination)| {
            let cells = (0..CONNECTIONS.len()).map(|at| cell(index, at));
            std::iter::once(name(combination, "gateway")).chain(cells).collect()
        };
        INTAKE.into_iter().enumerate().map(row).collect()
    };
    report.table(
        &head("requests/s at … connections"),
        &rows(&|index, at| intake[index][at].rate.show()),
    );
    report.table(&head("p50 in ms"), &rows(&|index, at| intake[index][at].p50.show()));
    report.table(&head("p99 in ms"), &rows(&|index, at| intake[index][at].p99.show()));
    report.say("As a multiple of one gateway and one server, round by round:");
    let ratio = |index: usize, at: usize| intake[index][at].rate.over(&intake[0][at].rate).show();
    report.table(&head("requests/s"), &rows(&ratio)[1..]);
    let share = |index: usize, at: usize| {
        let figures = &intake[index][at];
        figure(100.0 * figures.not_accepted / figures.requests)
    };
    report.table(&head("refused, or without an answer, in %"), &rows(&share));
    let row = |((combination, series), first): ((_, &Series), &Series)| {
        vec![name(combination, "worker"), series.show(), series.over(first).show()]
    };
    let stored = STORING.into_iter().zip(storing).zip(std::iter::repeat(&storing[0]));
    report.table(
        &[
            &format!("{} contacts that wait, in groups of {GROUP}", args.contacts),
            "stored/s",
            "÷ that of one",
        ],
        &stored.map(row).collect::<Vec<_>>(),
    );
    report
}

/// Names a combination, such as `2 gateways, 3 servers`.
fn name((ours, servers): (usize, usize), what: &str) -> String {
    let many =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", many(ours, what), many(servers, "server"))
}

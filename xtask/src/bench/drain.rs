//! Measures how fast contacts that wait on the bus are stored.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::ensure;
use testbed::{FORMER, Mongo, Service, within};

use super::{
    build::Build,
    cpu::{Meter, Used},
    direct::{self, BATCH, Waiting},
    report::Report,
    servers::{Bus, Kind, mib},
    stats::{Series, figure},
};
use crate::run::say;

/// The number of contacts of the largest size in one message: 900 KB, which the bus accepts.
const LARGEST_GROUP: u64 = 20;

/// The number of messages of the former format in one atomic batch.
const FORMER_BATCH: u64 = 1_000;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Contacts that wait
    #[arg(long, default_value_t = 300_000)]
    contacts: u64,
    /// Contacts that were committed together; each number is measured
    #[arg(
        long, value_delimiter = ',', default_values_t = [1, 50, 500], value_name = "NUMBERS",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    groups: Vec<u64>,
    /// Contacts that wait with a message of 5,000 characters, each of four bytes
    #[arg(long, default_value_t = 3_200)]
    largest: u64,
}

/// The driver, or a worker and the contacts that it stores.
#[derive(Clone, Copy, Debug)]
enum Contender {
    Driver { documents: u64 },
    Worker { build: Build, waiting: Waiting },
}

/// The result of one round. Costs are CPU microseconds a contact.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    rate: f64,
    service: f64,
    nats: f64,
    mongod: f64,
    memory: f64,
}

#[derive(Debug, Default)]
struct Figures {
    rate: Series,
    service: Series,
    nats: Series,
    mongod: Series,
    memory: Series,
}

/// Measures the driver and the workers in turns.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let mut all: Vec<_> =
        args.contenders().into_iter().map(|one| (one, Figures::default())).collect();
    say(&format!("{rounds} rounds with {} measurements each", all.len()));
    for round in 1..=rounds {
        for (contender, figures) in &mut all {
            let outcome = contender.measure().await?;
            say(&format!("round {round}: {contender}: {}/s", figure(outcome.rate)));
            figures.add(outcome);
        }
    }
    Ok(report(args, rounds, &all))
}

impl Args {
    fn contenders(&self) -> Vec<Contender> {
        let worker = |build, waiting| Contender::Worker { build, waiting };
        let usual = |group| Waiting { contacts: self.contacts, group, largest: false };
        let largest = Waiting { contacts: self.largest, group: LARGEST_GROUP, largest: true };
        let mut all = vec![Contender::Driver { documents: self.contacts }];
        all.extend(self.groups.iter().map(|group| worker(Build::This, usual(*group))));
        all.extend([
            worker(Build::Before, usual(FORMER_BATCH)),
            worker(Build::This, largest),
            worker(Build::Before, largest),
        ]);
        all
    }
}

impl Contender {
    /// Measures this contender on servers without earlier data.
    async fn measure(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Driver { documents } => driver(documents).await,
            Self::Worker { build, waiting } => worker(build, waiting).await,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (build, waiting) = match self {
            Self::Driver { .. } => return f.write_str("driver alone"),
            Self::Worker { build, waiting } => (*build, *waiting),
        };
        let who = if build == Build::This { "worker" } else { FORMER };
        let which = if waiting.largest { ", the largest" } else { "" };
        match (build, waiting.group) {
            (Build::Before, _) => write!(f, "{who}, single messages{which}"),
            (Build::This, 1) => write!(f, "{who}, groups of one{which}"),
            (Build::This, group) => write!(f, "{who}, groups of {group}{which}"),
        }
    }
}

async fn driver(documents: u64) -> anyhow::Result<Outcome> {
    let bus = Bus::start().await?;
    let mongo = Mongo::start(&bus.scratch.folder("mongodb")?).await?;
    // Creates the same indexes as for a worker.
    bus.provision(&bus.worker_spec("worker", &mongo, "alone")?).await?;
    let meter = Meter::start([&[&mongo.server]])?;
    let rate = direct::insert(&mongo, "alone", documents).await?;
    let Used { servers: [mongod], load } = meter.used()?.a_contact(float(documents));
    Ok(Outcome { rate, service: load, nats: f64::NAN, mongod, memory: f64::NAN })
}

async fn worker(build: Build, waiting: Waiting) -> anyhow::Result<Outcome> {
    let contacts = waiting.contacts;
    let bus = Bus::start_as(Kind::Plain, build).await?;
    let mongo = Mongo::start(&bus.scratch.folder("mongodb")?).await?;
    let spec = bus.worker_spec("worker", &mongo, "drained")?;
    bus.provision(&spec).await?;
    direct::fill(&bus, waiting).await?;
    let stored = mongo.collection("drained", "contacts").await?;
    let started = Instant::now();
    let mut worker = Service::start(spec)?;
    let meter = Meter::start([&[&worker.server], &bus.servers(), &[&mongo.server]])?;
    worker.ready().await?;
    let all =
        || async { (stored.estimated_document_count().await.ok()? >= contacts).then_some(()) };
    within(Duration::from_mins(10), "all contacts to be stored", all).await?;
    let seconds = started.elapsed().as_secs_f64();
    let Used { servers: [service, nats, mongod], .. } = meter.used()?.a_contact(float(contacts));
    worker.server.check_running()?;
    ensure!(mongo.count("drained", "contacts").await? == contacts, "some contacts are missing");
    let memory = mib(worker.server.peak_kib());
    Ok(Outcome { rate: float(contacts) / seconds, service, nats, mongod, memory })
}

#[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Figures {
    fn add(&mut self, outcome: Outcome) {
        self.rate.push(outcome.rate);
        self.service.push(outcome.service);
        self.mongod.push(outcome.mongod);
        if !outcome.nats.is_nan() {
            self.nats.push(outcome.nats);
            self.memory.push(outcome.memory);
        }
    }
}

fn report(args: &Args, rounds: usize, all: &[(Contender, Figures)]) -> Report {
    let mut report = Report::new("Storing contacts that wait");
    report.say(&format!(
        "`cargo xtask bench drain`: {rounds} rounds in turns with {} contacts each, and {} of the largest (21 KB each); median \
         (smallest–largest).\nA worker's time runs from its start. The driver alone calls `insert_many` with {BATCH} documents, one after \
         the other. All are unordered, wait for a\nmajority and the journal, and fill a collection with the same indexes. {FORMER} reads \
         messages of one contact each. A group is one message.",
        args.contacts, args.largest
    ));
    let driver = &all[0].1.rate;
    let row = |(contender, figures): &(Contender, Figures)| {
        let comparable = !matches!(contender, Contender::Worker { waiting, .. } if waiting.largest);
        let ratio = if comparable { figures.rate.over(driver) } else { Series::default() };
        let series = [
            &figures.rate,
            &ratio,
            &figures.service,
            &figures.nats,
            &figures.mongod,
            &figures.memory,
        ];
        std::iter::once(contender.to_string()).chain(series.map(Series::show)).collect()
    };
    let head = [
        "",
        "contacts/s",
        "÷ driver",
        "CPU µs a contact",
        "of nats-server",
        "of mongod",
        "memory at most (RSS), MiB",
    ];
    report.table(&head, &all.iter().map(row).collect::<Vec<_>>());
    report
}

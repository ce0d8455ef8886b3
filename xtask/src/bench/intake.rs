//! Contacts a second, and how long each takes.

use std::time::Duration;

use testbed::{Mongo, Scratch};

use super::{
    flask::{self, Flask},
    report::Report,
    servers::{Bus, direct, number},
    stats::Series,
    wrk,
};
use crate::run::say;

/// How many clients post at once.
const CONNECTIONS: [usize; 4] = [1, 32, 256, 1_000];

/// Group commit off: each contact is published alone, as soon as it is there.
const ONE_BY_ONE: [(&str, &str); 2] = [("COMMIT_MAX_CONTACTS", "1"), ("COMMITS_IN_FLIGHT", "8192")];

/// How it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Ours,
    OneByOne,
    Flask,
    FlaskJournaled,
    RawBatches,
    RawSingles,
}

use Contender::{Flask as FlaskDefault, FlaskJournaled, OneByOne, Ours, RawBatches, RawSingles};

const ALL: [Contender; 6] = [Ours, FlaskDefault, OneByOne, FlaskJournaled, RawBatches, RawSingles];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Ours => "gateway",
            OneByOne => "gateway, one publish a request",
            FlaskDefault => "Flask, insert_one",
            FlaskJournaled => "Flask, insert_one, journaled",
            RawBatches => "bus alone, atomic batches",
            RawSingles => "bus alone, single publishes",
        }
    }
}

/// The figures of one contender at one number of connections.
#[derive(Clone, Debug, Default)]
struct Figures {
    rate: Series,
    p50: Series,
    p99: Series,
    refused: f64,
    failed: f64,
}

/// Lets all take turns.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    wrk::check()?;
    let environment = flask::install()?;
    let scratch = Scratch::new()?;
    let mongo = Mongo::start(&scratch.folder("mongodb")?).await?;
    let flask = Flask::start(&scratch.folder("flask")?, &environment, &mongo, false).await?;
    let journaled = Flask::start(&scratch.folder("journaled")?, &environment, &mongo, true).await?;
    let time = Duration::from_secs(args.seconds);
    let mut figures = vec![[const { None }; CONNECTIONS.len()]; ALL.len()];
    for round in 1..=rounds {
        for (contender, figures) in ALL.into_iter().zip(&mut figures) {
            for (connections, figures) in CONNECTIONS.into_iter().zip(figures.iter_mut()) {
                let figures = figures.get_or_insert_with(Figures::default);
                match contender {
                    FlaskDefault => {
                        figures.add(wrk::post_contacts(&flask.url, connections, time).await?);
                    }
                    FlaskJournaled => {
                        figures.add(wrk::post_contacts(&journaled.url, connections, time).await?);
                    }
                    Ours => figures.add(gateway(connections, time, &[]).await?),
                    OneByOne => figures.add(gateway(connections, time, &ONE_BY_ONE).await?),
                    RawBatches => {
                        figures
                            .rate
                            .push(bus_alone("batches", "--batch", connections, time).await?);
                    }
                    RawSingles => figures
                        .rate
                        .push(bus_alone("singles", "--in-flight", connections, time).await?),
                }
                mongo.collection("portfolio", "contacts").await?.drop().await?;
            }
            say(&format!("round {round}: {} is done", contender.name()));
        }
    }
    let figures: Vec<Vec<_>> = figures
        .into_iter()
        .map(|figures| figures.into_iter().map(Option::unwrap_or_default).collect())
        .collect();
    Ok(report(args.seconds, rounds, &figures))
}

impl Figures {
    fn add(&mut self, seen: wrk::Seen) {
        self.rate.push(seen.rate);
        self.p50.push(seen.p50);
        self.p99.push(seen.p99);
        self.refused += seen.refused;
        self.failed += seen.failed;
    }
}

async fn gateway(
    connections: usize,
    time: Duration,
    settings: &[(&str, &str)],
) -> anyhow::Result<wrk::Seen> {
    let bus = Bus::start().await?;
    // As shipped, it refuses what it cannot take within some 30 ms, which 1,000 at once are.
    let roomy = (connections > 256).then_some(("MAX_CONTACTS_IN_PROGRESS", "2000"));
    let settings: Vec<_> = settings.iter().copied().chain(roomy).collect();
    let gateway = bus.gateway(&settings).await?;
    wrk::post_contacts(&gateway.url, connections, time).await
}

async fn bus_alone(
    command: &str,
    option: &str,
    many: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let bus = Bus::start().await?;
    let (url, many, seconds) = (bus.url(), many.to_string(), time.as_secs().to_string());
    let result = direct(&[command, "--url", &url, option, &many, "--seconds", &seconds]).await?;
    Ok(number(&result, "messages")? / number(&result, "seconds")?)
}

fn report(seconds: u64, rounds: usize, figures: &[Vec<Figures>]) -> Report {
    let mut report = Report::new("Intake of contacts");
    report.say(&format!(
        "`cargo xtask bench intake`: {rounds} rounds in turns, {seconds} s each; median (smallest–largest). Every 202 of the gateway is on \
         disk (`sync_interval: always`)\nand so is every insert of Flask (a replica set waits for its journal by default). The bus alone has \
         as many messages a batch, or on their way, as there are\nconnections in that column. wrk posts 200 bytes a contact, each another. For 1,000, the \
         gateway is told to have room (`MAX_CONTACTS_IN_PROGRESS=2000`)."
    ));
    let connections = CONNECTIONS.map(|count| count.to_string());
    let head = |first| {
        [first].into_iter().chain(connections.iter().map(String::as_str)).collect::<Vec<_>>()
    };
    let rows = |of: &dyn Fn(&Figures) -> &Series| -> Vec<Vec<String>> {
        ALL.into_iter()
            .zip(figures)
            .map(|(contender, by_connections)| row(contender, by_connections, of))
            .collect()
    };
    report.table(&head("requests/s at … connections"), &rows(&|figures| &figures.rate));
    report.table(&head("p50 in ms"), &rows(&|figures| &figures.p50)[..4]);
    report.table(&head("p99 in ms"), &rows(&|figures| &figures.p99)[..4]);
    report.say("The gateway's figures as a multiple of the others', round by round:");
    let ratios = |of: &dyn Fn(&Figures) -> &Series, others: &[Contender]| -> Vec<Vec<String>> {
        let ours = &figures[0];
        let others = ALL.into_iter().zip(figures).filter(|(other, _)| others.contains(other));
        others
            .map(|(other, theirs)| {
                let cells =
                    ours.iter().zip(theirs).map(|(ours, theirs)| of(ours).over(of(theirs)).show());
                std::iter::once(other.name().to_owned()).chain(cells).collect()
            })
            .collect()
    };
    report.table(&head("requests/s ÷ those of"), &ratios(&|figures| &figures.rate, &ALL[1..]));
    report.table(&head("p50 ÷ that of"), &ratios(&|figures| &figures.p50, &ALL[1..4]));
    report.table(&head("p99 ÷ that of"), &ratios(&|figures| &figures.p99, &ALL[1..4]));
    for (contender, by_connections) in ALL.into_iter().zip(figures) {
        for (connections, figures) in CONNECTIONS.into_iter().zip(by_connections) {
            if figures.refused + figures.failed > 0.0 {
                let (name, refused, failed) = (contender.name(), figures.refused, figures.failed);
                report.say(&format!(
                    "{name} at {connections}: {refused} refused and {failed} failed requests are counted in."
                ));
            }
        }
    }
    report
}

fn row(
    contender: Contender,
    by_connections: &[Figures],
    of: &dyn Fn(&Figures) -> &Series,
) -> Vec<String> {
    let cells = by_connections.iter().map(|figures| of(figures).show());
    std::iter::once(contender.name().to_owned()).chain(cells).collect()
}

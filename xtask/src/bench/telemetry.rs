//! Measures the cost of traces for the intake of contacts, also while the collector is slow or
//! away.

use std::time::{Duration, Instant};

use testbed::Gateway;

use super::{
    collector::Collector,
    report::Report,
    servers::Bus,
    stats::{Series, figure},
    wrk,
};
use crate::run::say;

/// The numbers of clients that post at once.
const CONNECTIONS: [usize; 2] = [32, 256];

/// The interval between two readings of the memory under full load.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Minutes that the gateway is under full load without its collector
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// The destination of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Nowhere,
    Tenth,
    All,
    Silent,
    Dead,
}

const ALL: [Contender; 5] =
    [Contender::Nowhere, Contender::Tenth, Contender::All, Contender::Silent, Contender::Dead];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "no collector is configured",
            Self::Tenth => "10 % of the traces are exported",
            Self::All => "all traces are exported",
            Self::Silent => "10 %, the collector never answers",
            Self::Dead => "10 %, the collector is away",
        }
    }

    async fn collector(self) -> anyhow::Result<Option<Collector>> {
        Ok(match self {
            Self::Nowhere => None,
            Self::Tenth | Self::All => Some(Collector::start().await?),
            Self::Silent => Some(Collector::silent().await?),
            Self::Dead => Some(Collector::dead()),
        })
    }

    async fn gateway(self, bus: &Bus, collector: Option<&Collector>) -> anyhow::Result<Gateway> {
        let ratio = if self == Self::All { "1.0" } else { "0.1" };
        let mut settings = Vec::new();
        if let Some(collector) = collector {
            settings.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()));
            settings.push(("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"));
            settings.push(("OTEL_TRACES_SAMPLER_ARG", ratio));
        }
        bus.gateway(&settings).await
    }
}

/// Measures all contenders in turns, and then one gateway that is without its collector for long.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    wrk::check()?;
    let time = Duration::from_secs(args.seconds);
    let mut rates: [[Series; CONNECTIONS.len()]; ALL.len()] = Default::default();
    for round in 1..=rounds {
        for (contender, rates) in ALL.into_iter().zip(&mut rates) {
            for (connections, rates) in CONNECTIONS.into_iter().zip(rates) {
                let (bus, collector) = (Bus::start().await?, contender.collector().await?);
                let gateway = contender.gateway(&bus, collector.as_ref()).await?;
                rates.push(wrk::post_contacts(&gateway.url, connections, time).await?.rate);
            }
            say(&format!("round {round}: {} is done", contender.name()));
        }
    }
    let memory = memory(Duration::from_secs(60 * args.minutes)).await?;
    Ok(report(args, rounds, &rates, &memory))
}

/// Measures the gateway's memory under full load, in MiB, while its collector is away.
async fn memory(time: Duration) -> anyhow::Result<Vec<f64>> {
    let bus = Bus::start().await?;
    let collector = Collector::dead();
    let gateway = Contender::All.gateway(&bus, Some(&collector)).await?;
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        wrk::post_contacts(&gateway.url, 256, LOOK_EVERY).await?;
        seen.push(gateway.metric("process_resident_memory_bytes").await? / 1024.0 / 1024.0);
        // A full stream takes nothing more, so it is emptied, as a worker would do.
        bus.empty("CONTACTS").await?;
    }
    Ok(seen)
}

fn report(
    args: &Args,
    rounds: usize,
    rates: &[[Series; CONNECTIONS.len()]],
    memory: &[f64],
) -> Report {
    let mut report = Report::new("What traces cost");
    report.say(&format!(
        "`cargo xtask bench telemetry`: {rounds} rounds in turns, {} s each; median (smallest–largest). wrk posts contacts to a gateway whose \
         spans go where the line says.\nThe collector takes everything and keeps nothing, as one on another machine would.",
        args.seconds
    ));
    let connections = CONNECTIONS.map(|count| count.to_string());
    let head = |first| {
        [first].into_iter().chain(connections.iter().map(String::as_str)).collect::<Vec<_>>()
    };
    let rows = |cell: &dyn Fn(usize, usize) -> String, from: usize| -> Vec<Vec<String>> {
        let row = |(index, contender): (usize, Contender)| {
            let cells = (0..CONNECTIONS.len()).map(|column| cell(index, column));
            std::iter::once(contender.name().to_owned()).chain(cells).collect()
        };
        ALL.into_iter().enumerate().skip(from).map(row).collect()
    };
    report.table(
        &head("requests/s at … connections"),
        &rows(&|row, column| rates[row][column].show(), 0),
    );
    report.say("As a multiple of the first line, round by round:");
    let ratio = |row: usize, column: usize| rates[row][column].over(&rates[0][column]).show();
    report.table(&head("requests/s ÷ those without"), &rows(&ratio, 1));
    let at = |index: usize| memory.get(index).copied().map_or_else(|| "–".to_owned(), figure);
    let most = memory.iter().copied().fold(0.0, f64::max);
    report.say(&format!(
        "{} minutes at full load (256 connections, all traces, the collector is away): the gateway's memory was {} MiB after {} s, {} MiB at \
         half time, {} MiB at the end, {} MiB at most.",
        args.minutes,
        at(0),
        LOOK_EVERY.as_secs(),
        at(memory.len() / 2),
        at(memory.len().saturating_sub(1)),
        figure(most)
    ));
    report
}

//! Measures the gateway with more clients than it has room for: those that are refused learn that
//! at once, the others are served as before.

use std::time::{Duration, Instant};

use testbed::{Gateway, within};

use super::{
    clients::{self, Answers, Manners},
    report::Report,
    servers::Bus,
    stats::{Series, percentile},
};
use crate::run::say;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients that bring the gateway to its limit
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Factor by which the number of clients grows then
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// Seconds that each phase takes
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// The phases of a round.
const PHASES: [&str; 3] =
    ["at the limit", "overload, clients wait as told", "overload, clients come again at once"];

#[derive(Debug, Default)]
struct Figures {
    accepted_rate: Series,
    accepted_p50: Series,
    accepted_p99: Series,
    refused_rate: Series,
    refused_p99: Series,
    memory: Series,
    recovery: Series,
    failed: usize,
}

/// Measures all phases in turns. Each has a gateway of its own, so that its memory is measured too.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let mut figures: [Figures; 3] = Default::default();
    let (many, time) = (args.clients * args.times, Duration::from_secs(args.seconds));
    for round in 1..=rounds {
        for (phase, figures) in figures.iter_mut().enumerate() {
            let (clients, manners) = match phase {
                0 => (args.clients, Manners::Patient),
                1 => (many, Manners::Patient),
                _ => (many, Manners::Impatient),
            };
            let bus = Bus::start().await?;
            let gateway = bus.gateway(&[]).await?;
            let address = gateway.url.trim_start_matches("http://").to_owned();
            let answers = clients::post_contacts(&address, clients, time, manners).await;
            let recovery = recovery(&address).await?;
            figures.add(answers, time, recovery, &gateway);
            say(&format!("round {round}: {} is done", PHASES[phase]));
        }
    }
    Ok(report(args, rounds, &figures))
}

/// Returns the time until one client alone is answered as if there had been no overload, in
/// milliseconds: ten times in a row within twice the time that the bus takes.
async fn recovery(address: &str) -> anyhow::Result<f64> {
    const USUAL: f64 = 5.0;
    let started = Instant::now();
    let well = || async {
        let answers = clients::post_alone(address, 10).await;
        let slow = answers.accepted.iter().any(|took| *took > USUAL);
        (answers.accepted.len() == 10 && !slow).then_some(())
    };
    within(Duration::from_secs(30), "the gateway to be itself again", well).await?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

impl Figures {
    fn add(&mut self, mut answers: Answers, time: Duration, recovery: f64, gateway: &Gateway) {
        #[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
        let rate = |answers: &[f64]| answers.len() as f64 / (time + clients::COMING).as_secs_f64();
        self.accepted_rate.push(rate(&answers.accepted));
        self.refused_rate.push(rate(&answers.refused));
        self.accepted_p50.push(percentile(&mut answers.accepted, 50.0));
        self.accepted_p99.push(percentile(&mut answers.accepted, 99.0));
        self.refused_p99.push(percentile(&mut answers.refused, 99.0));
        let peak = gateway.server.peak_kib().and_then(|kib| u32::try_from(kib).ok());
        self.memory.push(peak.map_or(f64::NAN, |kib| f64::from(kib) / 1024.0));
        self.recovery.push(recovery);
        self.failed += answers.failed;
    }
}

fn report(args: &Args, rounds: usize, figures: &[Figures; 3]) -> Report {
    let mut report = Report::new("Overload");
    report.say(&format!(
        "`cargo xtask bench overload`: {rounds} rounds in turns, {} s each; median (smallest–largest). {} clients bring the gateway to its \
         limit,\n{} are the overload. A latency includes the connection, where one has to be made. The clients share the machine, and take \
         as much of it as the gateway.",
        args.seconds,
        args.clients,
        args.clients * args.times,
    ));
    let head: Vec<_> = [""].into_iter().chain(PHASES).collect();
    let row = |name: &str, of: &dyn Fn(&Figures) -> Series| -> Vec<String> {
        std::iter::once(name.to_owned())
            .chain(figures.iter().map(|figures| of(figures).show()))
            .collect()
    };
    report.table(
        &head,
        &[
            row("accepted, contacts/s", &|figures| figures.accepted_rate.clone()),
            row("accepted, p50 in ms", &|figures| figures.accepted_p50.clone()),
            row("accepted, p99 in ms", &|figures| figures.accepted_p99.clone()),
            row("p99 ÷ that at the limit", &|phase| {
                phase.accepted_p99.over(&figures[0].accepted_p99)
            }),
            row("refused, answers/s", &|figures| figures.refused_rate.clone()),
            row("refused, p99 in ms", &|figures| figures.refused_p99.clone()),
            row("memory at most (RSS), MiB", &|figures| figures.memory.clone()),
            row("well again after, ms", &|figures| figures.recovery.clone()),
        ],
    );
    let failed: usize = figures.iter().map(|figures| figures.failed).sum();
    report.say(&format!("{failed} requests had no answer, or another than 202 and 503."));
    report
}

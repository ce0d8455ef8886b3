//! Measures contacts a second, their latency and their CPU time.

mod contender;
mod figures;
mod tables;

use std::time::Duration;

use super::{report::Report, wrk};
use crate::run::say;
use contender::{Contender, Stage};
use figures::Figures;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Contenders to measure; the result is kept only without this option, which measures all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    contenders: Vec<Contender>,
    /// Numbers of connections; the result is kept only without this option, which measures all
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    connections: Vec<usize>,
}

impl Args {
    /// Returns whether all contenders are measured, with all numbers of connections.
    pub(crate) fn whole(&self) -> bool {
        self.contenders.is_empty() && self.connections.is_empty()
    }

    /// Returns whether a contender needs the commit that this tree is compared with.
    pub(crate) fn needs_before(&self) -> bool {
        self.contenders().into_iter().any(Contender::is_before)
    }

    fn contenders(&self) -> Vec<Contender> {
        let chosen = |one: &Contender| self.contenders.is_empty() || self.contenders.contains(one);
        Contender::ALL.into_iter().filter(chosen).collect()
    }

    fn connections(&self, contender: Contender) -> Vec<usize> {
        let all = contender.connections().iter().copied();
        let chosen = |one: &usize| self.connections.is_empty() || self.connections.contains(one);
        all.filter(chosen).collect()
    }
}

/// Measures all contenders in turns. Each round begins with another one, so that none always
/// follows the same one.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    wrk::check()?;
    let mut contenders = args.contenders();
    let time = Duration::from_secs(args.seconds);
    let stage = Stage::start(contenders.contains(&Contender::Flask), time).await?;
    let mut figures = Figures::default();
    let measurements: usize = contenders.iter().map(|one| args.connections(*one).len()).sum();
    say(&format!("{rounds} rounds with {measurements} measurements of {} s each", args.seconds));
    for round in 1..=rounds {
        for &contender in &contenders {
            for connections in args.connections(contender) {
                let outcome = stage.measure(contender, connections).await?;
                say(&format!("round {round}: {contender}, {connections} connections: {outcome}"));
                figures.add(contender, connections, outcome);
            }
        }
        contenders.rotate_left(1);
    }
    Ok(tables::report(args.seconds, rounds, &figures))
}

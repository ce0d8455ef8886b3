//! Measures the services while they are idle, and the bus under full load.

mod idle;
mod limit;
mod load;

use super::{report::Report, wrk};

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds that the bus is under full load
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Empty the stream without a worker, so that more contacts reach the bus; the result is not
    /// kept
    #[arg(long)]
    without_worker: bool,
    /// Measure one part alone; the result is not kept
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The services, when there is nothing to do
    Idle,
    /// The bus under load, with as much memory as it is deployed with
    Load,
}

impl Args {
    /// Returns whether everything is measured, and as it is deployed.
    pub(crate) fn whole(&self) -> bool {
        self.only.is_none() && !self.without_worker
    }

    /// Returns whether the measurement needs a cluster.
    pub(crate) fn needs_cluster(&self) -> bool {
        self.has(Part::Idle)
    }

    fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// Measures the services, and then the bus.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("Footprint");
    report.say("`cargo xtask bench footprint`.");
    if args.has(Part::Idle) {
        idle::measure(&mut report, rounds).await?;
    }
    if args.has(Part::Load) {
        wrk::check()?;
        load::measure(&mut report, args).await?;
    }
    Ok(report)
}

//! `cargo xtask bench`: speed and size, side by side with baselines in the same run.
//!
//! Every contender is measured in each round, one after the other, so that a machine that slows
//! down meanwhile does so for all of them. The ratios count. Results are kept in `bench/results`,
//! with the machine that they come from.

mod build;
mod clients;
mod collector;
mod cpu;
mod direct;
mod drain;
mod flask;
mod footprint;
mod intake;
mod machine;
mod overload;
mod report;
mod rollout;
mod scaling;
mod servers;
mod stats;
mod telemetry;
mod waiting;
mod wrk;

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};

use crate::{run::say, tools};
use report::Report;

/// Options of all measurements.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Number of rounds; each measures all in turn
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Contacts a second, their latency and their CPU time, beside the app that is replaced, an
    /// earlier commit, and the bus alone; also with TLS and accounts, and with three servers
    Intake(intake::Args),
    /// Speed at which waiting contacts are stored, beside the MongoDB driver alone and an earlier
    /// commit
    Drain(drain::Args),
    /// Answers and latency when more comes than there is room for
    Overload(overload::Args),
    /// Time until a build is written, done, or known to fail, beside kubectl
    Rollout(rollout::Args),
    /// Contacts a second with several gateways, workers and servers of the bus
    Scaling(scaling::Args),
    /// Time until thousands of clients that wait or listen receive a verdict
    Waiting(waiting::Args),
    /// Cost of traces, also when their collector is away
    Telemetry(telemetry::Args),
    /// Memory, size and time to start of each service; memory of the bus under full load
    Footprint(footprint::Args),
}

impl What {
    /// Returns the name of the results.
    fn name(&self) -> &'static str {
        match self {
            Self::Intake(_) => "intake",
            Self::Drain(_) => "drain",
            Self::Overload(_) => "overload",
            Self::Rollout(_) => "rollout",
            Self::Scaling(_) => "scaling",
            Self::Waiting(_) => "waiting",
            Self::Telemetry(_) => "telemetry",
            Self::Footprint(_) => "footprint",
        }
    }

    /// Returns whether everything is measured that the results describe.
    fn whole(&self) -> bool {
        match self {
            Self::Intake(intake) => intake.whole(),
            Self::Footprint(footprint) => footprint.whole(),
            _ => true,
        }
    }

    fn needs_cluster(&self) -> bool {
        match self {
            Self::Footprint(footprint) => footprint.needs_cluster(),
            _ => matches!(self, Self::Rollout(_) | Self::Waiting(_)),
        }
    }

    fn needs_before(&self) -> bool {
        match self {
            Self::Intake(intake) => intake.needs_before(),
            _ => matches!(self, Self::Drain(_)),
        }
    }
}

/// Builds the programs, measures them, and shows and keeps the result.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "--rounds has to be at least 1");
    tools::servers()?;
    if args.what.needs_cluster() {
        tools::cluster()?;
    }
    build::this()?;
    if args.what.needs_before() {
        build::before()?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            report = measure(args) => report,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped"),
            _ = terminate.recv() => anyhow::bail!("stopped"),
        }
    })?;
    let text = format!("{}\n{}", report.text(), machine::description()?);
    say(&format!("\n{text}"));
    if args.what.whole() {
        keep(args.what.name(), &text)?;
    } else {
        say("not kept, since it is not all");
    }
    ensure!(report.faults() == 0, "not all is as it has to be; the result says what");
    Ok(())
}

/// Writes a result to `bench/results`.
fn keep(name: &str, text: &str) -> anyhow::Result<()> {
    let folder = testbed::workspace_folder().join("bench/results");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.md"));
    std::fs::write(&path, text)?;
    say(&format!("kept in {}", path.display()));
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<Report> {
    match &args.what {
        What::Intake(intake) => intake::measure(intake, args.rounds).await,
        What::Drain(drain) => drain::measure(drain, args.rounds).await,
        What::Overload(overload) => overload::measure(overload, args.rounds).await,
        What::Rollout(rollout) => rollout::measure(rollout, args.rounds).await,
        What::Scaling(scaling) => scaling::measure(scaling, args.rounds).await,
        What::Waiting(waiting) => waiting::measure(waiting, args.rounds).await,
        What::Telemetry(telemetry) => telemetry::measure(telemetry, args.rounds).await,
        What::Footprint(footprint) => footprint::measure(footprint, args.rounds).await,
    }
}

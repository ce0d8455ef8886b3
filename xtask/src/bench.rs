//! `cargo xtask bench`: how fast, and how large, side by side with baselines in the same run.
//!
//! Everybody is measured in every round, one after the other, so that a machine that gets slower meanwhile is the same for all.
//! What counts are the ratios. Results are kept in `bench/results`, with the machine that they come from.

mod clients;
mod collector;
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

use crate::{
    run::{command, say, show},
    tools,
};
use report::Report;

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// How many times each is measured; the rounds take turns
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Contacts a second and their latency, beside the app that is replaced and the bus alone
    Intake(intake::Args),
    /// How fast waiting contacts are stored, beside the MongoDB driver alone
    Drain(drain::Args),
    /// What happens when more comes than there is room for
    Overload(overload::Args),
    /// How soon a build is written, done, or known to fail, beside kubectl
    Rollout(rollout::Args),
    /// Contacts a second with several gateways, workers and servers of the bus
    Scaling(scaling::Args),
    /// How soon thousands who wait or listen hear a verdict
    Waiting(waiting::Args),
    /// What traces cost, also when their collector is away
    Telemetry(telemetry::Args),
    /// Memory, size and time to start of each service
    Footprint,
}

impl What {
    /// The name of its results.
    fn name(&self) -> &'static str {
        match self {
            Self::Intake(_) => "intake",
            Self::Drain(_) => "drain",
            Self::Overload(_) => "overload",
            Self::Rollout(_) => "rollout",
            Self::Scaling(_) => "scaling",
            Self::Waiting(_) => "waiting",
            Self::Telemetry(_) => "telemetry",
            Self::Footprint => "footprint",
        }
    }
}

/// Builds what is measured, measures it, shows the result and keeps it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "--rounds has to be at least 1");
    tools::servers()?;
    if matches!(args.what, What::Rollout(_) | What::Waiting(_) | What::Footprint) {
        tools::cluster()?;
    }
    say("building with all optimizations; the first time takes some minutes …");
    let programs =
        ["gateway", "contact-worker", "deployer", "direct"].map(|name| ["--package", name]);
    show(command(
        "cargo",
        ["build", "--release", "--locked", "--quiet"]
            .into_iter()
            .chain(programs.into_iter().flatten()),
    ))?;
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
    let path =
        testbed::workspace_folder().join("bench/results").join(format!("{}.md", args.what.name()));
    std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
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
        What::Footprint => footprint::measure(args.rounds).await,
    }
}

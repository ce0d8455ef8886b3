//! `cargo xtask scenarios`: every situation of a rollout on a real control plane, and the document of what was seen.

use std::time::Instant;

use crate::{
    run::{command, say, show},
    tools,
};

/// How often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many times in a row; the document is that of the last
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    rounds: u32,
    /// Only those whose names contain this; no document is written then
    filter: Option<String>,
}

/// Runs them, and writes `docs/rollout-scenarios.md`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::all()?;
    say("building the services …");
    show(command("cargo", ["build", "--locked", "--workspace", "--quiet"]))?;
    let document = testbed::workspace_folder().join("docs/rollout-scenarios.md");
    for round in 1..=args.rounds {
        let started = Instant::now();
        let mut test =
            command("cargo", ["test", "--locked", "--quiet", "-p", "e2e", "--test", "scenarios"]);
        match &args.filter {
            Some(filter) => test.args(["--", filter]),
            None => test.env("SCENARIOS_FILE", &document),
        };
        show(test)?;
        say(&format!("round {round} of {} took {} s", args.rounds, started.elapsed().as_secs()));
    }
    if args.filter.is_none() {
        say(&format!("what was seen is in {}", document.display()));
    }
    Ok(())
}

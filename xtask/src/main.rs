//! The project's own commands: `cargo xtask up | test | bench | scenarios | tools`.

mod bench;
mod go;
mod npm;
mod run;
mod scenarios;
mod test;
mod tools;
mod up;
mod wheels;

use std::process::ExitCode;

use clap::Parser;

/// Runs the project on this machine, and tests it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    /// Start everything on this machine: bus, store, Kubernetes API, the three services
    Up(up::Args),
    /// Run all tests
    Test(test::Args),
    /// Measure, side by side with baselines in the same run
    Bench(bench::Args),
    /// Play every situation of a rollout, and write down what was seen
    Scenarios(scenarios::Args),
    /// Get the real servers that tests and `up` need
    Tools,
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Up(args) => up::run(args),
        Cli::Test(args) => test::run(&args),
        Cli::Bench(args) => bench::run(&args),
        Cli::Scenarios(args) => scenarios::run(&args),
        Cli::Tools => tools::all(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

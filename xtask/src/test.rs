//! `cargo xtask test`: everything that can be tested on this machine.

use crate::{
    run::{command, say, show},
    tools,
};

/// What is handed on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many rounds the tests with random kills make
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u32>,
    /// Handed on to `cargo test`, such as `-p gateway` or a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo_args: Vec<String>,
}

/// Gets the tools, builds the services, and runs the tests.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::all()?;
    // Tests start the services as processes, which `cargo test -p` alone would not build.
    say("building the services …");
    show(command("cargo", ["build", "--locked", "--workspace", "--quiet"]))?;
    let mut test = command("cargo", ["test", "--locked"]);
    if !args.cargo_args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        test.arg("--workspace");
    }
    test.args(&args.cargo_args);
    if let Some(rounds) = args.rounds {
        test.env("TEST_ROUNDS", rounds.to_string());
    }
    show(test)
}

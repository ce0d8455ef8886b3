//! Persists contacts: takes them from the bus and stores each once, however often it is delivered.

mod app;
mod config;
mod document;
mod ingest;
mod metrics;
mod store;

use std::process::ExitCode;

use config::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = match service::config::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Some(Command::Provision(args)) => {
            let work = app::provision(cli.nats, cli.settings, args);
            service::process::run_command("contact-worker", work)
        }
        Some(Command::DeadLetters(command)) => {
            service::process::run_command("contact-worker", app::dead_letters(cli.nats, command))
        }
        None => service::process::run("contact-worker", cli.common, |process| {
            app::run(cli.settings, cli.nats, process)
        }),
    }
}

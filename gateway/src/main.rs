//! The HTTP edge. Takes contacts and builds, answers 202 once the bus has them on disk, and tells what became of a build.

#![allow(
    unused_qualifications,
    reason = "the macros that describe the API write all paths in full"
)]

mod admission;
mod app;
mod auth;
mod board;
mod body;
mod builds;
mod config;
mod contact;
mod decisions;
mod fields;
mod formats;
mod health;
mod idempotency;
mod metrics;
mod observe;
mod pages;
mod problem;
mod publish;
mod reference;
mod rollouts;
mod routes;
mod serve;
mod stream;
mod targets;
mod webhook;

use std::process::ExitCode;

use config::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = match service::config::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Some(Command::Provision(args)) => {
            service::process::run_command("gateway", app::provision(cli.nats, args))
        }
        None => match cli.settings() {
            Ok(settings) => service::process::run("gateway", cli.common, |process| {
                app::run(settings, cli.nats, process)
            }),
            Err(error) => error.report(),
        },
    }
}

//! Rolls builds out to Kubernetes. A planner decides which targets get a build; an executor a target sets the image, watches
//! the rollout, and reports a verdict that is true.

mod app;
mod argocd;
mod cluster;
mod config;
mod diagnosis;
mod executor;
mod git;
mod history;
mod judge;
mod kustomization;
mod managers;
mod metrics;
mod observed;
mod planner;
mod progress;
mod redact;
mod reporter;
mod rollout_log;
mod smoke;
mod targets;
mod trouble;

use std::process::ExitCode;

use config::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = match service::config::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let targets = cli.targets();
    match (cli.command, targets) {
        (Some(Command::DeadLetters(command)), _) => {
            service::process::run_command("deployer", app::dead_letters(cli.nats, command))
        }
        (_, Err(error)) => error.report(),
        (Some(Command::Provision(args)), Ok(targets)) => {
            service::process::run_command("deployer", app::provision(cli.nats, targets, args))
        }
        (None, Ok(targets)) => service::process::run("deployer", cli.common, |process| {
            app::run(targets, cli.settings, cli.nats, process)
        }),
    }
}

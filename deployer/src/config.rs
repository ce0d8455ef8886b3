//! What the deployer is told, beside its targets.

use std::{ffi::OsString, fs, path::PathBuf};

use bus::{
    DeadLettersCommand,
    config::{Nats, ProvisionArgs},
};
use service::config::{Common, ConfigError};

use crate::targets::{Target, parse};

/// Takes builds from NATS, rolls them out to Kubernetes Deployments, and reports a verdict that is true.
///
/// Kubernetes is reached as kubectl reaches it: `KUBECONFIG`, `~/.kube/config`, or the service account of its pod.
#[derive(Debug, clap::Parser)]
#[command(name = "deployer", version = service::VERSION)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(flatten)]
    pub(crate) nats: Nats,

    /// YAML file with the Deployments that get builds
    #[arg(long, env, global = true, value_name = "FILE")]
    targets_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: Settings,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What it is told beside the targets.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Where people reach the gateway, for links in Kubernetes' events
    #[arg(long, env, value_name = "URL")]
    pub(crate) gateway_url: Option<String>,

    /// Where clones of git branches are kept while it runs, if a target has gitops; not shared with other processes
    #[arg(long, env, value_name = "FOLDER")]
    pub(crate) gitops_folder: Option<PathBuf>,

    /// Where git and ssh are found
    #[arg(long, env, hide = true, default_value = "/usr/local/bin:/usr/bin:/bin")]
    pub(crate) path: OsString,
}

/// What it does in place of deploying.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the streams and consumers that the deployer needs, as a privileged NATS user; never deletes data
    Provision(ProvisionArgs),

    /// List, show, redrive or erase builds and requests that could not be handled, as a privileged NATS user
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
}

impl Cli {
    /// Reads `TARGETS_FILE`.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, ConfigError> {
        let wrong = |why: String| ConfigError::new("TARGETS_FILE", why);
        let path =
            self.targets_file.as_ref().ok_or_else(|| wrong("required; see --help".to_owned()))?;
        let text = fs::read_to_string(path)
            .map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        parse(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))
    }
}

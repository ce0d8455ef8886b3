//! What the gateway is told.

use std::{net::SocketAddr, path::PathBuf};

use runtime::config::{Common, ConfigError, ProvisionArgs, address};

use crate::auth::Tokens;

/// Takes contacts and builds over HTTP and publishes them to NATS; serves pages and the state of builds.
#[derive(Debug, clap::Parser)]
#[command(name = "gateway", version = runtime::VERSION, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The public address
    #[arg(long, env, default_value = "0.0.0.0:8080", value_parser = address, value_name = "ADDRESS")]
    listen_addr: SocketAddr,

    /// YAML file with the tokens of CI and operators; read again when it changes
    #[arg(long, env, required = true, value_name = "FILE")]
    tokens_file: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What it does in place of serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the streams that the gateway needs, as a privileged NATS user; never deletes data
    Provision(ProvisionArgs),
}

/// What serving needs, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen_addr: SocketAddr,
    pub(crate) tokens_file: PathBuf,
    pub(crate) tokens: Tokens,
}

impl Cli {
    /// Reads what the configuration names.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let file = self.tokens_file.clone().ok_or_else(|| ConfigError::new("TOKENS_FILE", "required; see --help"))?;
        let tokens = Tokens::read(&file).map_err(|error| ConfigError::new("TOKENS_FILE", error))?;
        Ok(Settings { listen_addr: self.listen_addr, tokens_file: file, tokens })
    }
}

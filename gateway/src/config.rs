//! The configuration of the gateway.

use std::{net::SocketAddr, path::PathBuf};

use bus::config::{Nats, ProvisionArgs};
use bus::{GroupPublisher, Limits};
use events::ContactGroup;
use service::config::{Common, ConfigError, address};

use crate::{auth::Tokens, formats::Jobs};

const LIMITS: Limits = GroupPublisher::<ContactGroup>::limits();

/// Takes contacts and builds over HTTP, publishes them to NATS, and serves pages and the state of
/// builds.
#[derive(Debug, clap::Parser)]
#[command(name = "gateway", version = service::VERSION, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(flatten)]
    pub(crate) nats: Nats,

    /// The public address
    #[arg(long, env, default_value = "0.0.0.0:8080", value_parser = address, value_name = "ADDRESS")]
    listen_addr: SocketAddr,

    /// YAML file with the tokens of CI and operators; read again when it changes
    #[arg(long, env, required = true, value_name = "FILE")]
    tokens_file: Option<PathBuf>,

    /// YAML file with the images of jobs whose events name none
    #[arg(long, env, value_name = "FILE")]
    jobs_file: Option<PathBuf>,

    /// URL of a trace, for links on the board, with `{trace_id}` in place of its id
    #[arg(long, env, value_parser = trace_url, value_name = "URL")]
    trace_url: Option<String>,

    /// Largest number of contacts that share one durable write; 1 writes each alone
    #[arg(long, env, default_value_t = LIMITS.group_messages, value_parser = group, value_name = "NUMBER")]
    commit_max_contacts: usize,

    /// Largest number of durable writes of contacts at once
    #[arg(long, env, default_value_t = LIMITS.commits_in_flight, value_parser = in_flight, value_name = "NUMBER")]
    commits_in_flight: usize,

    /// Largest number of contacts that wait for the bus; more are refused with 503, so that none
    /// waits long
    #[arg(long, env, default_value_t = 2_000, value_parser = in_progress, value_name = "NUMBER")]
    max_contacts_in_progress: usize,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// A command that the gateway carries out in place of serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the streams that the gateway needs, as a privileged NATS user; never
    /// deletes data
    Provision(ProvisionArgs),
}

/// The settings for serving, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen_addr: SocketAddr,
    pub(crate) tokens_file: PathBuf,
    pub(crate) tokens: Tokens,
    pub(crate) jobs: Jobs,
    pub(crate) trace_url: Option<String>,
    pub(crate) limits: Limits,
}

fn trace_url(text: &str) -> Result<String, String> {
    let http = text.starts_with("http://") || text.starts_with("https://");
    if http && text.contains("{trace_id}") {
        return Ok(text.to_owned());
    }
    Err(format!(
        "'{text}' is not allowed, write a URL such as http://jaeger:16686/trace/{{trace_id}}"
    ))
}

fn group(text: &str) -> Result<usize, String> {
    number(text, 1_000)
}

fn in_flight(text: &str) -> Result<usize, String> {
    number(text, LIMITS.in_progress)
}

fn in_progress(text: &str) -> Result<usize, String> {
    number(text, LIMITS.in_progress)
}

fn number(text: &str, max: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("'{text}' is not allowed, write a number from 1 to {max}"))
}

impl Cli {
    /// Reads the files that the configuration names, and returns the settings.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let file = self
            .tokens_file
            .clone()
            .ok_or_else(|| ConfigError::new("TOKENS_FILE", "required; see --help"))?;
        let tokens = Tokens::read(&file).map_err(|error| ConfigError::new("TOKENS_FILE", error))?;
        let jobs = self.jobs_file.as_deref().map(Jobs::read).transpose();
        let jobs = jobs.map_err(|error| ConfigError::new("JOBS_FILE", error))?.unwrap_or_default();
        let limits = Limits {
            group_messages: self.commit_max_contacts,
            commits_in_flight: self.commits_in_flight,
            in_progress: self.max_contacts_in_progress,
            ..LIMITS
        };
        Ok(Settings {
            listen_addr: self.listen_addr,
            tokens_file: file,
            tokens,
            jobs,
            trace_url: self.trace_url.clone(),
            limits,
        })
    }
}

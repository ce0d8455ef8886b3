//! The worker's configuration.

use bus::{
    DeadLettersCommand,
    config::{Nats, ProvisionArgs},
};
use secrecy::SecretString;
use service::config::Common;

/// Takes contacts from NATS and persists them in `MongoDB`.
#[derive(Debug, clap::Parser)]
#[command(name = "contact-worker", version = service::VERSION)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(flatten)]
    pub(crate) nats: Nats,

    #[command(flatten)]
    pub(crate) settings: Settings,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// A command that runs in place of the worker.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or update the streams, the consumer and the indexes that the worker needs, as
    /// privileged users; never deletes data
    Provision(ProvisionArgs),

    /// List, show, redrive or erase contacts that could not be stored, as a privileged NATS user
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
}

/// The settings of the store.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Address of `MongoDB`
    #[arg(
        long, env, default_value = "mongodb://127.0.0.1:27017", value_name = "URI",
        value_parser = uri, hide_env_values = true
    )]
    pub(crate) mongodb_uri: SecretString,

    /// Database that holds the collection `contacts`
    #[arg(long, env, default_value = "portfolio", value_name = "NAME", value_parser = database)]
    pub(crate) mongodb_database: String,
}

fn uri(text: &str) -> Result<SecretString, String> {
    // The text may hold a password, so the error does not repeat it.
    let known = ["mongodb://", "mongodb+srv://"].iter().any(|scheme| text.starts_with(scheme));
    if known {
        Ok(text.into())
    } else {
        Err("not a connection string, write mongodb://HOST:PORT/".to_owned())
    }
}

fn database(text: &str) -> Result<String, String> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "/\\.\"$*<>:|?".contains(c);
    if text.is_empty() || text.len() > 63 || text.contains(forbidden) {
        return Err(format!(
            "'{text}' is not a name of a database, write up to 63 letters, digits, '_' and '-'"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_uri_is_told_without_its_password() {
        let error = service::config::parse_from::<Cli>([
            "contact-worker",
            "--mongodb-uri",
            "http://me:hunter2@host",
        ]);
        let error = error.unwrap_err().0;
        assert!(
            error.starts_with("MONGODB_URI: not a connection string") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn a_database_has_a_name() {
        for bad in ["", "a b", "a.b", "a/b", "a$", &"x".repeat(64)] {
            assert!(database(bad).is_err(), "{bad}");
        }
        assert!(database("portfolio_test-1").is_ok());
    }
}

//! The configuration of the bus: servers, credentials, and the prefix of JetStream's API.

use std::{fmt, path::PathBuf};

/// The settings of the connection to the bus.
#[derive(Clone, clap::Args)]
pub struct Nats {
    /// One or more NATS servers, comma-separated
    #[arg(
        long = "nats-url", env = "NATS_URL", global = true, default_value = "nats://127.0.0.1:4222",
        value_name = "URLS", value_parser = nats_urls, hide_env_values = true
    )]
    pub urls: NatsUrls,

    /// NATS user
    #[arg(
        long = "nats-user",
        env = "NATS_USER",
        global = true,
        requires = "password_file",
        value_name = "NAME"
    )]
    pub user: Option<String>,

    /// File with the NATS user's password
    #[arg(
        long = "nats-password-file",
        env = "NATS_PASSWORD_FILE",
        global = true,
        requires = "user",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,

    /// NATS credentials file, instead of user and password
    #[arg(
        long = "nats-creds-file", env = "NATS_CREDS_FILE", global = true,
        conflicts_with_all = ["user", "password_file"], value_name = "FILE"
    )]
    pub creds_file: Option<PathBuf>,

    /// File with the certificate authorities that NATS servers are checked against
    #[arg(long = "nats-ca-file", env = "NATS_CA_FILE", global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Prefix of JetStream's API; differs from the default if the streams belong to another account
    /// than the user
    #[arg(
        long = "nats-api-prefix", env = "NATS_API_PREFIX", global = true, default_value = "$JS.API",
        value_name = "SUBJECT", value_parser = subject
    )]
    pub api_prefix: String,
}

/// The options of `provision`, in addition to those of every process.
#[derive(Clone, Debug, clap::Args)]
pub struct ProvisionArgs {
    /// Number of NATS servers that keep a copy of each stream [default: as it is, or 1 for a new
    /// one]
    #[arg(long, env = "STREAM_REPLICAS", value_name = "NUMBER", value_parser = replicas)]
    pub replicas: Option<usize>,
}

fn replicas(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=5).contains(number));
    number.ok_or_else(|| format!("'{text}' is not allowed, write a number from 1 to 5"))
}

/// A checked list of addresses of NATS servers.
#[derive(Clone)]
pub struct NatsUrls(pub Vec<async_nats::ServerAddr>);

/// Shows only the hosts, since URLs may hold a password.
impl fmt::Debug for NatsUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|addr| (addr.host().to_owned(), addr.port())))
            .finish()
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("urls", &self.urls)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn nats_urls(text: &str) -> Result<NatsUrls, String> {
    // The text may hold a password, so the error does not repeat it.
    let parse = |url: &str| {
        let address = url.trim().parse::<async_nats::ServerAddr>().ok()?;
        let inner = address.clone().into_inner();
        let known = ["nats", "tls"].contains(&inner.scheme()) && matches!(inner.path(), "" | "/");
        let host = !address.host().is_empty()
            && !address.host().contains(|c: char| c.is_whitespace() || c == '%');
        (known && host).then_some(address)
    };
    let urls = text.split(',').map(parse).collect::<Option<Vec<_>>>();
    urls.map(NatsUrls).ok_or_else(|| {
        "not a list of NATS servers, write nats://HOST:PORT,nats://HOST:PORT".to_owned()
    })
}

fn subject(text: &str) -> Result<String, String> {
    let token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && !"*>".contains(c))
    };
    if text.split('.').all(token) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{text}' is not a subject, write words with dots between them, \
             such as $JS.API or BUS.API"
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use service::config::parse_from;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        nats: Nats,
    }

    #[test]
    fn a_wrong_value_names_its_variable_and_what_is_allowed() {
        for (args, expected) in [
            (["--nats-user", "x"], "NATS_PASSWORD_FILE: required"),
            (
                ["--nats-api-prefix", "BUS.>"],
                "NATS_API_PREFIX: 'BUS.>' is not a subject, write words with dots",
            ),
        ] {
            let found = parse_from::<Cli>(["test"].iter().chain(&args)).unwrap_err().0;
            assert!(found.starts_with(expected) && !found.contains('\n'), "{found}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let parse = |url| parse_from::<Cli>(["test", "--nats-url", url]);
        let found = parse("nats://me:hunter2@host:port").unwrap_err().0;
        assert!(found.starts_with("NATS_URL: ") && !found.contains("hunter2"), "{found}");
        let cli = parse("nats://me:hunter2@host:1").unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
    }

    #[test]
    fn only_addresses_of_nats_servers_are_taken() {
        for good in [
            "nats://a:4222",
            "a:4222",
            "a",
            "tls://a.example:4222",
            "nats://a:1, nats://b:2",
            "nats://[::1]:4222",
        ] {
            assert!(nats_urls(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://a",
            "http//x y",
            "nats://",
            "nats://a:port",
            "nats://a/path",
            "nats://a:1,,",
        ] {
            assert!(nats_urls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_subjects_without_wildcards_are_taken() {
        for good in ["$JS.API", "BUS.API", "$JS.hub.API", "x"] {
            assert_eq!(subject(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "BUS.", ".API", "BUS API", "BUS.*", ">", "ä"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}

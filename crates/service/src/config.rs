//! Configuration, read once at start from flags and environment variables.
//!
//! A service derives `clap::Parser` on its own struct, flattens [`Common`] into it, and calls
//! [`parse`]. A wrong value ends the process with one line that names the variable and what is
//! allowed.

use std::{ffi::OsString, fmt, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{
    CommandFactory, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The exit status for a wrong configuration: `EX_USAGE` of sysexits.h.
pub const EXIT_CONFIG: u8 = 64;

/// The form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The settings that all processes share.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Address that serves /metrics, /livez and /readyz
    #[arg(
        long,
        env,
        global = true,
        default_value = "0.0.0.0:9090",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub admin_addr: SocketAddr,

    /// Form of the log lines [default: text on a terminal, else json]
    #[arg(long, env, global = true, value_name = "FORMAT", ignore_case = true)]
    pub log_format: Option<LogFormat>,

    /// Level of the log, or directives of tracing, for example info or warn,gateway=debug
    #[arg(
        long,
        env = "RUST_LOG",
        global = true,
        default_value = "info",
        value_name = "FILTER",
        value_parser = log_filter
    )]
    pub log: String,

    /// OTLP endpoint for traces, over gRPC; other OTEL_* variables apply too [default: no export]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        global = true,
        value_name = "URL",
        value_parser = otlp_endpoint
    )]
    pub otlp_endpoint: Option<String>,

    /// Longest time that a shutdown may take
    #[arg(
        long,
        env,
        global = true,
        default_value = "25s",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub shutdown_grace: Duration,
}

/// A wrong configuration, described in one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    /// Creates the error for a variable with a wrong value.
    pub fn new(variable: &str, why: impl fmt::Display) -> Self {
        // The message of a library may have several lines.
        Self(format!("{variable}: {why}").split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Prints the error on stderr and returns the exit status.
    #[expect(
        clippy::print_stderr,
        reason = "there is no logger yet, and the contract asks for stderr"
    )]
    pub fn report(&self) -> ExitCode {
        eprintln!("{}", self.0);
        ExitCode::from(EXIT_CONFIG)
    }
}

/// Reads the arguments and the environment of the process.
///
/// # Errors
/// Returns the exit status with which the process has to end at once: 0 after `--help` and
/// `--version`, [`EXIT_CONFIG`] for a wrong value.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    match C::try_parse() {
        Ok(config) => Ok(config),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            // If stdout cannot be written to, nothing else can be done.
            let _ = error.print();
            Err(ExitCode::SUCCESS)
        }
        Err(error) => Err(one_line::<C>(&error).report()),
    }
}

/// Reads the given arguments as [`parse`] does, for tests.
pub fn parse_from<C: Parser>(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<C, ConfigError> {
    C::try_parse_from(args).map_err(|error| one_line::<C>(&error))
}

/// Shortens an error of clap to one line that starts with the variable.
///
/// clap's own message has several lines and names the flag.
fn one_line<C: CommandFactory>(error: &clap::Error) -> ConfigError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let name = variables::<C>(&text(ContextKind::InvalidArg));
    match error.kind() {
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error)
                .map_or_else(|| "wrong value".to_owned(), ToString::to_string);
            ConfigError::new(&name, why)
        }
        ErrorKind::InvalidValue => {
            let allowed = text(ContextKind::ValidValue).join(" or ");
            let found = text(ContextKind::InvalidValue).join(" ");
            if allowed.is_empty() {
                ConfigError::new(&name, "a value is required")
            } else {
                ConfigError::new(&name, format_args!("'{found}' is not allowed, write {allowed}"))
            }
        }
        ErrorKind::MissingRequiredArgument => ConfigError::new(&name, "required; see --help"),
        _ => {
            let rendered = error.to_string();
            let line = rendered.lines().next().unwrap_or_default();
            ConfigError(format!("{}; see --help", line.trim_start_matches("error: ")))
        }
    }
}

/// Returns the variables of arguments that clap names in the form `--shutdown-grace <DURATION>`.
fn variables<C: CommandFactory>(args: &[String]) -> String {
    let command = C::command();
    let name = |arg: &String| {
        let flag = arg.split_whitespace().next().unwrap_or_default().trim_start_matches("--");
        let found = command.get_arguments().find(|a| a.get_long() == Some(flag));
        found
            .and_then(|a| a.get_env())
            .map_or_else(|| without_marks(arg), |env| env.to_string_lossy().into_owned())
    };
    args.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Returns the name of a positional argument, which clap writes as `<SEQ>...`.
fn without_marks(arg: &str) -> String {
    let name = arg.trim_end_matches("...");
    let inner = |open, close| name.strip_prefix(open)?.strip_suffix(close);
    inner('<', '>').or_else(|| inner('[', ']')).unwrap_or(arg).to_owned()
}

/// Parses a duration such as `500ms`, `30s` or `10m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("'{text}' is not a duration, write a number and a unit, such as 500ms, 30s or 10m")
    })
}

/// Parses an address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("'{text}' is not an address, write IP:PORT, such as 0.0.0.0:8080 or [::]:8080")
    })
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "'{text}' is not a filter, write a level such as info, or warn,gateway=debug"
        )),
    }
}

fn otlp_endpoint(text: &str) -> Result<String, String> {
    // Without a scheme, the exporter assumes TLS and fails without an error.
    let known = ["http://", "https://"]
        .iter()
        .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    if known {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is not a URL, write http://HOST:4317"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        common: Common,
        /// A file
        #[arg(long, env)]
        tokens_file: PathBuf,
    }

    fn error(args: &[&str]) -> String {
        let all = ["test", "--tokens-file", "t"].iter().chain(args);
        parse_from::<Cli>(all).unwrap_err().0
    }

    #[test]
    fn a_wrong_value_names_its_variable_and_what_is_allowed() {
        for (args, expected) in [
            (
                ["--shutdown-grace", "5 parsecs"],
                "SHUTDOWN_GRACE: '5 parsecs' is not a duration, write a number and a unit",
            ),
            (["--admin-addr", "9090"], "ADMIN_ADDR: '9090' is not an address, write IP:PORT"),
            (["--log-format", "xml"], "LOG_FORMAT: 'xml' is not allowed, write text or json"),
            (["--log", "a=b=c"], "RUST_LOG: 'a=b=c' is not a filter"),
            (
                ["--otlp-endpoint", "jaeger:4317"],
                "OTEL_EXPORTER_OTLP_ENDPOINT: 'jaeger:4317' is not a URL",
            ),
        ] {
            let found = error(&args);
            assert!(found.starts_with(expected) && !found.contains('\n'), "{found}");
        }
    }

    #[test]
    fn a_missing_value_names_its_variable() {
        let found = parse_from::<Cli>(["test"]).unwrap_err();
        assert_eq!(found.0, "TOKENS_FILE: required; see --help");
    }
}

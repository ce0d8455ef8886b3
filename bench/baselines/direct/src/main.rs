//! Baselines of the benchmarks: NATS and MongoDB through their Rust clients alone, with messages
//! and documents like ours. Each command prints one line of JSON.

mod bus;
mod contact;
mod store;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use contact::Size;

/// Baselines of the benchmarks; each prints one line of JSON.
#[derive(Debug, Parser)]
#[command(name = "direct")]
enum Cli {
    /// Publish groups of contacts, each once the one before is acknowledged
    Publish {
        /// The server
        #[arg(long)]
        url: String,
        /// Contacts in a group, which is one message
        #[arg(long, default_value_t = 1, value_parser = at_least_one)]
        group: usize,
        /// Seconds that groups are published for
        #[arg(long)]
        seconds: u64,
    },
    /// Put contacts into the stream, to wait there
    Fill {
        /// The server
        #[arg(long)]
        url: String,
        /// Contacts in all
        #[arg(long)]
        contacts: usize,
        /// Contacts that are committed together
        #[arg(long, default_value_t = 1, value_parser = at_least_one)]
        group: usize,
        /// Version of the messages
        #[arg(long, value_enum, default_value = "v2")]
        format: Format,
        /// Make them as large as the form allows
        #[arg(long)]
        largest: bool,
    },
    /// Insert documents with `insert_many`, one batch after the other
    Insert {
        /// The server
        #[arg(long)]
        uri: String,
        /// The database
        #[arg(long)]
        database: String,
        /// Documents in a batch
        #[arg(long)]
        batch: usize,
        /// Documents in all
        #[arg(long)]
        documents: usize,
    },
}

/// A version of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A message a contact, in atomic batches
    V1,
    /// A message a group
    V2,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "not a number from 1".to_owned())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result is for the benchmark that started this")]
async fn main() -> anyhow::Result<()> {
    // Fails only if a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match Cli::parse() {
        Cli::Publish { url, group, seconds } => {
            bus::publish(&url, group, Duration::from_secs(seconds)).await?
        }
        Cli::Fill { url, contacts, group, format, largest } => {
            let size = if largest { Size::Largest } else { Size::Usual };
            match format {
                Format::V1 => bus::fill_batches(&url, size, contacts, group).await?,
                Format::V2 => bus::fill_groups(&url, size, contacts, group).await?,
            }
        }
        Cli::Insert { uri, database, batch, documents } => {
            store::insert(&uri, &database, batch, documents).await?
        }
    };
    println!("{result}");
    Ok(())
}

//! Baselines of the benchmarks: NATS and MongoDB through their Rust clients alone, with messages and documents like ours. Each
//! command prints one line of JSON.

mod bus;
mod store;

use std::time::Duration;

use clap::Parser;

/// What is measured.
#[derive(Debug, Parser)]
#[command(name = "direct")]
enum Cli {
    /// Publish atomic batches one after the other, for so long or so many messages
    Batches {
        /// The server
        #[arg(long)]
        url: String,
        /// Messages in a batch
        #[arg(long)]
        batch: usize,
        /// For how many seconds
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
        /// Until so many messages are stored
        #[arg(long, default_value_t = usize::MAX)]
        messages: usize,
    },
    /// Publish single messages
    Singles {
        /// The server
        #[arg(long)]
        url: String,
        /// How many are on their way at once
        #[arg(long)]
        in_flight: usize,
        /// For how many seconds
        #[arg(long)]
        seconds: u64,
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
        /// How many in all
        #[arg(long)]
        documents: usize,
    },
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result is for the benchmark that started this")]
async fn main() -> anyhow::Result<()> {
    // Fails only if one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match Cli::parse() {
        Cli::Batches { url, batch, seconds, messages } => {
            bus::batches(&url, batch, Duration::from_secs(seconds), messages).await?
        }
        Cli::Singles { url, in_flight, seconds } => {
            bus::singles(&url, in_flight, Duration::from_secs(seconds)).await?
        }
        Cli::Insert { uri, database, batch, documents } => {
            store::insert(&uri, &database, batch, documents).await?
        }
    };
    println!("{result}");
    Ok(())
}

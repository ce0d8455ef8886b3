//! How fast contacts that wait on the bus are stored.

use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::{Mongo, Server, Service, within};

use super::{
    report::Report,
    servers::{Bus, direct, number},
    stats::Series,
};
use crate::run::say;

/// As many as the worker takes at once.
const BATCH: &str = "500";

/// How it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many contacts wait
    #[arg(long, default_value_t = 500_000)]
    contacts: u64,
}

#[derive(Debug, Default)]
struct Figures {
    worker: Series,
    driver: Series,
    memory: Series,
}

/// Lets worker and driver take turns.
pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let mut figures = Figures::default();
    for round in 1..=rounds {
        let bus = Bus::start().await?;
        let mongo = Mongo::start(&bus.scratch.folder("mongodb")?).await?;
        let documents = args.contacts.to_string();
        // Both into a collection with the same indexes.
        Service::run(&bus.worker_spec("worker", &mongo, "alone")?, "provision").await?;
        let inserted = direct(&[
            "insert",
            "--uri",
            &mongo.uri(),
            "--database",
            "alone",
            "--batch",
            BATCH,
            "--documents",
            &documents,
        ])
        .await?;
        figures.driver.push(number(&inserted, "documents")? / number(&inserted, "seconds")?);

        let spec = bus.worker_spec("worker", &mongo, "drained")?;
        Service::run(&spec, "provision").await?;
        direct(&["batches", "--url", &bus.url(), "--batch", "1000", "--messages", &documents])
            .await?;
        let contacts = mongo.collection("drained", "contacts").await?;
        let started = Instant::now();
        let mut worker = Service::start(spec)?;
        worker.ready().await?;
        let all = || async {
            (contacts.estimated_document_count().await.ok()? >= args.contacts).then_some(())
        };
        within(Duration::from_mins(10), "all contacts to be stored", all).await?;
        let seconds = started.elapsed().as_secs_f64();
        worker.server.check_running()?;
        ensure!(
            mongo.count("drained", "contacts").await? == args.contacts,
            "some contacts are missing"
        );
        #[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
        figures.worker.push(args.contacts as f64 / seconds);
        figures.memory.push(peak_mib(&worker.server));
        say(&format!(
            "round {round}: worker {}/s, driver {}/s",
            figures.worker.show(),
            figures.driver.show()
        ));
    }
    Ok(report(args, rounds, &figures))
}

/// The most memory that a server ever held, in MiB.
fn peak_mib(server: &Server) -> f64 {
    server
        .peak_kib()
        .map_or(f64::NAN, |kib| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0)
}

fn report(args: &Args, rounds: usize, figures: &Figures) -> Report {
    let mut report = Report::new("Storing contacts that wait");
    report.say(&format!(
        "`cargo xtask bench drain`: {rounds} rounds in turns with {} contacts each; median (smallest–largest). The worker's time runs from its \
         start.\nThe driver alone calls `insert_many` with {BATCH} documents, one after the other. Both are unordered, wait for a majority and \
         the journal,\nand fill a collection with the same indexes.",
        args.contacts
    ));
    let row = |name: &str, series: &Series| vec![name.to_owned(), series.show()];
    report.table(
        &["", ""],
        &[
            row("worker, contacts/s", &figures.worker),
            row("driver alone, documents/s", &figures.driver),
            row("worker ÷ driver", &figures.worker.over(&figures.driver)),
            row("worker's memory at most (RSS), MiB", &figures.memory),
        ],
    );
    report
}

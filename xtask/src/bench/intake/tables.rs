//! The report of the intake. Pure.

use testbed::FORMER;

use super::{
    contender::Contender,
    figures::{Column, Figures},
};
use crate::bench::{report::Report, stats::Series};

/// The name of a figure, and the figure.
type Metric = (&'static str, fn(&Column) -> &Series);

const METRICS: [Metric; 6] = [
    ("requests/s", |column| &column.rate),
    ("p50 in ms", |column| &column.p50),
    ("p99 in ms", |column| &column.p99),
    ("CPU µs a contact of gateway, gunicorn", |column| &column.service),
    ("CPU µs a contact of nats-server, mongod", |column| &column.server),
    ("CPU µs a contact of the load", |column| &column.load),
];

/// The contenders that are compared: the first as a multiple of the second.
const PAIRS: [(Contender, Contender); 9] = {
    use Contender::{
        Before, BeforeSecured, BeforeThree, Bus, Flask, Gateway, GatewaySecured, GatewayThree,
        Refusing,
    };
    [
        (Gateway, Flask),
        (Gateway, Before),
        (Gateway, Refusing),
        (Gateway, Bus),
        (GatewaySecured, Gateway),
        (GatewaySecured, BeforeSecured),
        (BeforeSecured, Before),
        (GatewayThree, Gateway),
        (GatewayThree, BeforeThree),
    ]
};

pub(super) fn report(seconds: u64, rounds: usize, figures: &Figures) -> Report {
    let mut report = Report::new("Intake of contacts");
    for (contender, connections, wrong) in figures.wrong() {
        let text = format!(
            "{contender} at {connections} connections: {wrong} requests had no answer, or another \
             than they should, and are counted in."
        );
        if contender.is_ours() { report.fault(&text) } else { report.say(&text) }
    }
    introduce(&mut report, seconds, rounds);
    for (name, of) in METRICS {
        let rows = rows(Contender::ALL, figures, &|contender, connections| {
            figures.get(contender, connections).map(of).cloned()
        });
        table(&mut report, &format!("{name}, at … connections"), figures, &rows);
    }
    report.say("One as a multiple of another, round by round:");
    for (name, of) in &METRICS[..5] {
        let rows = rows(PAIRS, figures, &|(ours, theirs), connections| {
            let ours = of(figures.get(ours, connections)?);
            Some(ours.over(of(figures.get(theirs, connections)?)))
        });
        table(&mut report, name, figures, &rows);
    }
    report
}

fn introduce(report: &mut Report, seconds: u64, rounds: usize) {
    report.say(&format!(
        "`cargo xtask bench intake`: {rounds} rounds in turns, {seconds} s each; median (smallest–largest). Every 202 of a gateway is on \
         disk (`sync_interval: always`),\nand so is every insert of Flask (a replica set waits for its journal by default). wrk posts 200 \
         bytes a contact, each another. {FORMER} is the last commit that\npublished each contact as a message of its own, in atomic \
         batches; it has a setting for more room (`MAX_CONTACTS_IN_PROGRESS=2000`); the gateway of this tree has no\nsettings. The bus \
         alone takes groups of as many contacts as there are connections in that column, each a message, and each once the one before \
         is\nacknowledged. Of three servers, each has each message, and all of them share the machine. CPU time is user and system time \
         of all processes of a kind."
    ));
}

type Row = (String, Vec<Series>);

/// Returns a row for each contender or pair that has figures.
fn rows<T: Copy + Named>(
    all: impl IntoIterator<Item = T>,
    figures: &Figures,
    cell: &dyn Fn(T, usize) -> Option<Series>,
) -> Vec<Row> {
    let row = |one: T| {
        let cells = figures.connections().into_iter();
        let cells: Vec<_> = cells.map(|count| cell(one, count).unwrap_or_default()).collect();
        (one.name(), cells)
    };
    let measured = |(_, cells): &Row| cells.iter().any(|series| *series != Series::default());
    all.into_iter().map(row).filter(measured).collect()
}

fn table(report: &mut Report, name: &str, figures: &Figures, rows: &[Row]) {
    let connections = figures.connections().into_iter().map(|count| count.to_string());
    let head: Vec<_> = std::iter::once(name.to_owned()).chain(connections).collect();
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let shown = |(name, cells): &Row| {
        std::iter::once(name.clone()).chain(cells.iter().map(Series::show)).collect()
    };
    if !rows.is_empty() {
        report.table(&head, &rows.iter().map(shown).collect::<Vec<_>>());
    }
}

trait Named {
    fn name(self) -> String;
}

impl Named for Contender {
    fn name(self) -> String {
        self.to_string()
    }
}

impl Named for (Contender, Contender) {
    fn name(self) -> String {
        format!("{} ÷ {}", self.0, self.1)
    }
}

//! The command `dead-letters`.

use std::iter;

use anyhow::Context as _;
use events::Stream;

use super::{
    handle::{DeadLetterError, DeadLetters},
    letter::Letter,
};
use crate::Bus;

/// An action on dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters, oldest first, without what they hold
    List,
    /// Show where a dead letter comes from, why it is here, and its headers
    Show {
        /// Number of the dead letter, as `list` shows it
        #[arg(value_name = "SEQ", value_parser = number)]
        sequence: u64,

        /// Show what it holds as well; of a contact, these are personal data
        #[arg(long)]
        payload: bool,
    },
    /// Publish dead letters to their stream again, and remove each once it is there
    Redrive {
        /// Numbers of dead letters, as `list` shows them
        #[arg(
            value_name = "SEQ",
            required_unless_present = "all",
            conflicts_with = "all",
            value_parser = number
        )]
        sequences: Vec<u64>,

        /// Redrive all dead letters of this process
        #[arg(long)]
        all: bool,
    },
    /// Erase dead letters for good
    Erase {
        /// Numbers of dead letters, as `list` shows them
        #[arg(value_name = "SEQ", required = true, value_parser = number)]
        sequences: Vec<u64>,
    },
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not the number of a dead letter, write one from `list`"))
}

impl Bus {
    /// Carries out a command on the dead letters of the streams that a process consumes. Returns
    /// the lines to print.
    ///
    /// # Errors
    /// [`DeadLetterError`]: a letter is missing or belongs to another process, or the bus refuses.
    /// Letters that were handled before stay handled.
    pub async fn handle_dead_letters(
        &self,
        streams: &[&'static Stream],
        command: DeadLettersCommand,
    ) -> anyhow::Result<Vec<String>> {
        let letters = DeadLetters::open(self, streams).await?;
        match command {
            DeadLettersCommand::List => Ok(list(&letters).await?),
            DeadLettersCommand::Show { sequence, payload } => {
                Ok(shown(&letters.get(sequence).await?, payload))
            }
            DeadLettersCommand::Redrive { all: true, .. } => redrive_all(&letters).await,
            DeadLettersCommand::Redrive { sequences, .. } => redrive(&letters, sequences).await,
            DeadLettersCommand::Erase { sequences } => erase(&letters, sequences).await,
        }
    }
}

async fn list(letters: &DeadLetters<'_>) -> Result<Vec<String>, DeadLetterError> {
    let mut rows = Vec::new();
    let mut behind = 0;
    while let Some(letter) = letters.next(behind).await? {
        behind = letter.sequence;
        rows.push(row(&letter));
    }
    Ok(table(rows))
}

async fn redrive_all(letters: &DeadLetters<'_>) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut behind = 0;
    loop {
        let letter = letters.next(behind).await.with_context(|| so_far(lines.len(), "redriven"))?;
        let Some(letter) = letter else { break };
        behind = letter.sequence;
        lines.push(redriven(letters, &letter, lines.len()).await?);
    }
    Ok(or_none(lines))
}

async fn redrive(letters: &DeadLetters<'_>, sequences: Vec<u64>) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for sequence in sequences {
        let letter = letters.get(sequence).await;
        let letter = letter.with_context(|| so_far(lines.len(), "redriven"))?;
        lines.push(redriven(letters, &letter, lines.len()).await?);
    }
    Ok(lines)
}

async fn redriven(
    letters: &DeadLetters<'_>,
    letter: &Letter,
    before: usize,
) -> anyhow::Result<String> {
    let place = letters.redrive(letter).await.with_context(|| so_far(before, "redriven"))?;
    let (sequence, stream) = (letter.sequence, &letter.origin.stream);
    Ok(format!("dead letter {sequence}: redriven, now message {place} of {stream}"))
}

async fn erase(letters: &DeadLetters<'_>, sequences: Vec<u64>) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for sequence in sequences {
        let erased = async {
            let letter = letters.get(sequence).await?;
            letters.erase(letter.sequence).await
        };
        erased.await.with_context(|| so_far(lines.len(), "erased"))?;
        lines.push(format!("dead letter {sequence}: erased"));
    }
    Ok(lines)
}

/// Describes what an error leaves done.
fn so_far(count: usize, done: &str) -> String {
    match count {
        0 => format!("none was {done}"),
        1 => format!("1 was {done} before"),
        _ => format!("{count} were {done} before"),
    }
}

fn or_none(lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() { vec!["no dead letters".to_owned()] } else { lines }
}

/// The columns of the list. The last one is not padded.
const COLUMNS: [&str; 5] = ["SEQ", "SINCE", "SUBJECT", "DELIVERIES", "REASON"];

fn row(letter: &Letter) -> [String; 5] {
    [
        letter.sequence.to_string(),
        letter.since(),
        letter.origin.subject.clone(),
        letter.origin.deliveries.to_string(),
        letter.reason.clone(),
    ]
}

/// Returns rows as aligned lines below their headings.
fn table(rows: Vec<[String; 5]>) -> Vec<String> {
    if rows.is_empty() {
        return or_none(Vec::new());
    }
    let rows: Vec<_> = iter::once(COLUMNS.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 4] = [0, 1, 2, 3].map(width);
    rows.iter()
        .map(|[sequence, since, subject, deliveries, reason]| {
            let [a, b, c, d] = widths;
            format!("{sequence:>a$}  {since:<b$}  {subject:<c$}  {deliveries:>d$}  {reason}")
        })
        .collect()
}

fn shown(letter: &Letter, payload: bool) -> Vec<String> {
    let mut lines: Vec<_> = letter.to_string().lines().map(str::to_owned).collect();
    if payload {
        lines.push(String::new());
        lines.push(String::from_utf8_lossy(&letter.payload).into_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: DeadLettersCommand,
    }

    #[test]
    fn letters_are_redriven_by_number_or_all_at_once() {
        let parse = |args: &[&str]| Cli::try_parse_from(iter::once(&"x").chain(args));
        for good in [&["redrive", "1", "2"][..], &["redrive", "--all"], &["erase", "3"], &["list"]]
        {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [&["redrive"][..], &["redrive", "--all", "1"], &["erase"], &["show", "x"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_aligned() {
        let row = |sequence: &str, subject: &str, reason: &str| {
            [sequence, "2027-01-15T08:00:00Z", subject, "1", reason].map(str::to_owned)
        };
        let lines = table(vec![row("7", "contacts.submitted", "a b"), row("12", "x.y", "c")]);
        let expected = [
            "SEQ  SINCE                 SUBJECT             DELIVERIES  REASON",
            "  7  2027-01-15T08:00:00Z  contacts.submitted           1  a b",
            " 12  2027-01-15T08:00:00Z  x.y                          1  c",
        ];
        assert_eq!(lines, expected);
        assert_eq!(table(Vec::new()), ["no dead letters"]);
    }
}

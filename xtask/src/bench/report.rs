//! The result as Markdown, with aligned tables, so that it reads well in a terminal too. Pure.

use std::fmt::Write;

/// A title, and then paragraphs and tables.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    text: String,
    faults: usize,
}

impl Report {
    /// Returns a report with a title.
    pub(crate) fn new(title: &str) -> Self {
        Self { text: format!("# {title}\n"), faults: 0 }
    }

    /// Adds a fault in bold, so that a reader sees it first. The benchmark fails if there is one.
    pub(crate) fn fault(&mut self, text: &str) {
        self.faults += 1;
        self.say(&format!("**Not as it has to be: {text}**"));
    }

    /// Returns the number of faults.
    pub(crate) fn faults(&self) -> usize {
        self.faults
    }

    /// Adds a paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = write!(self.text, "\n{text}\n");
    }

    /// Adds a table. The first column holds names, the others figures.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let head: Vec<_> = head.iter().map(|&name| name.to_owned()).collect();
        let all = || std::iter::once(&head).chain(rows);
        let widths: Vec<_> = (0..head.len())
            .map(|column| {
                all()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(3)
            })
            .collect();
        self.text.push('\n');
        for (number, row) in all().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
            });
            let _ = writeln!(self.text, "|{}|", cells.collect::<Vec<_>>().join("|"));
            if number == 0 {
                let rule = widths.iter().enumerate().map(|(column, width)| {
                    if column == 0 {
                        "-".repeat(width + 2)
                    } else {
                        format!("{}:", "-".repeat(width + 1))
                    }
                });
                let _ = writeln!(self.text, "|{}|", rule.collect::<Vec<_>>().join("|"));
            }
        }
    }

    /// Returns the whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_and_told() {
        let mut report = Report::new("Speed");
        report.fault("503 at 1000.");
        assert_eq!(report.faults(), 1);
        assert_eq!(report.text(), "# Speed\n\n**Not as it has to be: 503 at 1000.**\n");
    }

    #[test]
    fn tables_line_up() {
        let mut report = Report::new("Speed");
        report.say("In a round.");
        report.table(
            &["who", "requests/s"],
            &[vec!["flask".into(), "1".into()], vec!["ours".into(), "20,000".into()]],
        );
        let expected = "# Speed\n\nIn a round.\n\n\
                        | who   | requests/s |\n|-------|-----------:|\n| flask |          1 |\n| ours  |     20,000 |\n";
        assert_eq!(report.text(), expected);
    }
}

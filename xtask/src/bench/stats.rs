//! The figures of all rounds, with their medians, ratios and percentiles. Pure.

/// One figure of one contender, in the order of the rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Adds the figure of a round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Returns the median, or NaN if there is no figure.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.as_slice() {
            [] => f64::NAN,
            all if all.len() % 2 == 1 => all[middle],
            all => f64::midpoint(all[middle - 1], all[middle]),
        }
    }

    /// Returns this series as a multiple of another, round by round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// Returns the median and the range of the rounds as text: `2.5 (2.1–3.0)`.
    pub(crate) fn show(&self) -> String {
        let sorted = self.sorted();
        match (sorted.first(), sorted.last()) {
            (Some(first), Some(last)) => {
                format!("{} ({}–{})", figure(self.median()), figure(*first), figure(*last))
            }
            _ => "–".to_owned(),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Formats a number with as many digits as are meaningful, and a comma between thousands.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Returns the value below which this percentage of the values lies, or 0 if there are no values.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((values.len() as f64 * percent / 100.0).ceil() as usize).saturating_sub(1);
    values.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_shows_its_middle_and_its_spread() {
        assert_eq!(Series(vec![3.0, 1.0, 2.0]).show(), "2.00 (1.00–3.00)");
        assert_eq!(Series(vec![20_000.0, 21_234.4]).show(), "20,617 (20,000–21,234)");
        assert_eq!(Series::default().show(), "–");
    }

    #[test]
    fn ratios_are_made_round_by_round() {
        let slow_machine_later = Series(vec![10.0, 5.0]);
        assert_eq!(slow_machine_later.over(&Series(vec![2.0, 1.0])), Series(vec![5.0, 5.0]));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut values: Vec<_> = (1..=200).rev().map(f64::from).collect();
        assert!((percentile(&mut values, 99.0) - 198.0).abs() < f64::EPSILON);
        assert!((percentile(&mut values, 50.0) - 100.0).abs() < f64::EPSILON);
        assert!(percentile(&mut [], 99.0).abs() < f64::EPSILON);
    }
}

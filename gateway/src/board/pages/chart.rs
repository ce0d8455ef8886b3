//! The chart of verdicts a day, as places on a plane: the template only writes them down.
//!
//! Across, places are percentages, and downwards they are pixels, so that the chart has any width and its words keep their size.

/// Where the plot begins, from above.
const TOP: u32 = 18;
/// How high it is.
const HEIGHT: u32 = 140;
/// Every how many days one is named.
const NAMED: usize = 10;

/// What a day brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    /// Its name: `24 Nov`.
    pub(crate) name: String,
    /// How many rollouts succeeded.
    pub(crate) succeeded: u32,
    /// How many did not: failed, rolled back or reverted.
    pub(crate) failed: u32,
}

/// The chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// The days, oldest first.
    pub(crate) bars: Vec<Bar>,
    /// The lines across.
    pub(crate) lines: Vec<Line>,
    /// All of it in one sentence.
    pub(crate) summary: String,
}

/// One day.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// What it brought.
    pub(crate) day: Day,
    /// Its left edge.
    pub(crate) left: Percent,
    /// Where its name stands, if it is named.
    pub(crate) label: Option<Label>,
    /// How wide it is.
    pub(crate) width: Percent,
    /// The part that succeeded, at the bottom.
    pub(crate) succeeded: Option<Part>,
    /// The part that did not, on top of it.
    pub(crate) failed: Option<Part>,
}

/// From where, and how high, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its upper edge.
    pub(crate) y: u32,
    /// Its height.
    pub(crate) height: u32,
}

/// Where a day's name stands, and with which end.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// Where.
    pub(crate) x: Percent,
    /// SVG's `text-anchor`.
    pub(crate) anchor: &'static str,
}

/// A line across, and the number that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// How many verdicts.
    pub(crate) count: u32,
    /// How far down.
    pub(crate) y: u32,
}

/// A part of the width, in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(u32);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

impl Chart {
    /// How far down the days' names stand.
    pub(crate) const NAMES: u32 = TOP + HEIGHT + 18;
    /// How high all of it is.
    pub(crate) const WHOLE: u32 = TOP + HEIGHT + 24;

    /// The chart of some days, oldest first.
    pub(crate) fn of(days: Vec<Day>) -> Self {
        let top = round_up(days.iter().map(|day| day.succeeded + day.failed).max().unwrap_or(0));
        let step = 10_000 / u32::try_from(days.len().max(1)).unwrap_or(u32::MAX);
        let summary = summary(&days);
        let last = days.len().saturating_sub(1);
        let mut left = 0;
        let mut bars = Vec::with_capacity(days.len());
        for (index, day) in days.into_iter().enumerate() {
            let succeeded = height(day.succeeded, top);
            let failed = height(day.failed, top);
            let base = TOP + HEIGHT;
            let bar = left + step / 7;
            bars.push(Bar {
                left: Percent(bar),
                width: Percent(step - step * 2 / 7),
                label: label(index, last, bar, left + step / 2),
                succeeded: (succeeded > 0).then(|| Part { y: base - succeeded, height: succeeded }),
                failed: (failed > 0)
                    .then(|| Part { y: base.saturating_sub(succeeded + failed), height: failed }),
                day,
            });
            left += step;
        }
        let lines =
            [0, top / 2, top].map(|count| Line { count, y: TOP + HEIGHT - height(count, top) });
        Self { bars, lines: lines.to_vec(), summary }
    }
}

fn label(index: usize, last: usize, left: u32, middle: u32) -> Option<Label> {
    match index {
        0 => Some(Label { x: Percent(left), anchor: "start" }),
        _ if index == last => Some(Label { x: Percent(10_000), anchor: "end" }),
        _ if index.is_multiple_of(NAMED) && index + NAMED / 2 < last => {
            Some(Label { x: Percent(middle), anchor: "middle" })
        }
        _ => None,
    }
}

/// The next even number that a person likes.
fn round_up(most: u32) -> u32 {
    let mut nice =
        (0..9).flat_map(|zeros| [2, 4, 6, 8, 10, 12, 16].map(|digit| digit * 10_u32.pow(zeros)));
    nice.find(|nice| *nice >= most).unwrap_or(most)
}

/// What is not nothing can be seen.
fn height(count: u32, top: u32) -> u32 {
    let height = u64::from(count) * u64::from(HEIGHT) / u64::from(top.max(1));
    let least = if count == 0 { 0 } else { 2 };
    u32::try_from(height).unwrap_or(HEIGHT).max(least)
}

fn summary(days: &[Day]) -> String {
    let succeeded: u32 = days.iter().map(|day| day.succeeded).sum();
    let failed: u32 = days.iter().map(|day| day.failed).sum();
    let worst = days.iter().max_by_key(|day| day.failed).filter(|day| day.failed > 0);
    let most = worst
        .map(|day| format!("; most failed on {}: {}", day.name, day.failed))
        .unwrap_or_default();
    format!("{succeeded} succeeded and {failed} failed in {} days{most}.", days.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(succeeded: u32, failed: u32) -> Day {
        Day { name: format!("{succeeded} Nov"), succeeded, failed }
    }

    #[test]
    fn bars_stand_on_the_ground_and_on_each_other() {
        let chart = Chart::of(vec![day(3, 1), day(0, 0), day(0, 2)]);
        assert_eq!(
            chart.lines.iter().map(|line| (line.count, line.y)).collect::<Vec<_>>(),
            [(0, 158), (2, 88), (4, 18)]
        );
        assert_eq!(chart.bars[0].succeeded, Some(Part { y: 53, height: 105 }));
        assert_eq!(chart.bars[0].failed, Some(Part { y: 18, height: 35 }));
        assert_eq!((chart.bars[1].succeeded, chart.bars[1].failed), (None, None));
        assert_eq!(chart.bars[2].failed, Some(Part { y: 88, height: 70 }));
        assert_eq!(chart.summary, "3 succeeded and 3 failed in 3 days; most failed on 0 Nov: 2.");
    }

    #[test]
    fn any_count_fits() {
        for most in [0, 1, 7, 99, 1_000, u32::MAX / 2] {
            let chart = Chart::of(vec![day(most, 0), day(1, u32::from(most > 0))]);
            let parts = chart.bars.iter().flat_map(|bar| [bar.succeeded, bar.failed]).flatten();
            assert!(
                parts.into_iter().all(|part| part.y + part.height <= TOP + HEIGHT && part.y >= TOP),
                "{most}"
            );
        }
        assert!(Chart::of(Vec::new()).bars.is_empty());
    }
}

//! Our rules and Alertmanager's settings with their times shortened, so that a fault shows within seconds.
//!
//! Windows and waits are divided by the same number, so that their proportions stay, and so is the age from which on something
//! is too old, unless a test knows better. Windows of hours and days would still be too long, so there is a longest time too.

use std::time::Duration;

/// How times are shortened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// What times are divided by.
    pub(crate) divisor: u32,
    /// What ages are divided by.
    pub(crate) ages: u32,
    /// No time is longer than this afterwards.
    pub(crate) longest: Duration,
}

/// How many times were shortened, by where they stand. A rule of a new kind shows in these numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shortened {
    /// Ranges, such as `[5m]`.
    pub(crate) ranges: usize,
    /// How long an alert waits: `for: 5m`.
    pub(crate) waits: usize,
    /// Ages in seconds that something is compared with: `> 120`.
    pub(crate) ages: usize,
}

/// Whole numbers from here on that something is compared with are ages in seconds. Smaller ones are counts and shares.
const AGES_FROM: u32 = 60;

impl Scale {
    /// A time, shortened.
    pub(crate) fn of(self, time: Duration) -> Duration {
        (time / self.divisor).min(self.longest)
    }

    /// The text of a file with rules.
    pub(crate) fn rules(self, text: &str) -> (String, Shortened) {
        let mut counts = Shortened::default();
        let lines = text.lines().map(|line| {
            let line = self.wait(line, &mut counts.waits);
            let line = self.ranges(&line, &mut counts.ranges);
            self.ages(&line, &mut counts.ages)
        });
        let text = lines.fold(String::new(), |text, line| text + &line + "\n");
        (text, counts)
    }

    /// The text of Alertmanager's settings. How often a message is repeated stays as it is: that is longer than any test.
    pub(crate) fn alertmanager(self, text: &str) -> String {
        let line = |line: &str| {
            let Some((key, value)) = line.split_once(": ") else { return line.to_owned() };
            match duration(value) {
                Some(time) if matches!(key.trim(), "group_wait" | "group_interval") => {
                    format!("{key}: {}", written(self.of(time)))
                }
                _ => line.to_owned(),
            }
        };
        text.lines().fold(String::new(), |text, next| text + &line(next) + "\n")
    }

    /// `for: 5m`, `keep_firing_for: 5m`
    fn wait(self, line: &str, count: &mut usize) -> String {
        match line.split_once("for: ") {
            Some((key, value)) if matches!(key.trim(), "" | "keep_firing_") => {
                match duration(value) {
                    Some(time) => {
                        *count += 1;
                        format!("{key}for: {}", written(self.of(time)))
                    }
                    None => line.to_owned(),
                }
            }
            _ => line.to_owned(),
        }
    }

    /// `[5m]`
    fn ranges(self, line: &str, count: &mut usize) -> String {
        let mut parts = line.split('[');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            let range =
                part.split_once(']').and_then(|(range, rest)| Some((duration(range)?, rest)));
            match range {
                Some((time, rest)) => {
                    *count += 1;
                    format!("{text}[{}]{rest}", written(self.of(time)))
                }
                None => format!("{text}[{part}"),
            }
        })
    }

    /// `> 120`, `< 900`
    fn ages(self, line: &str, count: &mut usize) -> String {
        let mut before = "";
        let words = line.split(' ').map(|word| {
            let compared = matches!(before, ">" | "<");
            before = word;
            let digits = word.trim_end_matches(')');
            match digits.parse().ok().filter(|seconds: &u32| compared && *seconds >= AGES_FROM) {
                Some(seconds) => {
                    *count += 1;
                    let age = (Duration::from_secs(seconds.into()) / self.ages)
                        .min(self.longest)
                        .as_secs_f64();
                    word.replacen(digits, &age.to_string(), 1)
                }
                None => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The lines of shortened rules that have a time in a form that is not understood here.
pub(crate) fn left_as_they_were(rules: &str) -> Vec<&str> {
    let range = |line: &str| {
        let ranges =
            line.split('[').skip(1).filter(|range| range.starts_with(|c: char| c.is_ascii_digit()));
        ranges
            .map(|range| range.split_once(']').map_or("", |(range, _)| range))
            .any(|range| !is_written(range))
    };
    let wait = |line: &str| {
        let value =
            line.trim().strip_prefix("keep_firing_").unwrap_or(line.trim()).strip_prefix("for:");
        value.is_some_and(|value| !is_written(value.trim()))
    };
    rules.lines().filter(|line| range(line) || wait(line) || line.contains(" offset ")).collect()
}

/// A duration of Prometheus' with one unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let millis = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number * millis))
}

fn written(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn is_written(time: &str) -> bool {
    time.strip_suffix("ms").is_some_and(|number| number.parse::<u64>().is_ok())
}

#[test]
fn times_that_are_not_understood_are_named() {
    let rules = "a[5000ms] > b[0ms]\nfor: 5000ms\nkeep_firing_for: 1ms\nby [job]\nfor: all\nfor: 1h30m\na[5m:1m]\na[1h30m]\na offset 5m\n";
    assert_eq!(
        left_as_they_were(rules),
        ["for: all", "for: 1h30m", "a[5m:1m]", "a[1h30m]", "a offset 5m"]
    );
}

#[test]
fn times_are_shortened_and_nothing_else() {
    let scale = Scale { divisor: 60, ages: 60, longest: Duration::from_secs(15) };
    for (given, expected) in [
        ("        for: 5m", "        for: 5000ms"),
        ("        for: 0s", "        for: 0ms"),
        ("        keep_firing_for: 5m", "        keep_firing_for: 5000ms"),
        ("        for: 3h", "        for: 15000ms"),
        ("rate(a[5m]) / rate(b[3d]) > 0.5", "rate(a[5000ms]) / rate(b[15000ms]) > 0.5"),
        ("  group_by: [alertname]", "  group_by: [alertname]"),
        ("a > 120", "a > 2"),
        ("a and on (job) (time() - b < 900)", "a and on (job) (time() - b < 15)"),
        ("a > 14.4 * 0.001 and c > 10", "a > 14.4 * 0.001 and c > 10"),
        (
            "For 5 minutes, more than 120 waited for: ages",
            "For 5 minutes, more than 120 waited for: ages",
        ),
        ("          long: 1h", "          long: 1h"),
    ] {
        assert_eq!(scale.rules(given).0, format!("{expected}\n"));
    }
    let given = "  group_wait: 30s\n  group_interval: 5m\n  repeat_interval: 12h\n";
    assert_eq!(
        scale.alertmanager(given),
        "  group_wait: 500ms\n  group_interval: 5000ms\n  repeat_interval: 12h\n"
    );
}

//! The four figures of DORA (dora.dev), over the rollouts of the last 30 days. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use events::{RolloutState, TargetName};

use super::pages::{
    chart::{Chart, Day},
    history::Figures,
};
use crate::rollouts::{BuildState, Rollout};

/// How many days are looked at.
pub(super) const DAYS: u32 = 30;

/// A rollout that has its verdict.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    target: TargetName,
    state: RolloutState,
    /// When its build was received.
    received_at: DateTime<Utc>,
    /// When its image was set.
    set_at: DateTime<Utc>,
    at: DateTime<Utc>,
    /// It was a person's way back, and not a change.
    rollback: bool,
}

impl Ended {
    /// A rollout, if it began and has ended.
    pub(super) fn of(build: &BuildState, rollout: &Rollout) -> Option<Self> {
        let last = &rollout.last;
        let posted = build.build.as_ref();
        last.state.is_verdict().then_some(())?;
        Some(Self {
            target: last.target.clone()?,
            state: last.state,
            received_at: posted.map_or(last.started_at, |build| build.received_at),
            set_at: last.set_at.unwrap_or(last.started_at),
            at: last.at,
            rollback: posted
                .and_then(|build| build.forced.as_ref())
                .is_some_and(|forced| forced.rollback),
        })
    }

    fn failed(&self) -> bool {
        matches!(self.state, RolloutState::Failed | RolloutState::RolledBack)
    }
}

/// The figures of some rollouts, as of now.
pub(super) fn figures(ended: &[Ended], now: DateTime<Utc>) -> Figures {
    let recent: Vec<_> =
        ended.iter().filter(|one| now - one.at < TimeDelta::days(i64::from(DAYS))).collect();
    let changes: Vec<_> = recent.iter().filter(|one| !one.rollback).collect();
    let deployed: Vec<_> =
        changes.iter().filter(|one| one.state == RolloutState::Succeeded).collect();
    let failed = changes.iter().filter(|one| one.failed()).count();
    let verdicts = deployed.len() + failed;
    Figures {
        frequency: (!changes.is_empty()).then(|| frequency(deployed.len())),
        lead_time: median(deployed.iter().map(|one| one.at - one.received_at)).map(duration),
        failure_rate: (verdicts > 0)
            .then(|| format!("{} %", (failed * 100 + verdicts / 2) / verdicts)),
        time_to_restore: median(restored(ended, now)).map(duration),
    }
}

/// Verdicts day by day, the oldest first.
pub(super) fn chart(ended: &[Ended], now: DateTime<Utc>) -> Chart {
    let day = |ago: u32| {
        let date = now.date_naive() - chrono::Days::new(u64::from(ago));
        let of_day = || ended.iter().filter(|one| one.at.date_naive() == date);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Day {
            name: date.format("%-d %b").to_string(),
            succeeded: count(of_day().filter(|one| one.state == RolloutState::Succeeded).count()),
            failed: count(of_day().filter(|one| one.failed()).count()),
        }
    };
    Chart::of((0..DAYS).rev().map(day).collect())
}

/// How long service took to be as good as before: until the way back was done, or until the next version that succeeded.
fn restored(ended: &[Ended], now: DateTime<Utc>) -> Vec<TimeDelta> {
    let mut in_order: Vec<_> = ended.iter().collect();
    in_order.sort_by_key(|one| one.at);
    let mut broken_since: BTreeMap<&TargetName, DateTime<Utc>> = BTreeMap::new();
    let mut took = Vec::new();
    let mut restore = |begun: DateTime<Utc>, at: DateTime<Utc>| {
        if now - at < TimeDelta::days(i64::from(DAYS)) {
            took.push(at - begun);
        }
    };
    for one in in_order {
        match one.state {
            RolloutState::Failed => {
                broken_since.entry(&one.target).or_insert(one.set_at);
            }
            RolloutState::RolledBack => restore(one.set_at, one.at),
            RolloutState::Succeeded => {
                if let Some(begun) = broken_since.remove(&one.target) {
                    restore(begun, one.at);
                }
            }
            _ => {}
        }
    }
    took
}

fn frequency(deployed: usize) -> String {
    let days = DAYS as usize;
    if deployed >= days {
        let tenths = (deployed * 10 + days / 2) / days;
        return format!("{}.{} a day", tenths / 10, tenths % 10);
    }
    let tenths = (deployed * 70 + days / 2) / days;
    if tenths >= 10 {
        format!("{}.{} a week", tenths / 10, tenths % 10)
    } else {
        format!("{deployed} a month")
    }
}

fn median(times: impl IntoIterator<Item = TimeDelta>) -> Option<TimeDelta> {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    times.get(times.len() / 2).copied()
}

/// A time in the two largest units that it has.
pub(super) fn duration(time: TimeDelta) -> String {
    let millis = time.num_milliseconds().max(0);
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
    }

    fn ended(target: &str, state: RolloutState, received: i64, end: i64) -> Ended {
        Ended {
            target: target.parse().unwrap(),
            state,
            received_at: at(received),
            set_at: at(received + 1),
            at: at(end),
            rollback: false,
        }
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        let none = figures(&[], at(0));
        assert_eq!(
            [none.frequency, none.lead_time, none.failure_rate, none.time_to_restore],
            [const { None }; 4]
        );
    }

    #[test]
    fn each_figure_counts_what_it_says() {
        use RolloutState as S;
        let all = [
            ended("a", S::Succeeded, 0, 10),
            ended("a", S::Failed, 100, 130),
            ended("b", S::Succeeded, 100, 140),
            ended("a", S::Failed, 200, 230),
            ended("a", S::Succeeded, 300, 401),
            ended("b", S::RolledBack, 500, 511),
            ended("b", S::Reverted, 600, 610),
            Ended { rollback: true, ..ended("b", S::Succeeded, 700, 705) },
            // Too long ago.
            ended("c", S::Failed, -3_000_000, -2_999_990),
        ];
        let found = figures(&all, at(1_000));
        assert_eq!(found.frequency.as_deref(), Some("3 a month"));
        assert_eq!(found.lead_time.as_deref(), Some("40 s"));
        assert_eq!(found.failure_rate.as_deref(), Some("50 %"));
        // 10 s on b, and 300 s on a.
        assert_eq!(found.time_to_restore.as_deref(), Some("5 min 0 s"));
    }

    #[test]
    fn a_failure_lasts_until_a_good_version_serves() {
        use RolloutState as S;
        let all = [
            ended("a", S::Failed, 0, 30),
            ended("a", S::Failed, 50, 60),
            ended("a", S::Succeeded, 70, 121),
        ];
        assert_eq!(figures(&all, at(200)).time_to_restore.as_deref(), Some("2 min 0 s"));
        let back = [ended("a", S::RolledBack, 0, 16)];
        assert_eq!(figures(&back, at(200)).time_to_restore.as_deref(), Some("15 s"));
    }

    #[test]
    fn numbers_are_short() {
        for (deployed, expected) in [
            (0, "0 a month"),
            (4, "4 a month"),
            (5, "1.2 a week"),
            (30, "1.0 a day"),
            (126, "4.2 a day"),
        ] {
            assert_eq!(frequency(deployed), expected);
        }
        for (millis, expected) in [
            (0, "0.0 s"),
            (4_130, "4.1 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(TimeDelta::milliseconds(millis)), expected);
        }
    }
}

//! Hours in which nothing is deployed, in their own time zone, over daylight saving time.

use chrono::{DateTime, Utc};
use events::{ClockTime, Day, FreezeWindow};
use jiff::{Timestamp, Zoned, civil::Date, civil::Weekday, tz::TimeZone};

/// How many windows may follow each other without a pause: more than a week's days.
const MAX_CHAIN: usize = 15;

/// Whether there is a time zone of that name.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// A freeze window that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// When it ends.
    pub until: DateTime<Utc>,
    /// The same on the clock of its zone: `Mon 06:00`.
    pub local: String,
    /// That zone.
    pub zone: String,
}

/// The freeze that holds at `now`, if one of the windows is open. Windows that follow each other count as one.
pub fn open_window(windows: &[FreezeWindow], now: DateTime<Utc>) -> Option<OpenWindow> {
    let now = Timestamp::from_second(now.timestamp()).ok()?;
    let open = windows.iter().find(|window| end_of(window, now).is_some())?;
    let mut end = windows.iter().filter_map(|window| end_of(window, now)).max()?;
    for _ in 0..MAX_CHAIN {
        match windows.iter().filter_map(|window| end_of(window, end)).max() {
            Some(later) if later > end => end = later,
            _ => break,
        }
    }
    let local = end.to_zoned(TimeZone::get(&open.zone).ok()?).strftime("%a %H:%M").to_string();
    Some(OpenWindow {
        until: DateTime::from_timestamp(end.as_second(), 0)?,
        local,
        zone: open.zone.clone(),
    })
}

/// When this window ends, if `now` is in it. It began on the day of `now`, or on the day before.
fn end_of(window: &FreezeWindow, now: Timestamp) -> Option<Timestamp> {
    // A zone that is not known is refused where windows are read.
    let zone = TimeZone::get(&window.zone).ok()?;
    let today = now.to_zoned(zone.clone()).date();
    [Some(today), today.yesterday().ok()].into_iter().flatten().find_map(|date| {
        if !window.days.contains(&day(date.weekday())) {
            return None;
        }
        let last = if window.to > window.from { date } else { date.tomorrow().ok()? };
        let begin = at(date, window.from, &zone)?.timestamp();
        let end = at(last, window.to, &zone)?.timestamp();
        (begin <= now && now < end).then_some(end)
    })
}

fn at(date: Date, time: ClockTime, zone: &TimeZone) -> Option<Zoned> {
    let (date, hour, minute) = match time.parts() {
        (24, _) => (date.tomorrow().ok()?, 0, 0),
        (hour, minute) => (date, hour, minute),
    };
    date.at(hour.cast_signed(), minute.cast_signed(), 0, 0).to_zoned(zone.clone()).ok()
}

fn day(weekday: Weekday) -> Day {
    Day::ALL[usize::from(weekday.to_monday_zero_offset().cast_unsigned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, to: &str, zone: &str) -> FreezeWindow {
        FreezeWindow {
            days: days.to_vec(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            zone: zone.to_owned(),
        }
    }

    fn end(windows: &[FreezeWindow], now: &str) -> Option<String> {
        let open = open_window(windows, now.parse().unwrap());
        open.map(|open| open.until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }

    #[test]
    fn a_window_is_in_its_own_time_zone() {
        let windows = [window(&[Day::Fri], "16:00", "18:30", "Europe/Berlin")];
        for (now, expected) in [
            // Friday, 27 November 2026, in winter: UTC+1.
            ("2026-11-27T14:59:59Z", None),
            ("2026-11-27T15:00:00Z", Some("2026-11-27T17:30:00Z")),
            ("2026-11-27T17:29:59Z", Some("2026-11-27T17:30:00Z")),
            ("2026-11-27T17:30:00Z", None),
            ("2026-11-26T15:30:00Z", None),
            // In summer: UTC+2.
            ("2026-07-24T14:00:00Z", Some("2026-07-24T16:30:00Z")),
        ] {
            assert_eq!(end(&windows, now).as_deref(), expected, "{now}");
        }
        assert_eq!(
            end(&[window(&[Day::Fri], "16:00", "18:30", "Nowhere/At_All")], "2026-11-27T15:00:00Z"),
            None
        );
        assert!(is_zone("Europe/Berlin") && is_zone("UTC") && !is_zone("Nowhere/At_All"));
    }

    #[test]
    fn a_window_may_last_into_the_next_day() {
        let windows = [window(&[Day::Fri], "22:00", "06:00", "UTC")];
        assert_eq!(end(&windows, "2026-11-27T23:00:00Z").as_deref(), Some("2026-11-28T06:00:00Z"));
        assert_eq!(end(&windows, "2026-11-28T05:59:00Z").as_deref(), Some("2026-11-28T06:00:00Z"));
        assert_eq!(end(&windows, "2026-11-27T05:00:00Z"), None);
        let whole_day = [window(&[Day::Sun], "09:00", "09:00", "UTC")];
        assert_eq!(
            end(&whole_day, "2026-11-30T08:59:00Z").as_deref(),
            Some("2026-11-30T09:00:00Z")
        );
    }

    #[test]
    fn its_end_is_told_on_its_own_clock() {
        let windows = [window(&[Day::Fri], "16:00", "18:30", "Europe/Berlin")];
        let open = open_window(&windows, "2026-11-27T15:00:00Z".parse().unwrap()).unwrap();
        assert_eq!((&*open.local, &*open.zone), ("Fri 18:30", "Europe/Berlin"));
    }

    #[test]
    fn windows_that_follow_each_other_are_one() {
        let weekend = [
            window(&[Day::Fri], "16:00", "24:00", "UTC"),
            window(&[Day::Sat, Day::Sun], "00:00", "24:00", "UTC"),
            window(&[Day::Mon], "00:00", "08:00", "UTC"),
        ];
        assert_eq!(end(&weekend, "2026-11-27T16:00:00Z").as_deref(), Some("2026-11-30T08:00:00Z"));
        let always = [window(&Day::ALL, "00:00", "24:00", "UTC")];
        assert!(end(&always, "2026-11-27T16:00:00Z").is_some(), "it comes to an end");
    }

    #[test]
    fn an_hour_that_the_clocks_skip_or_repeat_is_no_trouble() {
        let night = [window(&[Day::Sun], "02:15", "02:45", "Europe/Berlin")];
        // 2026-03-29: 02:00 becomes 03:00. The window is where these times would have been.
        assert_eq!(end(&night, "2026-03-29T01:20:00Z").as_deref(), Some("2026-03-29T01:45:00Z"));
        // 2026-10-25: 03:00 becomes 02:00. The first of the two counts.
        assert_eq!(end(&night, "2026-10-25T00:20:00Z").as_deref(), Some("2026-10-25T00:45:00Z"));
    }
}

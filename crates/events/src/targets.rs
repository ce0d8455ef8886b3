//! Decisions of people about targets, and the state of each target.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Event, Progress, Stream, TARGETS, TargetName, V1};

/// A freeze of a target: no rollout begins. A rollout that is under way is finished, and an
/// operator may still roll back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The name of the person's token.
    pub by: String,
    /// The reason, in the person's own words.
    pub reason: String,
    /// The time at which the freeze ends by itself; none if a person has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// A day of the week, as `TARGETS_FILE` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the days' names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// The days in the order of ISO 8601.
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

/// A time of day, to the minute: `00:00` to `24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")
)]
#[serde(try_from = "String", into = "String")]
pub struct ClockTime(u16);

impl ClockTime {
    /// The beginning of the day.
    pub const MIDNIGHT: Self = Self(0);
    /// The end of the day.
    pub const END: Self = Self(24 * 60);

    /// Returns hours and minutes: 24 and 0 at the end of the day.
    pub fn parts(self) -> (u8, u8) {
        let part = |number: u16| u8::try_from(number).unwrap_or_default();
        (part(self.0 / 60), part(self.0 % 60))
    }
}

/// A text is not a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time of day is written from 00:00 to 24:00")]
pub struct InvalidClockTime;

impl FromStr for ClockTime {
    type Err = InvalidClockTime;

    fn from_str(text: &str) -> Result<Self, InvalidClockTime> {
        let digits = |part: &str| {
            let fits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let minutes = text.split_once(':').and_then(|(hours, minutes)| {
            let minutes = digits(minutes).filter(|minutes| *minutes < 60)?;
            Some(digits(hours)? * 60 + minutes)
        });
        minutes.filter(|minutes| *minutes <= Self::END.0).map(Self).ok_or(InvalidClockTime)
    }
}

impl TryFrom<String> for ClockTime {
    type Error = InvalidClockTime;

    fn try_from(text: String) -> Result<Self, InvalidClockTime> {
        text.parse()
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> Self {
        time.to_string()
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Hours of each week in which no rollout begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FreezeWindow {
    /// The days on which the window begins.
    pub days: Vec<Day>,
    /// The time at which the window begins.
    #[serde(default = "midnight")]
    pub from: ClockTime,
    /// The time at which the window ends: on the next day, unless it is after `from`.
    #[serde(default = "end")]
    pub to: ClockTime,
    /// The time zone of both times, by its name in the IANA database, such as `Europe/Berlin`.
    pub zone: String,
}

fn midnight() -> ClockTime {
    ClockTime::MIDNIGHT
}

fn end() -> ClockTime {
    ClockTime::END
}

/// A target: its configuration, and the deployer's view of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// The repository whose builds are deployed to the target.
    pub image: String,
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub deployment: String,
    /// The container whose image is set.
    pub container: String,
    /// The hours in which no rollout begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze_windows: Vec<FreezeWindow>,
    /// The image that the Deployment has now, ours or not; none if there is no such Deployment or
    /// container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Counts of the target's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The kinds of change of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetChange {
    /// A person has frozen the target.
    Frozen(Freeze),
    /// A person has ended the freeze.
    Resumed {
        /// The name of the person's token.
        by: String,
    },
    /// The deployer has observed another state.
    Observed(TargetState),
}

/// A change of a target. Subject `target.<target>.freeze` for a decision of a person, and
/// `target.<target>.state` for an observation of the deployer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetChanged {
    /// The payload's version.
    pub v: V1,
    /// Names the change.
    pub id: Uuid,
    /// The target.
    pub target: TargetName,
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// The change itself.
    pub change: TargetChange,
}

impl TargetChanged {
    /// Returns a new change.
    pub fn new(target: TargetName, change: TargetChange, at: DateTime<Utc>) -> Self {
        Self { v: V1, id: Uuid::now_v7(), target, at, change }
    }
}

impl Event for TargetChanged {
    const TYPE: &'static str = "portfolio.target.changed.v1";
    const STREAM: &'static Stream = &TARGETS;

    fn subject(&self) -> String {
        let what = match self.change {
            TargetChange::Frozen(_) | TargetChange::Resumed { .. } => "freeze",
            TargetChange::Observed(_) => "state",
        };
        format!("target.{}.{what}", self.target)
    }

    fn message_id(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_two_digits_for_hours_and_two_for_minutes() {
        for (text, parts) in
            [("00:00", (0, 0)), ("09:05", (9, 5)), ("23:59", (23, 59)), ("24:00", (24, 0))]
        {
            let time: ClockTime = text.parse().unwrap();
            assert_eq!((time.parts(), time.to_string()), (parts, text.to_owned()));
        }
        for bad in
            ["", "9:00", "24:01", "12:60", "12", "12:0", "-1:00", "+1:00", "aa:bb", "12:00:00"]
        {
            assert_eq!(bad.parse::<ClockTime>(), Err(InvalidClockTime), "{bad}");
        }
    }
}

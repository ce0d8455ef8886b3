//! The board's pages as plain data, and the templates that show it. Pure: no I/O, and no clock.
//!
//! What the live stream sends is rendered by the same templates as the pages: [`SummaryStrip`], [`TargetCard`],
//! [`FiguresSection`] and [`LiveRow`] on the board, [`BuildHead`] and [`RolloutSection`] on a build's page.

pub(crate) mod build;
pub(crate) mod chart;
pub(crate) mod history;
pub(crate) mod parts;
pub(crate) mod state;
pub(crate) mod target;
#[cfg(test)]
mod tests;

use askama::Template;

use self::{
    build::{Build, Rollout},
    chart::Chart,
    history::{Figures, History, Row},
    parts::Frame,
    state::{State, Tone},
    target::{Freeze, Summary, Target},
};

/// `GET /rollouts`
#[derive(Template)]
#[template(path = "board/board.html")]
pub(crate) struct BoardPage {
    /// What every page has.
    pub(crate) frame: Frame,
    /// What a form that was just sent has done.
    pub(crate) notice: Option<String>,
    /// Counts; see [`Summary::of`].
    pub(crate) summary: Summary,
    /// All targets, always in the same order.
    pub(crate) targets: Vec<Target>,
    /// The last 30 days in four figures.
    pub(crate) figures: Figures,
    /// And day by day.
    pub(crate) chart: Chart,
    /// What was.
    pub(crate) history: History,
}

/// `GET /rollouts/builds/{id}`
#[derive(Template)]
#[template(path = "board/build.html")]
pub(crate) struct BuildPage {
    /// What every page has.
    pub(crate) frame: Frame,
    /// What a form that was just sent has done.
    pub(crate) notice: Option<String>,
    /// The build.
    pub(crate) build: Build,
    /// Its rollouts, one for each target.
    pub(crate) rollouts: Vec<Rollout>,
}

/// `GET /rollouts/sign-in`
#[derive(Template)]
#[template(path = "board/sign_in.html")]
pub(crate) struct SignInPage {
    /// What every page has.
    pub(crate) frame: Frame,
    /// Where to go afterwards: a path of ours.
    pub(crate) next: String,
    /// Why it did not work.
    pub(crate) error: Option<String>,
}

/// What went wrong, in place of a page.
#[derive(Template)]
#[template(path = "board/error.html")]
pub(crate) struct ErrorPage {
    /// What every page has.
    pub(crate) frame: Frame,
    /// In a few words.
    pub(crate) title: String,
    /// What is wrong, and what is allowed.
    pub(crate) detail: String,
    /// The way back: a path of ours.
    pub(crate) back: String,
    /// And its words.
    pub(crate) back_label: String,
}

/// The counts, for the live stream.
#[derive(Template)]
#[template(path = "board/summary.html")]
pub(crate) struct SummaryStrip<'a> {
    /// The counts.
    pub(crate) summary: &'a Summary,
}

/// A target's card with its live part and its actions, for the live stream.
#[derive(Template)]
#[template(path = "board/target.html")]
pub(crate) struct TargetCard<'a> {
    /// What every page has: who looks decides about the actions.
    pub(crate) frame: &'a Frame,
    /// The target.
    pub(crate) target: &'a Target,
}

/// Figures and chart, for the live stream.
#[derive(Template)]
#[template(path = "board/figures.html")]
pub(crate) struct FiguresSection<'a> {
    /// The figures.
    pub(crate) figures: &'a Figures,
    /// The chart.
    pub(crate) chart: &'a Chart,
}

/// A row of the history, for the live stream: within a table, because a browser takes a row nowhere else.
#[derive(Template)]
#[template(source = "<table><tbody>{% include \"board/row.html\" %}</tbody></table>", ext = "html")]
pub(crate) struct LiveRow<'a> {
    /// The row.
    pub(crate) row: &'a Row,
}

/// A build's name and state, for the live stream.
#[derive(Template)]
#[template(path = "board/build_head.html")]
pub(crate) struct BuildHead<'a> {
    /// The build.
    pub(crate) build: &'a Build,
}

/// A rollout with all its parts, for the live stream.
#[derive(Template)]
#[template(path = "board/rollout.html")]
pub(crate) struct RolloutSection<'a> {
    /// What every page has: who looks decides about the actions.
    pub(crate) frame: &'a Frame,
    /// The build.
    pub(crate) build: &'a Build,
    /// The rollout.
    pub(crate) rollout: &'a Rollout,
}

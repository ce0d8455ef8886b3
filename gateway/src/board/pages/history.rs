//! What was: rollouts one by one, and in four figures.

use super::{
    parts::{BuildRef, Image, Moment},
    state::State,
};

/// The four DORA figures, ready to read; what is not known is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// `4.2 a day`.
    pub(crate) frequency: Option<String>,
    /// `6 min`.
    pub(crate) lead_time: Option<String>,
    /// `8 %`.
    pub(crate) failure_rate: Option<String>,
    /// `4 min`.
    pub(crate) time_to_restore: Option<String>,
}

/// One of them.
pub(crate) struct Figure<'a> {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: Option<&'a str>,
    /// What it means, in one line.
    pub(crate) meaning: &'static str,
}

/// A rollout in the history.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Names it among all rows: build and target.
    pub(crate) key: String,
    /// Its build.
    pub(crate) build: BuildRef,
    /// Its target; none if no target takes the build.
    pub(crate) target: Option<String>,
    /// Its image.
    pub(crate) image: Image,
    /// Where it stands.
    pub(crate) state: State,
    /// When it began. Rows are sorted by it, newest first.
    pub(crate) started: Moment,
    /// How long it took; none while it is under way, and for what was not begun.
    pub(crate) duration: Option<String>,
    /// Why it ended so, in one sentence.
    pub(crate) cause: Option<String>,
}

/// What a select offers.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// What is sent.
    pub(crate) value: String,
    /// What is read.
    pub(crate) label: String,
    /// Whether it is chosen.
    pub(crate) selected: bool,
}

/// One page of the history.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// All targets.
    pub(crate) targets: Vec<Choice>,
    /// All states.
    pub(crate) states: Vec<Choice>,
    /// The rollouts, newest first.
    pub(crate) rows: Vec<Row>,
    /// Where older ones are, if there are any.
    pub(crate) older: Option<String>,
    /// Whether it begins with the newest one: it is not an older page.
    pub(crate) newest: bool,
}

impl Figures {
    /// The figures with their names and meanings.
    pub(crate) fn all(&self) -> [Figure<'_>; 4] {
        [
            Figure {
                name: "Deployment frequency",
                value: self.frequency.as_deref(),
                meaning: "How often a new version came to serve.",
            },
            Figure {
                name: "Lead time for changes",
                value: self.lead_time.as_deref(),
                meaning: "From a build's receipt until it serves, median.",
            },
            Figure {
                name: "Change failure rate",
                value: self.failure_rate.as_deref(),
                meaning: "Rollouts that failed, of those that began.",
            },
            Figure {
                name: "Time to restore service",
                value: self.time_to_restore.as_deref(),
                meaning: "From a failure until a good version serves, median.",
            },
        ]
    }
}

impl Row {
    /// Whether it ticks.
    pub(crate) fn under_way(&self) -> bool {
        !self.state.is_terminal()
    }
}

impl History {
    /// Whether something is filtered.
    pub(crate) fn filtered(&self) -> bool {
        self.targets
            .iter()
            .chain(&self.states)
            .any(|choice| choice.selected && !choice.value.is_empty())
    }

    /// Whether new rollouts belong at its top.
    pub(crate) fn grows(&self) -> bool {
        self.newest && !self.filtered()
    }

    /// The states to choose from, with what each is called.
    pub(crate) fn states(chosen: &str) -> Vec<Choice> {
        let of = |state: State| Choice {
            value: state.as_str().to_owned(),
            label: state.label().to_owned(),
            selected: state.as_str() == chosen,
        };
        State::OF_ROLLOUTS.map(of).to_vec()
    }
}

//! Targets, as their cards show them, and the counts of them.

use super::{
    parts::{BuildRef, Image, Moment, Progress},
    state::{State, Tone},
};

/// A target and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its name: a DNS label.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its Deployment.
    pub(crate) deployment: String,
    /// What serves; none if nothing is known yet.
    pub(crate) runs: Option<Runs>,
    /// The rollout that is under way.
    pub(crate) current: Option<Current>,
    /// How the last one ended.
    pub(crate) verdict: Option<Verdict>,
    /// The builds that wait, the next one first.
    pub(crate) waiting: Vec<Waiting>,
    /// Why nothing new begins.
    pub(crate) freezes: Vec<Freeze>,
    /// The versions that are not set again by themselves, newest first.
    pub(crate) quarantined: Vec<Quarantined>,
    /// The image to which a roll back would lead; none if there is no way back now.
    pub(crate) back: Option<Image>,
}

/// What serves.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    /// The image.
    pub(crate) image: Image,
    /// Since when.
    pub(crate) since: Option<Moment>,
    /// Its pods.
    pub(crate) pods: Option<Pods>,
}

/// How many pods are ready, and have the image that is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pods {
    /// How many are.
    pub(crate) ready: i32,
    /// How many shall be.
    pub(crate) desired: i32,
    /// How many are of the Deployment as it is now, which those that are ready need not be.
    pub(crate) updated: i32,
}

/// A rollout that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// Where it stands.
    pub(crate) state: State,
    /// Its build.
    pub(crate) build: BuildRef,
    /// The image that is being set.
    pub(crate) image: Image,
    /// How far it is.
    pub(crate) progress: Option<Progress>,
    /// Since when.
    pub(crate) since: Moment,
    /// What is wrong so far, and may pass: cause and summary in one sentence.
    pub(crate) trouble: Option<String>,
}

/// How a rollout ended.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// The verdict.
    pub(crate) state: State,
    /// Its build.
    pub(crate) build: BuildRef,
    /// The image that was to be set.
    pub(crate) image: Image,
    /// When.
    pub(crate) at: Moment,
    /// Why, in one sentence.
    pub(crate) cause: Option<String>,
}

/// A build that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Which.
    pub(crate) build: BuildRef,
    /// Its image.
    pub(crate) image: Image,
    /// Since when.
    pub(crate) since: Moment,
}

/// Why nothing new begins.
#[derive(Clone, Debug)]
pub(crate) enum Freeze {
    /// A person said so.
    ByHand {
        /// Why.
        reason: String,
        /// Who.
        by: String,
        /// Since when.
        since: Moment,
        /// Until when; none: until it is resumed.
        until: Option<Moment>,
    },
    /// A freeze window is open.
    Window {
        /// When it ends.
        until: Moment,
        /// The same on the clock of the window's zone: `Mon 06:00`.
        local: String,
        /// That zone: `Europe/Berlin`.
        zone: String,
    },
}

/// A version that is not set again before a person forces it.
#[derive(Clone, Debug)]
pub(crate) struct Quarantined {
    /// Its image.
    pub(crate) image: Image,
    /// The build that failed with it.
    pub(crate) build: BuildRef,
    /// Why.
    pub(crate) cause: String,
}

/// Counts at the top of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// In the order of what is worst.
    pub(crate) chips: Vec<Chip>,
    /// Of how many targets: only of some can it be said that nothing is wrong.
    pub(crate) total: usize,
    /// For the browser's tab.
    pub(crate) title: String,
}

/// One count, and where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chip {
    /// What it means.
    pub(crate) tone: Tone,
    /// Its symbol.
    pub(crate) icon: &'static str,
    /// `1 failed`.
    pub(crate) text: String,
    /// The targets.
    pub(crate) targets: Vec<String>,
}

impl Pods {
    /// Whether some that shall be ready are not, or are of a version before.
    pub(crate) fn lacking(self) -> bool {
        self.ready < self.desired || self.is_behind()
    }

    /// Whether some are of a version before.
    pub(crate) fn is_behind(self) -> bool {
        self.updated < self.desired
    }
}

impl Target {
    /// What its card shows at a glance: what is under way, then what failed, then what is held.
    pub(crate) fn tone(&self) -> Tone {
        let last = self.verdict.as_ref().map(|verdict| verdict.state.tone());
        match (&self.current, last) {
            (Some(current), _) if current.trouble.is_some() => Tone::Warn,
            (Some(current), _) => current.state.tone(),
            (None, Some(tone @ (Tone::Bad | Tone::Warn))) => tone,
            (None, _) if self.lacking() => Tone::Bad,
            (None, _) if !self.freezes.is_empty() => Tone::Warn,
            (None, last) => last.unwrap_or(Tone::Calm),
        }
    }

    /// Whether pods are missing while nothing is under way.
    pub(crate) fn lacking(&self) -> bool {
        self.runs.as_ref().and_then(|runs| runs.pods).is_some_and(Pods::lacking)
    }

    /// What the count of pods means: fewer than there shall be is a failure, unless they are being replaced.
    pub(crate) fn pods_tone(&self) -> Tone {
        match (self.lacking(), &self.current) {
            (false, _) => Tone::Good,
            (true, None) => Tone::Bad,
            (true, Some(_)) => Tone::Run,
        }
    }

    /// Whether an image is the one that serves.
    pub(crate) fn serves(&self, image: &Image) -> bool {
        self.runs.as_ref().is_some_and(|runs| runs.image == *image)
    }

    /// Whether a person has frozen it, and can resume it.
    pub(crate) fn frozen_by_hand(&self) -> bool {
        self.freezes.iter().any(|freeze| matches!(freeze, Freeze::ByHand { .. }))
    }

    /// Names what the actions depend on: while it stays the same, the page keeps the forms that are there.
    pub(crate) fn acts_state(&self) -> String {
        let hand = if self.frozen_by_hand() { "frozen" } else { "free" };
        format!("{hand} {}", self.back.as_ref().map_or("", |image| &image.reference))
    }
}

impl Summary {
    /// The counts of some targets.
    pub(crate) fn of(targets: &[Target]) -> Self {
        let chip = |tone, icon, word: &str, is: &dyn Fn(&Target) -> bool| {
            let targets: Vec<_> = targets
                .iter()
                .filter(|target| is(target))
                .map(|target| target.name.clone())
                .collect();
            (!targets.is_empty()).then(|| Chip {
                tone,
                icon,
                text: format!("{} {word}", targets.len()),
                targets,
            })
        };
        let ended = |target: &Target, tone| {
            target.current.is_none()
                && target.verdict.as_ref().is_some_and(|verdict| verdict.state.tone() == tone)
        };
        let chips: Vec<_> = [
            chip(Tone::Bad, "cross", "failed", &|target| ended(target, Tone::Bad)),
            chip(Tone::Bad, "warn", "short of pods", &|target| {
                target.current.is_none() && target.lacking()
            }),
            chip(Tone::Warn, "swap", "reverted", &|target| ended(target, Tone::Warn)),
            chip(Tone::Run, "run", "rolling out", &|target| target.current.is_some()),
            chip(Tone::Warn, "freeze", "frozen", &|target| !target.freezes.is_empty()),
            chip(Tone::Calm, "clock", "with builds waiting", &|target| !target.waiting.is_empty()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let title = chips
            .first()
            .map_or_else(|| "Rollouts".to_owned(), |chip| format!("{} – Rollouts", chip.text));
        Self { chips, total: targets.len(), title }
    }
}

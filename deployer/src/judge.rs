//! Judges a rollout over time: how it stands, and whether what is wrong has lasted too long. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    observed::{ReplicaSet, Snapshot},
    progress::{Expectation, Observation, Phase, observe},
    trouble::{Class, Trouble, troubles, unready},
};

/// How long something that does not pass by itself has to show. Secrets and the Deployments that need them are often applied
/// together, and quotas free up while old pods end.
pub(crate) const PERMANENT_PATIENCE: Duration = Duration::from_secs(2);

/// Judges one rollout, from one observation to the next.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) expected: Expectation,
    /// When the rollout fails if it is not done by then.
    pub(crate) deadline: DateTime<Utc>,
    /// How long a cause that may pass is borne while nothing goes on.
    pub(crate) grace: Duration,
    /// Since when something has been wrong while nothing went on.
    wrong_since: Option<DateTime<Utc>>,
    /// Since when nothing has been wrong again.
    well_since: Option<DateTime<Utc>>,
    /// Something that does not pass, and since when.
    permanent: Option<(Trouble, DateTime<Utc>)>,
    /// The furthest that it has come since it is judged here.
    furthest: Option<(i32, i32)>,
}

/// How a rollout stands at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Not done yet.
    Waiting {
        /// What is waited for, in words.
        what: String,
        /// What is wrong meanwhile, and since when.
        trouble: Option<(Trouble, DateTime<Utc>)>,
        /// When it has to be judged anew, though nothing may have changed.
        until: DateTime<Utc>,
    },
    /// The new version, and nothing else, serves.
    Complete,
    /// It will not be.
    Failed(Failed),
    /// Somebody set another image.
    Replaced { image: String },
}

/// Why a rollout will not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Something is wrong that does not pass, or has not passed in time.
    Trouble(Trouble),
    /// The time is up; what was waited for, and what is wrong.
    DeadlineExceeded { what: String, trouble: Option<Trouble> },
    /// Kubernetes gave up, with this message; what is wrong.
    GivenUp { message: String, trouble: Option<Trouble> },
    /// The container is gone.
    NoContainer,
    /// The Deployment is gone.
    Gone,
}

impl Failed {
    /// What shows it, if anything does.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Trouble(trouble) => Some(trouble),
            Self::DeadlineExceeded { trouble, .. } | Self::GivenUp { trouble, .. } => {
                trouble.as_ref()
            }
            Self::NoContainer | Self::Gone => None,
        }
    }
}

impl Judge {
    pub(crate) fn new(
        expected: Expectation,
        deadline: DateTime<Utc>,
        grace: Duration,
        trouble_since: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            expected,
            deadline,
            grace,
            wrong_since: trouble_since,
            well_since: None,
            permanent: None,
            furthest: None,
        }
    }

    /// Judges what is seen now.
    pub(crate) fn judge(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) -> Judgement {
        let Observation { phase, advance, .. } = observe(snapshot, &self.expected);
        // From before our write, pods tell nothing of it.
        let unknown = phase == Phase::Unknown;
        let what = match phase {
            Phase::Complete => return Judgement::Complete,
            Phase::Replaced { image } => return Judgement::Replaced { image },
            Phase::NoContainer => return Judgement::Failed(Failed::NoContainer),
            Phase::Gone => return Judgement::Failed(Failed::Gone),
            Phase::GivenUp(message) => {
                let trouble = self.worst(snapshot).or_else(|| self.unready(snapshot));
                return Judgement::Failed(Failed::GivenUp { message, trouble });
            }
            Phase::Unknown => {
                "nothing has been heard of the Deployment since the change".to_owned()
            }
            Phase::Waiting(what) => what,
        };
        let worst = if unknown { None } else { self.worst(snapshot) };
        let before = self.furthest.unwrap_or(advance);
        let goes_on = advance.0 > before.0 || advance.1 > before.1;
        self.furthest = Some((before.0.max(advance.0), before.1.max(advance.1)));
        let worst = worst.map(|worst| self.recall(worst));
        self.remember(worst.as_ref(), goes_on, now);
        let patience = |trouble: &Trouble| match trouble.class {
            Class::Permanent => {
                (self.permanent.as_ref().map(|(_, since)| *since), PERMANENT_PATIENCE)
            }
            Class::Passing => (self.wrong_since, self.grace),
        };
        let mut until = self.deadline;
        if let Some(trouble) = &worst {
            let (since, patience) = patience(trouble);
            let borne_until = since.unwrap_or(now) + patience;
            if borne_until <= now {
                return Judgement::Failed(Failed::Trouble(trouble.clone()));
            }
            until = until.min(borne_until);
        }
        if now >= self.deadline {
            let trouble = worst.or_else(|| if unknown { None } else { self.unready(snapshot) });
            return Judgement::Failed(Failed::DeadlineExceeded { what, trouble });
        }
        let since = self.wrong_since.unwrap_or(now);
        Judgement::Waiting { what, trouble: worst.map(|trouble| (trouble, since)), until }
    }

    /// Since when something has been wrong while nothing went on.
    pub(crate) fn trouble_since(&self) -> Option<DateTime<Utc>> {
        self.wrong_since
    }

    fn worst(&self, snapshot: &Snapshot) -> Option<Trouble> {
        troubles(snapshot, self.current(snapshot)?).into_iter().next()
    }

    fn unready(&self, snapshot: &Snapshot) -> Option<Trouble> {
        unready(snapshot, self.current(snapshot)?)
    }

    fn current<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a ReplicaSet> {
        snapshot.current(&self.expected.container, |image| self.expected.is_ours(image))
    }

    /// What was known to be there for good is so although less is said of it later: `ImagePullBackOff` follows the
    /// `ErrImagePull` that said why.
    fn recall(&self, worst: Trouble) -> Trouble {
        match &self.permanent {
            Some((known, _))
                if worst.class == Class::Passing
                    && known.about == worst.about
                    && known.cause == worst.cause =>
            {
                known.clone()
            }
            _ => worst,
        }
    }

    /// A trouble begins anew when the rollout went on, or when nothing was wrong for as long as it is borne: a container that
    /// crashes runs in between.
    fn remember(&mut self, worst: Option<&Trouble>, goes_on: bool, now: DateTime<Utc>) {
        if goes_on || self.well_since.is_some_and(|since| since + self.grace <= now) {
            self.wrong_since = None;
            self.permanent = None;
        }
        let Some(trouble) = worst else {
            self.well_since = self.well_since.or(Some(now));
            self.permanent = None;
            return;
        };
        self.well_since = None;
        self.wrong_since = self.wrong_since.or(Some(now));
        self.permanent = match (trouble.class, self.permanent.take()) {
            (Class::Permanent, Some((_, since))) => Some((trouble.clone(), since)),
            (Class::Permanent, None) => Some((trouble.clone(), now)),
            (Class::Passing, _) => None,
        };
    }
}

#[cfg(test)]
mod tests;

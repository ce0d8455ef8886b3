//! A build and its rollouts, as its page shows them.

use super::{
    parts::{Image, Moment, Progress},
    state::State,
};

/// A build.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// Its id.
    pub(crate) id: String,
    /// `portfolio #129`, or its id if nothing more is known.
    pub(crate) name: String,
    /// How it stands as a whole.
    pub(crate) state: State,
    /// Its image.
    pub(crate) image: Option<Image>,
    /// Its digest.
    pub(crate) digest: Option<String>,
    /// Its commit.
    pub(crate) commit: Option<String>,
    /// Its branch.
    pub(crate) branch: Option<String>,
    /// When it was received.
    pub(crate) received: Option<Moment>,
    /// Where CI has it.
    pub(crate) ci: Option<Link>,
    /// Its trace.
    pub(crate) trace: Option<Trace>,
    /// Who forced it.
    pub(crate) forced: Option<Forced>,
}

/// A trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// Its id.
    pub(crate) id: String,
    /// Where it is shown.
    pub(crate) link: Option<Link>,
}

/// An address elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link(String);

/// A version in quarantine was let through.
#[derive(Clone, Debug)]
pub(crate) struct Forced {
    /// Who did it.
    pub(crate) by: String,
    /// Why.
    pub(crate) reason: String,
    /// When.
    pub(crate) at: Moment,
}

/// What becomes of a build on one target.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    /// The target; none if no target takes the build.
    pub(crate) target: Option<String>,
    /// Where it stands.
    pub(crate) state: State,
    /// Why it ended so, where it did not succeed.
    pub(crate) reason: Option<String>,
    /// The image that stood there before.
    pub(crate) previous: Option<Image>,
    /// How far it is, or was.
    pub(crate) progress: Option<Progress>,
    /// When it began.
    pub(crate) started: Moment,
    /// When it fails if it is not done by then; while it is under way.
    pub(crate) deadline: Option<Moment>,
    /// How long it took, once it has ended.
    pub(crate) duration: Option<String>,
    /// What happened, oldest first.
    pub(crate) steps: Vec<Step>,
    /// Why it failed; while it is under way, what is wrong so far.
    pub(crate) diagnosis: Option<Diagnosis>,
    /// The way back.
    pub(crate) back: Option<Back>,
}

/// A change of state.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// To which.
    pub(crate) state: State,
    /// When.
    pub(crate) at: Moment,
    /// How long after the one before it: `4.1 s`.
    pub(crate) after: Option<String>,
    /// What happened.
    pub(crate) detail: Option<String>,
}

/// The way back of a rollout that failed.
#[derive(Clone, Debug)]
pub(crate) struct Back {
    /// To which image.
    pub(crate) image: Image,
    /// Why it failed too.
    pub(crate) diagnosis: Option<Diagnosis>,
}

/// Why something failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diagnosis {
    /// One word: `ImagePullBackOff`.
    pub(crate) cause: String,
    /// One sentence.
    pub(crate) summary: String,
    /// The pods that show it.
    pub(crate) pods: Vec<Pod>,
    /// What Kubernetes' events say.
    pub(crate) events: Vec<String>,
}

/// What a container of a pod shows.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// The pod.
    pub(crate) name: String,
    /// The container.
    pub(crate) container: String,
    /// Kubernetes' reason.
    pub(crate) reason: String,
    /// Kubernetes' message.
    pub(crate) message: String,
    /// How the container last ended.
    pub(crate) exit_code: Option<i32>,
    /// How often it was started again.
    pub(crate) restarts: i32,
    /// Its last lines, oldest first.
    pub(crate) log: Vec<String>,
}

impl Link {
    /// A link, if it leads to the web: `javascript:` and the like are no links.
    pub(crate) fn to(url: &str) -> Option<Self> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase())?;
        matches!(&*scheme, "http" | "https").then(|| Self(url.to_owned()))
    }

    /// Where it leads.
    pub(crate) fn url(&self) -> &str {
        &self.0
    }

    /// Its host, to say where it leads.
    pub(crate) fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default()
    }
}

impl Rollout {
    /// Names its parts on the page: `_` is no target's name.
    pub(crate) fn key(&self) -> &str {
        self.target.as_deref().unwrap_or("_")
    }

    /// Whether it is under way.
    pub(crate) fn under_way(&self) -> bool {
        !self.state.is_terminal() && self.state != State::Accepted
    }

    /// Whether an operator may force it.
    pub(crate) fn may_be_forced(&self) -> bool {
        self.state == State::Rejected && self.target.is_some()
    }

    /// Whether there is anything to say beside the time line.
    pub(crate) fn explained(&self) -> bool {
        self.diagnosis.is_some() || self.back.is_some()
    }
}

//! How states look: a word, a symbol and a tone, so that no badge speaks by its colour alone.

/// How a rollout stands, or a build as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A build of which nothing has begun.
    Pending,
    /// A build of which something has begun.
    Running,
    /// The planner takes it; it waits for its turn.
    Accepted,
    /// The planner does not take it.
    Rejected,
    /// A newer build took its place.
    Superseded,
    /// The image is being set.
    Patching,
    /// Kubernetes replaces the pods.
    Progressing,
    /// The new version is asked who it is.
    SmokeTesting,
    /// `ArgoCD` has yet to agree.
    AwaitingArgocd,
    /// It failed, and the image before it is being set again.
    RollingBack,
    /// The new version serves.
    Succeeded,
    /// It does not.
    Failed,
    /// It failed, and the version before it serves again.
    RolledBack,
    /// Somebody else undid it.
    Reverted,
}

/// What a thing means to who looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// It failed.
    Bad,
    /// It asks for attention.
    Warn,
    /// It is under way.
    Run,
    /// Neither.
    Calm,
}

impl State {
    /// The states of a rollout, in the order in which the filter lists them.
    pub(crate) const OF_ROLLOUTS: [Self; 12] = [
        Self::Failed,
        Self::RolledBack,
        Self::Reverted,
        Self::Succeeded,
        Self::Accepted,
        Self::Patching,
        Self::Progressing,
        Self::SmokeTesting,
        Self::AwaitingArgocd,
        Self::RollingBack,
        Self::Rejected,
        Self::Superseded,
    ];

    /// The word of the API, which is a filter's value too.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Patching => "patching",
            Self::Progressing => "progressing",
            Self::SmokeTesting => "smoke_testing",
            Self::AwaitingArgocd => "awaiting_argocd",
            Self::RollingBack => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Reverted => "reverted",
        }
    }

    /// The word for people.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Accepted => "Accepted",
            Self::Rejected => "Rejected",
            Self::Superseded => "Superseded",
            Self::Patching => "Patching",
            Self::Progressing => "Progressing",
            Self::SmokeTesting => "Smoke testing",
            Self::AwaitingArgocd => "Awaiting ArgoCD",
            Self::RollingBack => "Rolling back",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::RolledBack => "Rolled back",
            Self::Reverted => "Reverted",
        }
    }

    /// The symbol: an id of the sprite in `base.html`, without its `i-`.
    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Pending | Self::Accepted => "clock",
            Self::Rejected => "ban",
            Self::Superseded => "skip",
            Self::Running
            | Self::Patching
            | Self::Progressing
            | Self::SmokeTesting
            | Self::AwaitingArgocd => "run",
            Self::RollingBack | Self::RolledBack => "back",
            Self::Succeeded => "check",
            Self::Failed => "cross",
            Self::Reverted => "swap",
        }
    }

    /// What it means.
    pub(crate) fn tone(self) -> Tone {
        match self {
            Self::Succeeded => Tone::Good,
            Self::Failed | Self::RolledBack | Self::RollingBack => Tone::Bad,
            Self::Rejected | Self::Reverted => Tone::Warn,
            Self::Running
            | Self::Patching
            | Self::Progressing
            | Self::SmokeTesting
            | Self::AwaitingArgocd => Tone::Run,
            Self::Pending | Self::Accepted | Self::Superseded => Tone::Calm,
        }
    }

    /// Whether its symbol turns: something is being done right now.
    pub(crate) fn turns(self) -> bool {
        self.icon() == "run"
    }

    /// Whether nothing comes after it.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Rejected
                | Self::Superseded
                | Self::Succeeded
                | Self::Failed
                | Self::RolledBack
                | Self::Reverted
        )
    }
}

impl Tone {
    /// The class in `board.css`.
    pub(crate) fn css(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Run => "run",
            Self::Calm => "calm",
        }
    }
}

//! What many parts of the pages have.

/// What every page has.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Who looks; none before the sign-in.
    pub(crate) visitor: Option<Visitor>,
    /// The server's time, RFC 3339: what "3 min ago" counts from.
    pub(crate) now: String,
    /// Where the page's live stream is; none if it has none.
    pub(crate) live: Option<String>,
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// The token's name.
    pub(crate) name: String,
    /// Whether the role is `operator`: only then are there actions.
    pub(crate) operator: bool,
}

/// A time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// RFC 3339 with milliseconds, in UTC. Rows are sorted by it as text.
    pub(crate) iso: String,
    /// For people, absolute: `24 Nov, 18:12:31 UTC`.
    pub(crate) text: String,
}

/// An image reference, taken apart for the eye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// All before the tag.
    pub(crate) repository: String,
    /// The tag, or the begin of the digest, or `latest`.
    pub(crate) tag: String,
    /// All of it, as a form sends it.
    pub(crate) reference: String,
}

/// A build to point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildRef {
    /// Its id.
    pub(crate) id: String,
    /// `portfolio #129`.
    pub(crate) name: String,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// How many pods there shall be.
    pub(crate) desired: i32,
    /// How many have the new version.
    pub(crate) updated: i32,
    /// How many are ready, of either version.
    pub(crate) ready: i32,
}

impl Frame {
    /// Whether the visitor may act.
    pub(crate) fn may_act(&self) -> bool {
        self.visitor.as_ref().is_some_and(|visitor| visitor.operator)
    }
}

impl Visitor {
    /// The role's word.
    pub(crate) fn role(&self) -> &'static str {
        if self.operator { "operator" } else { "ci" }
    }
}

impl Image {
    /// Takes a reference apart, whatever it is.
    pub(crate) fn of(reference: &str) -> Self {
        let (name, digest) = reference
            .split_once('@')
            .map_or((reference, None), |(name, digest)| (name, Some(digest)));
        let slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[slash..].split_once(':') {
            Some((last, tag)) => (&name[..slash + last.len()], tag.to_owned()),
            None => (
                name,
                digest.map_or_else(
                    || "latest".to_owned(),
                    |digest| digest.chars().take(19).collect(),
                ),
            ),
        };
        Self { repository: repository.to_owned(), tag, reference: reference.to_owned() }
    }
}

impl Progress {
    /// What the bar shows: pods that are neither old nor unready, as far as counts can tell.
    pub(crate) fn done(&self) -> i32 {
        self.updated.min(self.ready).clamp(0, self.whole())
    }

    /// What the bar shows if all is done. A bar of nothing is not allowed.
    pub(crate) fn whole(&self) -> i32 {
        self.desired.max(1)
    }
}

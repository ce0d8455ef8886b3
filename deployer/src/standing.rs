//! What is known of a target from the rollouts before: the version to go back to, the versions that failed, and what waits.
//! Pure; it is told every change of every rollout, in order.

use std::collections::{BTreeMap, HashMap, VecDeque};

use events::{BuildId, BuildTag, ImageReference, RolloutChanged, RolloutState, TargetName};

/// How many versions are remembered that failed. Older ones are refused by their age.
const MAX_QUARANTINED: usize = 100;

/// All targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standings(HashMap<TargetName, Standing>);

/// One target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The image that last succeeded.
    pub(crate) last_good: Option<String>,
    /// Versions that failed and have not succeeded since, and the builds that they failed with; the oldest first.
    quarantined: VecDeque<(String, BuildId)>,
    /// The rollouts that have no verdict yet.
    open: BTreeMap<BuildId, String>,
}

impl Standings {
    /// A rollout changed.
    pub(crate) fn apply(&mut self, change: &RolloutChanged) {
        if let Some(target) = &change.target {
            self.0.entry(target.clone()).or_default().apply(change);
        }
    }

    /// What is known of one target.
    pub(crate) fn of(&self, target: &TargetName) -> Standing {
        self.0.get(target).cloned().unwrap_or_default()
    }
}

impl Standing {
    fn apply(&mut self, change: &RolloutChanged) {
        if change.state.is_terminal() {
            self.open.remove(&change.build_id);
        } else {
            self.open.insert(change.build_id, change.image.clone());
        }
        let version = version_of(&change.image);
        if change.state == RolloutState::Succeeded {
            self.quarantined.retain(|(failed, _)| *failed != version);
            self.last_good = Some(change.image.clone());
        }
        if change.quarantines() {
            self.quarantined.retain(|(failed, _)| *failed != version);
            self.quarantined.push_back((version, change.build_id));
            if self.quarantined.len() > MAX_QUARANTINED {
                self.quarantined.pop_front();
            }
        }
    }

    /// What speaks against deploying an image while another one runs. Nothing does if a person wants it all the same.
    ///
    /// `except` is the build that is asked about: it is not in its own way.
    pub(crate) fn objection(&self, image: &str, running: Option<&str>, except: BuildId) -> Option<String> {
        let version = version_of(image);
        if let Some((_, build)) = self.quarantined.iter().find(|(failed, _)| *failed == version) {
            return Some(format!(
                "the version failed before, with build {build}: it is in quarantine until a person forces it"
            ));
        }
        let number = number_of(image)?;
        if let Some(running) = running
            && number_of(running).is_some_and(|newer| newer > number)
            && same_repository(running, image)
        {
            return Some(format!("the build is older than what runs: {running}"));
        }
        let waiting = self.open.iter().filter(|(build, _)| **build != except);
        let newer = waiting.map(|(_, image)| image).find(|other| number_of(other).is_some_and(|newer| newer > number));
        newer.map(|newer| format!("the build is older than one that is about to run: {newer}"))
    }

    /// The image to go back to from `failed`: the one that last succeeded, or else the one that stood there before.
    pub(crate) fn way_back(&self, failed: &str, previous: Option<&str>) -> Option<String> {
        let candidates = self.last_good.as_deref().into_iter().chain(previous);
        let bad = |image: &str| self.quarantined.iter().any(|(failed, _)| *failed == version_of(image));
        let failed = version_of(failed);
        candidates.into_iter().find(|image| version_of(image) != failed && !bad(image)).map(str::to_owned)
    }
}

/// An image in the one form in which it is compared.
fn version_of(image: &str) -> String {
    image.parse::<ImageReference>().map_or_else(|_| image.to_owned(), |image| image.to_string())
}

fn number_of(image: &str) -> Option<u64> {
    let image: ImageReference = image.parse().ok()?;
    Some(image.tag()?.parse::<BuildTag>().ok()?.number)
}

fn same_repository(a: &str, b: &str) -> bool {
    match (a.parse::<ImageReference>(), b.parse::<ImageReference>()) {
        (Ok(a), Ok(b)) => a.same_repository(&b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    struct Told(Standings, Vec<BuildId>);

    impl Told {
        fn new() -> Self {
            Self(Standings::default(), (0..10).map(|_| BuildId::new()).collect())
        }

        /// Build number `build` of an image is in this state now.
        fn tell(&mut self, build: usize, image: &str, state: RolloutState, was_set: bool) {
            let mut change = RolloutChanged::first(
                self.1[build],
                Some("a".parse().unwrap()),
                state,
                image.to_owned(),
                DateTime::UNIX_EPOCH,
            );
            change.generation = was_set.then_some(1);
            self.0.apply(&change);
        }

        fn standing(&self) -> Standing {
            self.0.of(&"a".parse().unwrap())
        }

        fn objection(&self, build: usize, image: &str, running: &str) -> String {
            self.standing().objection(image, Some(running), self.1[build]).unwrap_or_default()
        }
    }

    #[test]
    fn a_version_that_failed_is_refused_until_it_succeeds() {
        let mut told = Told::new();
        told.tell(0, "x/y:v2-abcd", RolloutState::RolledBack, true);
        let objection = told.objection(1, "docker.io/x/y:v2-abcd", "x/y:v1-abcd");
        assert!(objection.starts_with(&format!("the version failed before, with build {}", told.1[0])), "{objection}");
        assert_eq!(told.objection(1, "x/y:v2-abce", "x/y:v1-abcd"), "");
        assert_eq!(told.0.of(&"b".parse().unwrap()).objection("x/y:v2-abcd", None, told.1[1]), None);
        told.tell(1, "x/y:v2-abcd", RolloutState::Succeeded, true);
        assert_eq!(told.objection(2, "x/y:v2-abcd", "x/y:v2-abcd"), "");
        // It was never set: nothing is known of it.
        told.tell(2, "x/y:v3-abcd", RolloutState::Failed, false);
        told.tell(3, "x/y:v4-abcd", RolloutState::Reverted, true);
        assert_eq!(told.objection(4, "x/y:v3-abcd", "x/y:v2-abcd"), "");
        assert_eq!(told.objection(4, "x/y:v4-abcd", "x/y:v2-abcd"), "");
    }

    #[test]
    fn an_older_build_is_refused() {
        let mut told = Told::new();
        assert_eq!(told.objection(0, "x/y:v2-abcd", "x/y:v10-abcd"), "the build is older than what runs: x/y:v10-abcd");
        for (image, running) in [
            ("x/y:v2-abcd", "x/y:v2-ffff"),
            ("x/y:v2-abcd", "x/y:latest"),
            ("x/y:v2-abcd", "other/y:v10-abcd"),
            ("x/y:v2-abcd", "?"),
        ] {
            assert_eq!(told.objection(0, image, running), "", "{image} {running}");
        }
        told.tell(1, "x/y:v5-abcd", RolloutState::Accepted, false);
        let expected = "the build is older than one that is about to run: x/y:v5-abcd";
        assert_eq!(told.objection(0, "x/y:v4-abcd", "x/y:v1-abcd"), expected);
        assert_eq!(told.objection(1, "x/y:v5-abcd", "x/y:v1-abcd"), "", "it is not in its own way");
        told.tell(1, "x/y:v5-abcd", RolloutState::Superseded, false);
        assert_eq!(told.objection(0, "x/y:v4-abcd", "x/y:v1-abcd"), "");
    }

    #[test]
    fn the_way_back_leads_to_what_is_not_known_to_be_bad() {
        let mut told = Told::new();
        let back = |told: &Told, failed, previous| told.standing().way_back(failed, previous);
        assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v1-abcd"));
        assert_eq!(back(&told, "x/y:v3-abcd", Some("docker.io/x/y:v3-abcd")), None);
        assert_eq!(back(&told, "x/y:v3-abcd", None), None);
        told.tell(0, "x/y:v2-abcd", RolloutState::Succeeded, true);
        assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v2-abcd"));
        assert_eq!(back(&told, "x/y:v2-abcd", Some("x/y:v1-abcd")).as_deref(), Some("x/y:v1-abcd"));
        told.tell(1, "x/y:v2-abcd", RolloutState::Failed, true);
        told.tell(2, "x/y:v1-abcd", RolloutState::Failed, true);
        assert_eq!(back(&told, "x/y:v3-abcd", Some("x/y:v1-abcd")), None);
    }
}

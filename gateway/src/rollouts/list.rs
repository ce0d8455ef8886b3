//! Builds in a list: the newest first, filtered, a page at a time.

use std::sync::Arc;

use events::{BuildId, TargetName};

use super::model::{BuildState, Model, Overall};

/// Which builds.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Those that are for this target.
    pub(crate) target: Option<TargetName>,
    /// Those that stand so.
    pub(crate) state: Option<Overall>,
    /// Those older than this one.
    pub(crate) before: Option<BuildId>,
    /// How many at most.
    pub(crate) limit: usize,
}

/// Some builds.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The newest first.
    pub(crate) builds: Vec<Arc<BuildState>>,
    /// The last of them, if there are more that fit.
    pub(crate) next: Option<BuildId>,
}

impl Model {
    /// Builds that fit, of those that are kept.
    pub(crate) fn list(&self, filter: &Filter) -> Page {
        let fits = |state: &Arc<BuildState>| {
            let target = filter.target.as_ref();
            target.is_none_or(|target| state.rollouts.contains_key(&Some(target.clone())))
                && filter.state.is_none_or(|wanted| state.overall() == wanted)
        };
        let mut fitting = self.newest_first(filter.before).filter(|(_, state)| fits(state));
        let mut page = Page { builds: Vec::new(), next: None };
        let mut last = None;
        for (id, state) in fitting.by_ref().take(filter.limit) {
            page.builds.push(state);
            last = Some(id);
        }
        page.next = last.filter(|_| fitting.next().is_some());
        page
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use events::{RolloutChanged, RolloutState};

    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let mut model = Model::default();
        let ids: Vec<_> =
            (0..5_u128).map(|number| BuildId(uuid::Uuid::from_u128(number))).collect();
        for (index, id) in ids.iter().enumerate() {
            let (target, state) = if index == 2 {
                ("b", RolloutState::Failed)
            } else {
                ("a", RolloutState::Succeeded)
            };
            let change = RolloutChanged::first(
                *id,
                Some(target.parse().unwrap()),
                state,
                "x/y:v1-abcd".to_owned(),
                DateTime::UNIX_EPOCH,
            );
            model.change(RolloutChanged { planned: Some(1), ..change });
        }
        let list = |target: Option<&str>, state, before, limit| {
            let filter =
                Filter { target: target.map(|name| name.parse().unwrap()), state, before, limit };
            let page = model.list(&filter);
            (page.builds.iter().map(|build| build.id().unwrap()).collect::<Vec<_>>(), page.next)
        };
        assert_eq!(list(None, None, None, 2), (vec![ids[4], ids[3]], Some(ids[3])));
        assert_eq!(list(None, None, Some(ids[3]), 2), (vec![ids[2], ids[1]], Some(ids[1])));
        assert_eq!(list(None, None, Some(ids[1]), 2), (vec![ids[0]], None));
        assert_eq!(list(Some("a"), None, None, 3), (vec![ids[4], ids[3], ids[1]], Some(ids[1])));
        assert_eq!(list(None, Some(Overall::Failed), None, 9), (vec![ids[2]], None));
        assert_eq!(list(Some("a"), Some(Overall::Failed), None, 9), (vec![], None));
    }
}

//! What the watches of one namespace have heard, and which Deployment each piece belongs to. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use k8s_openapi::api::apps::v1::Deployment;

use crate::observed::{Observed, Pod, ReplicaSet, Snapshot, Warning};

/// How many warnings are kept of a namespace; the oldest go first.
const MAX_WARNINGS: usize = 2_000;

/// Something that a watch hears of.
pub(crate) trait Kind: Sized {
    /// What it is called in messages.
    const NAME: &'static str;
    /// Its place among the objects.
    fn kept(objects: &mut Objects) -> &mut Kept<Self>;
    /// The uid of what it belongs to: a pod to its ReplicaSet, a warning to what it is about.
    fn owner(&self) -> &str;
    /// What tells it from all others of its kind.
    fn key(&self) -> &str;
    /// The name of the Deployment that it belongs to, if that is known.
    fn deployment<'a>(&'a self, objects: &'a Objects) -> Option<&'a str>;
}

/// All objects of one kind, by what they belong to.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    by_owner: BTreeMap<(String, String), Arc<T>>,
    owners: HashMap<String, String>,
    /// While all are told anew: those that have been.
    listing: Option<BTreeSet<String>>,
    /// Whether all have been told.
    listed: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { by_owner: BTreeMap::new(), owners: HashMap::new(), listing: None, listed: false }
    }
}

impl<T> Kept<T> {
    fn of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        let from = (owner.to_owned(), String::new());
        self.by_owner
            .range(from..)
            .take_while(move |((of, _), _)| of == owner)
            .map(|(_, object)| object)
    }

    fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.by_owner.get(&(self.owners.get(key)?.clone(), key.to_owned()))
    }

    fn remove(&mut self, key: &str) -> Option<Arc<T>> {
        let owner = self.owners.remove(key)?;
        self.by_owner.remove(&(owner, key.to_owned()))
    }
}

/// Everything of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    deployments: Kept<Deployment>,
    replica_sets: Kept<ReplicaSet>,
    pods: Kept<Pod>,
    warnings: Kept<Warning>,
    /// Whether the watch of Deployments is broken.
    stale: bool,
    /// The warnings' keys in the order in which they came.
    warned: VecDeque<String>,
}

impl Kind for Deployment {
    const NAME: &'static str = "Deployments";

    fn kept(objects: &mut Objects) -> &mut Kept<Self> {
        &mut objects.deployments
    }

    fn owner(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn key(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn deployment<'a>(&'a self, _: &'a Objects) -> Option<&'a str> {
        self.metadata.name.as_deref()
    }
}

impl Kind for ReplicaSet {
    const NAME: &'static str = "ReplicaSets";

    fn kept(objects: &mut Objects) -> &mut Kept<Self> {
        &mut objects.replica_sets
    }

    fn owner(&self) -> &str {
        &self.owner
    }

    fn key(&self) -> &str {
        &self.uid
    }

    fn deployment<'a>(&'a self, objects: &'a Objects) -> Option<&'a str> {
        objects.deployments.of(&self.owner).next()?.metadata.name.as_deref()
    }
}

impl Kind for Pod {
    const NAME: &'static str = "Pods";

    fn kept(objects: &mut Objects) -> &mut Kept<Self> {
        &mut objects.pods
    }

    fn owner(&self) -> &str {
        &self.owner
    }

    fn key(&self) -> &str {
        &self.uid
    }

    fn deployment<'a>(&'a self, objects: &'a Objects) -> Option<&'a str> {
        objects.replica_sets.get(&self.owner)?.deployment(objects)
    }
}

impl Kind for Warning {
    const NAME: &'static str = "Events";

    fn kept(objects: &mut Objects) -> &mut Kept<Self> {
        &mut objects.warnings
    }

    fn owner(&self) -> &str {
        &self.about
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn deployment<'a>(&'a self, objects: &'a Objects) -> Option<&'a str> {
        let about = self.about.as_str();
        if let Some(pod) = objects.pods.get(about) {
            return pod.deployment(objects);
        }
        if let Some(set) = objects.replica_sets.get(about) {
            return set.deployment(objects);
        }
        objects.deployments.of(about).next()?.metadata.name.as_deref()
    }
}

impl Objects {
    /// All objects of a kind are about to be told anew.
    pub(crate) fn begin<T: Kind>(&mut self) {
        T::kept(self).listing = Some(BTreeSet::new());
    }

    /// A watch is broken, or has been heard of again.
    pub(crate) fn heard<T: Kind>(&mut self, is_broken: bool) {
        if T::NAME == Deployment::NAME {
            self.stale = is_broken;
        }
    }

    /// An object is there, or has changed. The name of the Deployment whose rollout that may concern.
    pub(crate) fn put<T: Kind>(&mut self, object: T) -> Option<String> {
        let (owner, key) = (object.owner().to_owned(), object.key().to_owned());
        self.heard::<T>(false);
        let object = Arc::new(object);
        let kept = T::kept(self);
        if let Some(listing) = &mut kept.listing {
            listing.insert(key.clone());
        }
        // A Deployment of the same name may be another one.
        let known = kept.remove(&key).is_some();
        kept.owners.insert(key.clone(), owner.clone());
        kept.by_owner.insert((owner, key.clone()), object.clone());
        if T::NAME == Warning::NAME && !known {
            self.warned.push_back(key);
            while self.warned.len() > MAX_WARNINGS
                && let Some(oldest) = self.warned.pop_front()
            {
                self.warnings.remove(&oldest);
            }
        }
        object.deployment(self).map(str::to_owned)
    }

    /// An object is gone. The name of the Deployment whose rollout that may concern.
    pub(crate) fn remove<T: Kind>(&mut self, key: &str) -> Option<String> {
        if T::NAME == Warning::NAME {
            self.warned.retain(|warned| warned != key);
        }
        let removed = T::kept(self).remove(key)?;
        removed.deployment(self).map(str::to_owned)
    }

    /// All objects of a kind have been told: those that were not are gone.
    pub(crate) fn end<T: Kind>(&mut self) {
        let kept = T::kept(self);
        let listing = kept.listing.take().unwrap_or_default();
        let gone: Vec<_> =
            kept.owners.keys().filter(|key| !listing.contains(*key)).cloned().collect();
        for key in gone {
            self.remove::<T>(&key);
        }
        T::kept(self).listed = true;
        self.heard::<T>(false);
    }

    /// All that is known of one Deployment.
    pub(crate) fn snapshot(&self, name: &str) -> Snapshot {
        let pods_known = self.replica_sets.listed && self.pods.listed;
        let Some(deployment) = self.deployments.get(name) else {
            let deployment =
                if self.deployments.listed { Observed::Missing } else { Observed::Unknown };
            return Snapshot { deployment, pods_known, stale: self.stale, ..Snapshot::default() };
        };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let replica_sets: Vec<_> = self.replica_sets.of(uid).cloned().collect();
        let pods: Vec<_> =
            replica_sets.iter().flat_map(|set| self.pods.of(&set.uid)).cloned().collect();
        let about = std::iter::once(uid)
            .chain(replica_sets.iter().map(|set| set.uid.as_str()))
            .chain(pods.iter().map(|pod| pod.uid.as_str()));
        let mut warnings: Vec<_> = about.flat_map(|uid| self.warnings.of(uid)).cloned().collect();
        warnings.sort_by_key(|warning| warning.at);
        let (deployment, stale) = (Observed::Found(deployment.clone()), self.stale);
        Snapshot { deployment, replica_sets, pods, warnings, pods_known, stale }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(name: &str, uid: &str) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": name, "uid": uid}})).unwrap()
    }

    fn set(uid: &str, owner: &str) -> ReplicaSet {
        ReplicaSet { uid: uid.to_owned(), owner: owner.to_owned(), ..ReplicaSet::default() }
    }

    fn pod(uid: &str, owner: &str) -> Pod {
        Pod { uid: uid.to_owned(), owner: owner.to_owned(), ..Pod::default() }
    }

    fn warning(key: &str, about: &str) -> Warning {
        Warning {
            key: key.to_owned(),
            about: about.to_owned(),
            reason: String::new(),
            message: String::new(),
            at: None,
        }
    }

    #[test]
    fn everything_finds_its_deployment() {
        let mut objects = Objects::default();
        assert_eq!(objects.put(deployment("app", "d1")).as_deref(), Some("app"));
        assert_eq!(objects.put(pod("p1", "s1")), None, "its ReplicaSet is not known yet");
        assert_eq!(objects.put(set("s1", "d1")).as_deref(), Some("app"));
        assert_eq!(objects.put(pod("p1", "s1")).as_deref(), Some("app"));
        assert_eq!(objects.put(warning("w1", "p1")).as_deref(), Some("app"));
        assert_eq!(objects.put(warning("w2", "elsewhere")), None);
        let snapshot = objects.snapshot("app");
        assert_eq!(
            (snapshot.replica_sets.len(), snapshot.pods.len(), snapshot.warnings.len()),
            (1, 1, 1)
        );
        assert_eq!(objects.remove::<Pod>("p1").as_deref(), Some("app"));
        assert!(objects.snapshot("app").pods.is_empty());
    }

    #[test]
    fn what_is_not_told_anew_is_gone() {
        let mut objects = Objects::default();
        objects.put(deployment("app", "d1"));
        assert!(matches!(objects.snapshot("other").deployment, Observed::Unknown));
        objects.end::<Deployment>();
        assert!(matches!(objects.snapshot("other").deployment, Observed::Missing));
        objects.begin::<Deployment>();
        objects.put(deployment("other", "d2"));
        objects.end::<Deployment>();
        assert!(matches!(objects.snapshot("app").deployment, Observed::Missing));
        assert!(matches!(objects.snapshot("other").deployment, Observed::Found(_)));
    }

    #[test]
    fn a_deployment_that_was_made_anew_has_none_of_the_old_ones_pods() {
        let mut objects = Objects::default();
        objects.put(deployment("app", "d1"));
        objects.put(set("s1", "d1"));
        objects.put(pod("p1", "s1"));
        objects.put(deployment("app", "d2"));
        assert!(objects.snapshot("app").pods.is_empty());
        assert_eq!(objects.put(pod("p1", "s1")), None);
    }

    #[test]
    fn warnings_are_bounded() {
        let mut objects = Objects::default();
        objects.put(deployment("app", "d1"));
        for n in 0..MAX_WARNINGS + 5 {
            objects.put(warning(&format!("w{n}"), "d1"));
        }
        assert_eq!(objects.snapshot("app").warnings.len(), MAX_WARNINGS);
        assert!(objects.warnings.get("w4").is_none() && objects.warnings.get("w5").is_some());
    }
}

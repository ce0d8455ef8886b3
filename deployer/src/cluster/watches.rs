//! The watches: one for each kind of object and each namespace that has targets, however many rollouts there are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{TryStreamExt, future::join_all};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, ReplicaSet as ApiReplicaSet},
        core::v1::{Event, Pod as ApiPod},
    },
};
use kube::{Api, Client, Resource, api::DynamicObject, runtime::watcher};
use serde::de::DeserializeOwned;
use service::{readiness::Latch, shutdown::Shutdown};
use tokio::sync::watch;

use super::{
    applications,
    objects::{Kind, Objects},
};
use crate::{
    argocd::Application,
    observed::{Pod, ReplicaSet, Snapshot, Warning},
    targets::Target,
};

/// The pause before a watch that broke is begun again.
const PAUSE: Duration = Duration::from_millis(500);

/// How many objects are listed at once. Most of what is listed is not kept, and there may be very many.
const PAGE: u32 = 20;

/// The name of something, and its namespace.
type Place = (String, String);

/// What all watches have heard. Clones share it.
#[derive(Clone)]
pub(super) struct Watches(Arc<Shared>);

struct Shared {
    namespaces: HashMap<String, Mutex<Objects>>,
    /// Tell that something of a target has changed.
    targets: HashMap<Place, watch::Sender<()>>,
    applications: HashMap<Place, watch::Sender<Option<Application>>>,
}

impl Watches {
    pub(super) fn new(targets: &[Arc<Target>]) -> Self {
        let application = |target: &Arc<Target>| {
            let argocd = target.argocd.as_ref()?;
            Some(((argocd.namespace.clone(), argocd.application.clone()), watch::Sender::default()))
        };
        Self(Arc::new(Shared {
            namespaces: targets
                .iter()
                .map(|target| (target.namespace.clone(), Mutex::default()))
                .collect(),
            targets: targets
                .iter()
                .map(|target| (place(target), watch::Sender::default()))
                .collect(),
            applications: targets.iter().filter_map(application).collect(),
        }))
    }

    /// Tells when something of a target has changed.
    pub(super) fn changes(&self, target: &Target) -> watch::Receiver<()> {
        // All targets are watched; one that is not has nothing to tell.
        self.0
            .targets
            .get(&place(target))
            .map_or_else(|| watch::Sender::default().subscribe(), watch::Sender::subscribe)
    }

    /// What is known of a target.
    pub(super) fn snapshot(&self, target: &Target) -> Snapshot {
        let objects = self.0.namespaces.get(&target.namespace);
        objects
            .map_or_else(Snapshot::default, |objects| locked(objects).snapshot(&target.deployment))
    }

    /// What is known of an Application, now and from now on.
    pub(super) fn application(
        &self,
        namespace: &str,
        name: &str,
    ) -> watch::Receiver<Option<Application>> {
        let known = self.0.applications.get(&(namespace.to_owned(), name.to_owned()));
        known.map_or_else(|| watch::Sender::default().subscribe(), watch::Sender::subscribe)
    }

    /// Watches until the shutdown begins.
    pub(super) async fn run(&self, client: &Client, latch: Latch, shutdown: &Shutdown) {
        let argo: BTreeSet<_> =
            self.0.applications.keys().map(|(namespace, _)| namespace).collect();
        let state = State::new(latch, 4 * self.0.namespaces.len() + argo.len());
        let in_namespaces = join_all(
            self.0
                .namespaces
                .keys()
                .map(|namespace| self.watch_namespace(client, namespace, &state)),
        );
        let of_argo = join_all(
            argo.into_iter().map(|namespace| self.watch_applications(client, namespace, &state)),
        );
        tokio::select! {
            _ = futures::future::join(in_namespaces, of_argo) => {}
            () = shutdown.begun() => {}
        }
    }

    async fn watch_namespace(&self, client: &Client, namespace: &str, state: &State) {
        let all = watcher::Config::default().page_size(PAGE);
        let warnings = all.clone().fields("type=Warning");
        let is_target = |deployment: &Deployment| {
            let name = deployment.metadata.name.clone().unwrap_or_default();
            self.0.targets.contains_key(&(namespace.to_owned(), name))
        };
        tokio::join!(
            self.watch_kind(client, namespace, all.clone(), state, |deployment: Deployment| {
                is_target(&deployment).then(|| slim(deployment))
            }),
            self.watch_kind(client, namespace, all.clone(), state, |set: ApiReplicaSet| Some(
                ReplicaSet::of(&set)
            )),
            self.watch_kind(client, namespace, all, state, |pod: ApiPod| Some(Pod::of(&pod))),
            self.watch_kind(client, namespace, warnings, state, |event: Event| Some(Warning::of(
                &event
            ))),
        );
    }

    /// Watches one kind of object, of which `keep` is kept.
    async fn watch_kind<A, T: Kind>(
        &self,
        client: &Client,
        namespace: &str,
        config: watcher::Config,
        state: &State,
        keep: impl Fn(A) -> Option<T>,
    ) where
        A: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let Some(objects) = self.0.namespaces.get(namespace) else { return };
        let mut events =
            std::pin::pin!(watcher(Api::<A>::namespaced(client.clone(), namespace), config));
        let what = format!("{} in {namespace}", T::NAME);
        loop {
            let concerned = match events.try_next().await {
                Ok(Some(event)) => {
                    let mut objects = locked(objects);
                    match event {
                        watcher::Event::Init => {
                            objects.begin::<T>();
                            None
                        }
                        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                            keep(object).and_then(|object| objects.put(object))
                        }
                        watcher::Event::Delete(object) => {
                            keep(object).and_then(|object| objects.remove::<T>(object.key()))
                        }
                        watcher::Event::InitDone => {
                            objects.end::<T>();
                            drop(objects);
                            state.well(&what);
                            self.tell_all(namespace);
                            None
                        }
                    }
                }
                // It begins anew by itself, from where it was if it can.
                Err(error) => {
                    state.unwell(&what, &error);
                    locked(objects).heard::<T>(true);
                    self.tell_all(namespace);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Ok(None) => return,
            };
            state.well(&what);
            if let Some(name) = concerned
                && let Some(target) = self.0.targets.get(&(namespace.to_owned(), name))
            {
                target.send_replace(());
            }
        }
    }

    fn tell_all(&self, namespace: &str) {
        let of_namespace = self.0.targets.iter().filter(|((of, _), _)| of == namespace);
        of_namespace.for_each(|(_, target)| {
            target.send_replace(());
        });
    }

    async fn watch_applications(&self, client: &Client, namespace: &str, state: &State) {
        let api = applications(client, namespace);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default().page_size(PAGE)));
        let what = format!("ArgoCD Applications in {namespace}");
        let tell = |name: &str, application: Option<Application>| {
            if let Some(sender) = self.0.applications.get(&(namespace.to_owned(), name.to_owned()))
            {
                sender.send_replace(application);
            }
        };
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => {
                    tell(name_of(&object), Some(Application::of(&object.data)));
                }
                Ok(Some(watcher::Event::Delete(object))) => tell(name_of(&object), None),
                Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Err(error) => {
                    state.unwell(&what, &error);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Ok(None) => return,
            }
            state.well(&what);
        }
    }
}

fn name_of(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn place(target: &Target) -> Place {
    (target.namespace.clone(), target.deployment.clone())
}

fn locked(objects: &Mutex<Objects>) -> std::sync::MutexGuard<'_, Objects> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without what only the API server needs, which is the larger part.
fn slim(mut deployment: Deployment) -> Deployment {
    deployment.metadata.managed_fields = None;
    if let Some(annotations) = &mut deployment.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    deployment
}

/// Which watches are well, all of them together in one latch.
struct State {
    latch: Latch,
    watches: usize,
    known: Mutex<BTreeMap<String, Option<String>>>,
}

impl State {
    fn new(latch: Latch, watches: usize) -> Self {
        Self { latch, watches, known: Mutex::default() }
    }

    fn well(&self, what: &str) {
        self.change(what, None);
    }

    fn unwell(&self, what: &str, error: &watcher::Error) {
        self.change(what, Some(format!("{what} cannot be watched: {error}")));
    }

    fn change(&self, what: &str, now: Option<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(what) == Some(&now) {
            return;
        }
        known.insert(what.to_owned(), now);
        match known.values().flatten().next() {
            Some(error) => self.latch.unset(error.clone()),
            None if known.len() >= self.watches => self.latch.set("watched"),
            None => {}
        }
    }
}

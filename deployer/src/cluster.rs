//! Kubernetes: the only place that speaks to it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use json_patch::{Patch as JsonPatch, PatchOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use runtime::{config::ConfigError, readiness::Latch, shutdown::Shutdown};
use serde_json::Value;
use tokio::sync::watch;

use crate::config::Target;

/// Who we are among those who write to a Deployment.
pub(crate) const FIELD_MANAGER: &str = "deployer";

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a watch that broke is begun again.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// A Deployment, as a watch has it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Observed {
    /// Nothing has been heard yet.
    #[default]
    Unknown,
    /// There is none of that name.
    Missing,
    /// This one.
    Found(Arc<Deployment>),
}

/// Why an image could not be set.
#[derive(Debug)]
pub(crate) enum PatchError {
    /// The Deployment is no longer the one that was read.
    Conflict,
    /// The API server will not have it.
    Refused { reason: String, message: String },
    /// Nobody knows whether it was set.
    Unavailable(anyhow::Error),
}

type Place = (String, String);

/// The cluster, and one watch for each namespace that has targets. Clones share them.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    watched: Arc<HashMap<Place, watch::Sender<Observed>>>,
}

impl Cluster {
    /// Prepares to connect, as kubectl would.
    ///
    /// # Errors
    /// There is no configuration, or it is wrong.
    pub(crate) async fn open(targets: &[Target]) -> Result<Self, ConfigError> {
        let config = Config::infer().await.map_err(|error| ConfigError::new("KUBECONFIG", error))?;
        let client = Client::try_from(config).map_err(|error| ConfigError::new("KUBECONFIG", error))?;
        let watched = targets.iter().map(|target| (place(target), watch::Sender::default())).collect();
        Ok(Self { client, watched: Arc::new(watched) })
    }

    /// Watches all Deployments that are targets, until the shutdown begins.
    pub(crate) async fn watch(&self, latch: Latch, shutdown: &Shutdown) {
        let namespaces: BTreeSet<_> = self.watched.keys().map(|(namespace, _)| namespace.clone()).collect();
        let watches = namespaces.into_iter().map(|namespace| self.watch_namespace(namespace, &latch));
        tokio::select! {
            _ = futures::future::join_all(watches) => {}
            () = shutdown.begun() => {}
        }
    }

    async fn watch_namespace(&self, namespace: String, latch: &Latch) {
        let mut events = std::pin::pin!(watcher(self.deployments(&namespace), watcher::Config::default()));
        let mut listed = BTreeSet::new();
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(deployment))) => {
                    listed.insert(deployment.name_any());
                    self.tell(&namespace, &deployment.name_any(), Observed::Found(Arc::new(slim(deployment))));
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    let missing = self.watched.keys().filter(|(of, name)| *of == namespace && !listed.contains(name));
                    missing.for_each(|(_, name)| self.tell(&namespace, name, Observed::Missing));
                    latch.set("watched");
                }
                Ok(Some(watcher::Event::Apply(deployment))) => {
                    self.tell(&namespace, &deployment.name_any(), Observed::Found(Arc::new(slim(deployment))));
                    latch.set("watched");
                }
                Ok(Some(watcher::Event::Delete(deployment))) => {
                    self.tell(&namespace, &deployment.name_any(), Observed::Missing);
                }
                // It begins anew by itself, from where it was if it can.
                Err(error) => {
                    latch.unset(format!("Deployments in {namespace} cannot be watched: {error}"));
                    tokio::time::sleep(WATCH_PAUSE).await;
                }
                Ok(None) => return,
            }
        }
    }

    fn tell(&self, namespace: &str, name: &str, observed: Observed) {
        if let Some(sender) = self.watched.get(&(namespace.to_owned(), name.to_owned())) {
            sender.send_replace(observed);
        }
    }

    /// What the watch has of a target, now and from now on.
    pub(crate) fn observe(&self, target: &Target) -> watch::Receiver<Observed> {
        // All targets are watched; one that is not has nothing to tell.
        self.watched.get(&place(target)).map_or_else(|| watch::Sender::default().subscribe(), watch::Sender::subscribe)
    }

    /// Reads a target's Deployment, from the API server itself; none if there is none.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn get(&self, target: &Target) -> anyhow::Result<Option<Deployment>> {
        let api = self.deployments(&target.namespace);
        let found = tokio::time::timeout(REQUEST_TIMEOUT, api.get_opt(&target.deployment)).await;
        found.map_err(|_| anyhow!("the API server did not answer within {REQUEST_TIMEOUT:?}"))?.map_err(Into::into)
    }

    /// Sets the image of a target's container, only if the Deployment is still the very one that was read.
    pub(crate) async fn set_image(
        &self,
        target: &Target,
        read: &Deployment,
        image: &str,
    ) -> Result<Deployment, PatchError> {
        let patch = image_patch(read, &target.container, image).ok_or(PatchError::Conflict)?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.deployments(&target.namespace);
        let patch: Patch<()> = Patch::Json(patch);
        let request = api.patch(&target.deployment, &params, &patch);
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(deployment)) => Ok(deployment),
            Ok(Err(kube::Error::Api(status))) => Err(match status.code {
                // 422 is a failed test as well as a value that is refused: reading again tells which.
                409 => PatchError::Conflict,
                400..=428 if status.code != 408 => {
                    PatchError::Refused { reason: status.reason.clone(), message: status.message.clone() }
                }
                _ => PatchError::Unavailable(anyhow!("the API server answered {}: {}", status.code, status.message)),
            }),
            Ok(Err(error)) => Err(PatchError::Unavailable(error.into())),
            Err(_) => Err(PatchError::Unavailable(anyhow!("the API server did not answer within {REQUEST_TIMEOUT:?}"))),
        }
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn place(target: &Target) -> Place {
    (target.namespace.clone(), target.deployment.clone())
}

/// Without what only the API server needs, which is the larger part.
fn slim(mut deployment: Deployment) -> Deployment {
    deployment.metadata.managed_fields = None;
    deployment
}

/// When we last wrote to a Deployment that was read from the API server, by its clock.
pub(crate) fn written_at(deployment: &Deployment) -> Option<DateTime<Utc>> {
    let entries = deployment.metadata.managed_fields.as_deref().unwrap_or_default();
    let ours = entries.iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let seconds = ours.filter_map(|entry| Some(entry.time.as_ref()?.0.as_second())).max()?;
    DateTime::from_timestamp(seconds, 0)
}

/// A JSON Patch that sets one container's image. Its tests hold the Deployment to what was read: the generation changes with
/// every change of the specification, and never comes back.
fn image_patch(read: &Deployment, container: &str, image: &str) -> Option<JsonPatch> {
    let containers = &read.spec.as_ref()?.template.spec.as_ref()?.containers;
    let index = containers.iter().position(|c| c.name == container)?;
    let path = |rest: &str| PointerBuf::parse(format!("/spec/template/spec/containers/{index}{rest}")).ok();
    let test = |path, value: Value| PatchOperation::Test(TestOperation { path, value });
    Some(JsonPatch(vec![
        test(PointerBuf::parse("/metadata/generation").ok()?, read.metadata.generation?.into()),
        test(path("/name")?, container.into()),
        PatchOperation::Replace(ReplaceOperation { path: path("/image")?, value: image.into() }),
    ]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_holds_the_deployment_to_what_was_read() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"generation": 7},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "x/y:v1"}]}}},
        }))
        .unwrap();
        let patch = image_patch(&deployment, "b", "x/y:v2").unwrap();
        assert_eq!(
            serde_json::to_value(&patch).unwrap(),
            json!([
                {"op": "test", "path": "/metadata/generation", "value": 7},
                {"op": "test", "path": "/spec/template/spec/containers/1/name", "value": "b"},
                {"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "x/y:v2"},
            ])
        );
        assert_eq!(image_patch(&deployment, "c", "x/y:v2"), None);
    }

    #[test]
    fn our_own_last_write_is_dated() {
        let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time, "operation": "Update"});
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"managedFields": [
            entry("kubectl", "2026-01-03T00:00:00Z"), entry("deployer", "2026-01-01T00:00:00Z"), entry("deployer", "2026-01-02T00:00:00Z"),
        ]}}))
        .unwrap();
        assert_eq!(written_at(&deployment), Some("2026-01-02T00:00:00Z".parse().unwrap()));
        assert_eq!(written_at(&Deployment::default()), None);
    }
}

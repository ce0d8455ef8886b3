//! Kubernetes: the only place that speaks to it.

mod objects;
mod timed;
mod watches;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use json_patch::{
    AddOperation, Patch as JsonPatch, PatchOperation, ReplaceOperation, TestOperation,
    jsonptr::PointerBuf,
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet as ApiReplicaSet},
        core::v1::{Event, Pod as ApiPod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Config,
    api::{
        ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams,
        PostParams,
    },
    client::ClientBuilder,
    core::Selector,
};
use prometheus::HistogramVec;
use serde_json::{Value, json};
use service::{config::ConfigError, readiness::Latch, shutdown::Shutdown};
use tokio::sync::{Semaphore, watch};

use crate::{
    argocd::Application,
    observed::{Observed, Pod, ReplicaSet, Snapshot},
    redact::MAX_LINES,
    targets::Target,
};

/// Who we are among those who write to a Deployment.
pub(crate) const FIELD_MANAGER: &str = "deployer";

/// Where `kubectl rollout history` looks for what a revision was made for.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests are on their way at once. Each has a connection of its own, and the memory of one, while it is.
const MAX_REQUESTS: usize = 12;

/// How much of a log is read at most. The last lines of it are kept.
const MAX_LOG_BYTES: i64 = 64 * 1024;

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The API server will not have it.
    Refused {
        /// The status code of HTTP.
        code: u16,
        /// Kubernetes' word for it, such as `Forbidden`.
        reason: String,
        message: String,
    },
    /// Nobody knows whether it was done.
    Unavailable(anyhow::Error),
}

/// Why an image could not be set.
#[derive(Debug)]
pub(crate) enum PatchError {
    /// The Deployment is no longer the one that was read.
    Conflict,
    /// It was not set, or nobody knows.
    Request(RequestError),
}

/// What an event on a Deployment says.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// Its name, which no other event has.
    pub(crate) name: String,
    /// One word, such as `RolloutFailed`.
    pub(crate) reason: &'static str,
    /// Whether it is a warning.
    pub(crate) warning: bool,
    pub(crate) message: String,
    /// The trace that the rollout is in, as an annotation.
    pub(crate) trace_id: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// The cluster, and the watches of all targets. Clones share them.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    places: Arc<Semaphore>,
    watches: watches::Watches,
}

impl Cluster {
    /// Prepares to connect, as kubectl would.
    ///
    /// # Errors
    /// There is no configuration, or it is wrong.
    pub(crate) async fn open(
        targets: &[Arc<Target>],
        duration: HistogramVec,
    ) -> Result<Self, ConfigError> {
        let config =
            Config::infer().await.map_err(|error| ConfigError::new("KUBECONFIG", error))?;
        let client = ClientBuilder::try_from(config)
            .map_err(|error| ConfigError::new("KUBECONFIG", error))?;
        let client = client.with_layer(&timed::Timed(duration)).build();
        Ok(Self {
            client,
            places: Arc::new(Semaphore::new(MAX_REQUESTS)),
            watches: watches::Watches::new(targets),
        })
    }

    /// Watches everything about all targets, until the shutdown begins.
    pub(crate) async fn watch(&self, latch: Latch, shutdown: &Shutdown) {
        self.watches.run(&self.client, latch, shutdown).await;
    }

    /// Tells when something of a target has changed.
    pub(crate) fn changes(&self, target: &Target) -> watch::Receiver<()> {
        self.watches.changes(target)
    }

    /// What the watches have of a target.
    pub(crate) fn snapshot(&self, target: &Target) -> Snapshot {
        self.watches.snapshot(target)
    }

    /// What the watches have of an `ArgoCD` Application, now and from now on.
    pub(crate) fn application(
        &self,
        namespace: &str,
        name: &str,
    ) -> watch::Receiver<Option<Application>> {
        self.watches.application(namespace, name)
    }

    /// Reads a target's Deployment, from the API server itself; none if there is none.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn get(
        &self,
        target: &Target,
    ) -> Result<Option<Arc<Deployment>>, RequestError> {
        let api = self.deployments(&target.namespace);
        self.in_time(async { Ok(api.get_opt(&target.deployment).await?.map(Arc::new)) }).await
    }

    /// Everything about a target, from the API server itself; its warnings, which are told late anyway, as the watches have
    /// them.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn look(&self, target: &Target) -> Result<Snapshot, RequestError> {
        let watched = self.snapshot(target);
        let Some(deployment) = self.get(target).await? else { return Ok(watched.with(None)) };
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        let labels = selector
            .and_then(|selector| Selector::try_from(selector.clone()).ok())
            .unwrap_or_default();
        let params = ListParams::default().labels_from(&labels);
        let sets: Api<ApiReplicaSet> = Api::namespaced(self.client.clone(), &target.namespace);
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), &target.namespace);
        let (sets, pods) = match self
            .in_time(async { tokio::try_join!(sets.list(&params), pods.list(&params)) })
            .await
        {
            Ok(found) => found,
            // Without the right to see them, the Deployment alone has to tell.
            Err(RequestError::Refused { .. }) => {
                return Ok(Snapshot {
                    pods_known: false,
                    replica_sets: Vec::new(),
                    pods: Vec::new(),
                    ..watched
                }
                .with(Some(deployment)));
            }
            Err(error) => return Err(error),
        };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let sets: Vec<_> =
            sets.iter().map(ReplicaSet::of).filter(|set| set.owner == uid).map(Arc::new).collect();
        let ours = |pod: &Pod| sets.iter().any(|set| set.uid == pod.owner);
        let pods = pods.iter().map(Pod::of).filter(ours).map(Arc::new).collect();
        Ok(Snapshot { pods_known: true, pods, replica_sets: sets, ..watched }
            .with(Some(deployment)))
    }

    /// Sets the image of a target's container, only if the Deployment is still the very one that was read.
    ///
    /// # Errors
    /// It is another one by now, or the API server does not answer, or refuses to.
    pub(crate) async fn set_image(
        &self,
        target: &Target,
        read: &Deployment,
        image: &str,
        change_cause: &str,
    ) -> Result<Arc<Deployment>, PatchError> {
        let patch = image_patch(read, &target.container, image, change_cause)
            .ok_or(PatchError::Conflict)?;
        let api = self.deployments(&target.namespace);
        let patch: Patch<()> = Patch::Json(patch);
        let write = async { Ok(Arc::new(api.patch(&target.deployment, &as_us(), &patch).await?)) };
        self.in_time(write).await.map_err(|error| match error {
            RequestError::Refused { code: 409, .. } => PatchError::Conflict,
            other => PatchError::Request(other),
        })
    }

    /// Writes an event on a target's Deployment, once.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn note(&self, target: &Target, note: Note) -> Result<(), RequestError> {
        let Target { namespace, deployment, .. } = target;
        let uid = match self.snapshot(target).deployment {
            Observed::Found(found) => found.metadata.uid.clone(),
            _ => None,
        };
        let annotations: BTreeMap<_, _> =
            note.trace_id.map(|id| ("trace_id", id)).into_iter().collect();
        let at = note.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let event = json!({
            "metadata": {"name": note.name, "namespace": namespace, "annotations": annotations},
            "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": deployment, "uid": uid},
            "type": if note.warning { "Warning" } else { "Normal" },
            "reason": note.reason,
            // The API server takes 1,024 bytes.
            "message": shortened(&note.message, 1_000),
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        });
        let event: Event = serde_json::from_value(event)
            .map_err(|error| RequestError::Unavailable(error.into()))?;
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.in_time(api.create(&params, &event)).await {
            Ok(_) | Err(RequestError::Refused { code: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last lines of a container's log.
    ///
    /// # Errors
    /// The API server or the node does not answer, or refuses to.
    pub(crate) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<String, RequestError> {
        let api: Api<ApiPod> = Api::namespaced(self.client.clone(), namespace);
        let params = LogParams {
            container: Some(container.to_owned()),
            previous,
            tail_lines: i64::try_from(MAX_LINES).ok(),
            limit_bytes: Some(MAX_LOG_BYTES),
            ..LogParams::default()
        };
        self.in_time(api.logs(pod, &params)).await
    }

    /// Whether there is an `ArgoCD` Application.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn has_application(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<bool, RequestError> {
        Ok(self.in_time(applications(&self.client, namespace).get_opt(name)).await?.is_some())
    }

    /// Asks `ArgoCD` to look at an Application now.
    ///
    /// # Errors
    /// The API server does not answer, or refuses to.
    pub(crate) async fn refresh_application(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(), RequestError> {
        let patch = json!({"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}});
        let api = applications(&self.client, namespace);
        self.in_time(api.patch(name, &as_us(), &Patch::Merge(&patch))).await.map(|_| ())
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn in_time<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        let unavailable =
            |error: anyhow::Error| RequestError::Unavailable(error.context("Kubernetes"));
        // Boxed: a Deployment is large by itself, and each executor would keep room for several.
        let in_turn = async {
            // Never closed.
            let _place = self.places.acquire().await;
            request.await
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, Box::pin(in_turn)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(kube::Error::Api(status))) => Err(match status.code {
                // Too many requests and time-outs are no answer.
                400..=428 if status.code != 408 => RequestError::Refused {
                    code: status.code,
                    reason: status.reason.clone(),
                    message: status.message.clone(),
                },
                code => unavailable(anyhow!("the API server answered {code}: {}", status.message)),
            }),
            Ok(Err(error)) => Err(unavailable(error.into())),
            Err(_) => Err(unavailable(anyhow!(
                "the API server did not answer within {REQUEST_TIMEOUT:?}"
            ))),
        }
    }
}

/// The Applications of `ArgoCD` in a namespace.
fn applications(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind =
        ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

fn as_us() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn shortened(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// When we last wrote to a Deployment that was read from the API server, by its clock.
pub(crate) fn written_at(deployment: &Deployment) -> Option<DateTime<Utc>> {
    let entries = deployment.metadata.managed_fields.as_deref().unwrap_or_default();
    let ours = entries.iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let seconds =
        ours.filter_map(|entry| entry.time.as_ref().map(|Time(time)| time.as_second())).max()?;
    DateTime::from_timestamp(seconds, 0)
}

/// A JSON Patch that sets one container's image. Its tests hold the Deployment to what was read: the generation changes with
/// every change of the specification, and never comes back.
fn image_patch(
    read: &Deployment,
    container: &str,
    image: &str,
    change_cause: &str,
) -> Option<JsonPatch> {
    let containers = &read.spec.as_ref()?.template.spec.as_ref()?.containers;
    let index = containers.iter().position(|c| c.name == container)?;
    let pointer = |path: &str| PointerBuf::parse(path.to_owned()).ok();
    let in_container =
        |rest: &str| pointer(&format!("/spec/template/spec/containers/{index}{rest}"));
    let test = |path, value: Value| PatchOperation::Test(TestOperation { path, value });
    let mut patch = vec![
        test(pointer("/metadata/generation")?, read.metadata.generation?.into()),
        test(in_container("/name")?, container.into()),
        PatchOperation::Replace(ReplaceOperation {
            path: in_container("/image")?,
            value: image.into(),
        }),
    ];
    if read.metadata.annotations.is_some() {
        let annotation =
            pointer(&format!("/metadata/annotations/{}", CHANGE_CAUSE.replace('/', "~1")))?;
        patch.push(PatchOperation::Add(AddOperation {
            path: annotation,
            value: change_cause.into(),
        }));
    } else {
        // Nobody else's annotations may have come meanwhile.
        patch.push(test(
            pointer("/metadata/resourceVersion")?,
            read.metadata.resource_version.clone()?.into(),
        ));
        let value = json!({ CHANGE_CAUSE: change_cause });
        patch.push(PatchOperation::Add(AddOperation {
            path: pointer("/metadata/annotations")?,
            value,
        }));
    }
    Some(JsonPatch(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_holds_the_deployment_to_what_was_read() {
        let mut deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"generation": 7, "resourceVersion": "99", "annotations": {}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "x/y:v1"}]}}},
        }))
        .unwrap();
        let of = |deployment: &Deployment| {
            serde_json::to_value(image_patch(deployment, "b", "x/y:v2", "because").unwrap())
                .unwrap()
        };
        let mut expected = vec![
            json!({"op": "test", "path": "/metadata/generation", "value": 7}),
            json!({"op": "test", "path": "/spec/template/spec/containers/1/name", "value": "b"}),
            json!({"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "x/y:v2"}),
            json!({"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": "because"}),
        ];
        assert_eq!(of(&deployment), json!(expected));
        deployment.metadata.annotations = None;
        expected[3] = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "99"});
        expected.push(
            json!({"op": "add", "path": "/metadata/annotations", "value": {"kubernetes.io/change-cause": "because"}}),
        );
        assert_eq!(of(&deployment), json!(expected));
        assert_eq!(image_patch(&deployment, "c", "x/y:v2", "because"), None);
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

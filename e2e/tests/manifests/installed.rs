//! An overlay on a control plane of its own.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use testbed::{Cluster, Scratch, audit, within, workspace_folder};

pub(crate) const NAMESPACE: &str = "oriyan-portfolio";

/// As many as the largest overlay claims.
const VOLUMES: usize = 6;

pub(crate) struct Installed {
    pub(crate) cluster: Cluster,
    /// The folder with its kustomization.
    pub(crate) folder: String,
    pub(crate) scratch: Scratch,
}

impl Installed {
    /// Applies it to a new control plane.
    pub(crate) async fn start(overlay: &str) -> Self {
        let installed = Self::empty().await.with_folder(overlay);
        installed.apply().await;
        installed
    }

    /// A new control plane, with nothing of ours yet.
    pub(crate) async fn empty() -> Self {
        let scratch = Scratch::new().unwrap();
        let cluster = Cluster::start(&scratch.folder("cluster").unwrap()).await.unwrap();
        cluster.apply(&volumes()).await.unwrap();
        Self { cluster, folder: String::new(), scratch }
    }

    /// The same, with what an overlay asks for, which may have been applied.
    pub(crate) fn with_folder(mut self, overlay: &str) -> Self {
        self.folder = workspace_folder().join(overlay).display().to_string();
        self
    }

    /// Applies it, and gives what kubectl says of each object.
    pub(crate) async fn apply(&self) -> String {
        self.cluster.kubectl(&["apply", "--kustomize", &self.folder]).await.unwrap()
    }

    /// A file with which clients reach its API server as a service account.
    pub(crate) async fn sign_in_as(&self, account: &str) -> PathBuf {
        let path = self.scratch.path().join(format!("{account}.kubeconfig"));
        self.cluster.sign_in_as(NAMESPACE, account, &path).await.unwrap();
        path
    }

    /// All its objects, as they are.
    pub(crate) async fn objects(&self) -> Vec<Value> {
        let get = ["get", "--kustomize", &self.folder, "--output", "json"];
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&get).await.unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// All its objects, without how they are: what was asked for, and which generation of it.
    pub(crate) async fn asked_for(&self) -> Vec<Value> {
        let mut objects = self.objects().await;
        for object in &mut objects {
            object.as_object_mut().unwrap().remove("status");
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        }
        objects
    }

    /// Waits until every workload is ready, as it is now asked for.
    pub(crate) async fn all_ready(&self) {
        let ready = within(Duration::from_mins(2), "workloads that are ready", || async {
            self.objects().await.iter().all(is_ready).then_some(())
        });
        if let Err(error) = ready.await {
            let unready: Vec<_> =
                self.objects().await.into_iter().filter(|object| !is_ready(object)).collect();
            panic!("{error}: {unready:#?}");
        }
    }
}

fn is_ready(object: &Value) -> bool {
    let (spec, status) = (&object["spec"], &object["status"]);
    match object["kind"].as_str().unwrap() {
        "Deployment" => audit::is_complete(object),
        "StatefulSet" => {
            status["readyReplicas"] == spec["replicas"]
                && status["updatedReplicas"] == spec["replicas"]
        }
        "Job" => status["succeeded"] == 1,
        // It has seen to the least that there shall be.
        "HorizontalPodAutoscaler" => {
            status["desiredReplicas"].as_i64() >= spec["minReplicas"].as_i64()
        }
        _ => true,
    }
}

/// Disks, which nobody here would make.
fn volumes() -> String {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "kubernetes.io/no-provisioner",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    let volume = |index| {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("volume-{index}")},
            "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
                "hostPath": {"path": format!("/volumes/{index}")}}})
    };
    let items: Vec<_> = std::iter::once(class).chain((0..VOLUMES).map(volume)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

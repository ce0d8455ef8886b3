//! Who set a field, by what the API server keeps of it (server-side apply's field managers). Pure.

use chrono::{DateTime, Utc};
use k8s_openapi::{
    api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use serde_json::Value;

/// Who set a container's image last, other than `except`.
pub(crate) fn who_set_image(
    deployment: &Deployment,
    container: &str,
    except: &str,
) -> Option<String> {
    let others =
        setters(deployment, container).filter(|entry| entry.manager.as_deref() != Some(except));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}

/// When a container's image was set last, by whomever, by the API server's clock.
pub(crate) fn image_set_at(deployment: &Deployment, container: &str) -> Option<DateTime<Utc>> {
    let times = setters(deployment, container).filter_map(|entry| entry.time.as_ref());
    DateTime::from_timestamp(times.map(|time| time.0.as_second()).max()?, 0)
}

/// Those who set a container's image.
fn setters<'a>(
    deployment: &'a Deployment,
    container: &str,
) -> impl Iterator<Item = &'a ManagedFieldsEntry> + use<'a> {
    let entries = deployment.metadata.managed_fields.as_deref().unwrap_or_default();
    let key = format!("k:{}", serde_json::json!({ "name": container }));
    let owns = move |fields: &Value| {
        let path = ["f:spec", "f:template", "f:spec", "f:containers", &key, "f:image"];
        path.iter().try_fold(fields, |fields, step| fields.get(step)).is_some()
    };
    entries
        .iter()
        .filter(move |entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)))
}

/// Whether a field manager is `ArgoCD`'s.
pub(crate) fn is_argocd(manager: &str) -> bool {
    manager.starts_with("argocd")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_one_who_set_the_image_is_named() {
        let entry = |manager: &str, second: u8, container: &str| {
            let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
                (format!("k:{{\"name\":\"{container}\"}}")): {"f:image": {}}}}}}});
            json!({"manager": manager, "operation": "Update", "time": format!("2026-01-01T00:00:0{second}Z"), "fieldsV1": fields})
        };
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"managedFields": [
            entry("kubectl-set", 3, "app"), entry("helm", 1, "app"), entry("deployer", 5, "app"), entry("kubectl-edit", 6, "sidecar"),
            {"manager": "kube-controller-manager", "operation": "Update", "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:status": {}}},
        ]}}))
        .unwrap();
        assert_eq!(who_set_image(&deployment, "app", "deployer").as_deref(), Some("kubectl-set"));
        assert_eq!(who_set_image(&deployment, "web", "deployer"), None);
        assert_eq!(image_set_at(&deployment, "app"), Some("2026-01-01T00:00:05Z".parse().unwrap()));
        assert_eq!(image_set_at(&deployment, "web"), None);
        assert_eq!(who_set_image(&Deployment::default(), "app", "deployer"), None);
        assert!(
            is_argocd("argocd-controller")
                && is_argocd("argocd-application-controller")
                && !is_argocd("kubectl")
        );
    }
}

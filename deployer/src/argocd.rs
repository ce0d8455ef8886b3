//! Whether `ArgoCD` agrees with what was deployed, from the Application object alone. Pure.
//!
//! A live patch has no operation of `ArgoCD`'s to wait for. So its comparison has to be newer than our write, and health and
//! sync, which are reconciled apart, have to be good then.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::progress::same_image;

/// An Application, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Application {
    sync: String,
    /// It is synced as soon as it differs, and not only when a person says so.
    automated: bool,
    health: String,
    health_message: String,
    images: Vec<String>,
    /// When `ArgoCD` last compared it with the cluster, to the second.
    reconciled_at: Option<DateTime<Utc>>,
    /// An operation has been asked for, or is under way.
    operation: bool,
    operation_finished_at: Option<DateTime<Utc>>,
    conditions: Vec<String>,
    /// The kinds of error among the conditions, such as `ComparisonError`, with what they say.
    errors: Vec<(String, String)>,
    /// The commit that was last compared with the cluster.
    compared: String,
    /// The commit that was last applied, or is being.
    applied: String,
    /// What the last operation says, if it failed.
    operation_failed: Option<String>,
}

/// What `ArgoCD` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It agrees.
    Open,
    /// Its word is older than our write: it has to be asked to look again.
    Stale(String),
    /// Not yet; why.
    Waiting(String),
    /// It says that the application is broken, which may pass.
    Degraded(String),
}

impl Application {
    /// Reads an Application's `status` and `operation`, and from its `spec` whether it is synced automatically. What is missing is
    /// as good as empty.
    pub(crate) fn of(object: &Value) -> Self {
        let status = &object["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let time = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let operation = &status["operationState"];
        let conditions = || status["conditions"].as_array().into_iter().flatten();
        let error = |condition: &Value| {
            let kind = text(&condition["type"]);
            kind.ends_with("Error").then(|| (kind, text(&condition["message"])))
        };
        let automated = &object["spec"]["syncPolicy"]["automated"];
        let failed = matches!(operation["phase"].as_str(), Some("Failed" | "Error"));
        Self {
            sync: text(&status["sync"]["status"]),
            automated: automated.is_object() && automated["enabled"] != false,
            health: text(&status["health"]["status"]),
            health_message: text(&status["health"]["message"]),
            images: status["summary"]["images"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect(),
            reconciled_at: time(&status["reconciledAt"]),
            operation: object["operation"].is_object()
                || (operation.is_object() && operation["phase"] == "Running"),
            operation_finished_at: time(&operation["finishedAt"]),
            conditions: conditions().map(|condition| text(&condition["message"])).collect(),
            errors: conditions().filter_map(error).collect(),
            compared: text(&status["sync"]["revision"]),
            applied: text(&operation["syncResult"]["revision"]),
            operation_failed: failed.then(|| text(&operation["message"])),
        }
    }

    /// Whether it agrees that `image` runs, which was set at `since`.
    pub(crate) fn gate(&self, image: &str, since: Option<DateTime<Utc>>) -> Gate {
        let Some(reconciled_at) = self.reconciled_at else {
            return Gate::Stale("it has never been compared".to_owned());
        };
        // Both are whole seconds, rounded down: the same second may be before our write.
        if since.is_some_and(|since| reconciled_at <= since) {
            return Gate::Stale(format!(
                "it was last compared at {}",
                reconciled_at.format("%H:%M:%S")
            ));
        }
        if self.operation {
            return Gate::Waiting("an operation of ArgoCD's is under way".to_owned());
        }
        if self.operation_finished_at.is_some_and(|finished| reconciled_at < finished) {
            return Gate::Stale("it has not been compared since its last operation".to_owned());
        }
        let conditions =
            self.conditions.iter().fold(String::new(), |text, condition| text + "; " + condition);
        if self.health == "Degraded" {
            let message = if self.health_message.is_empty() {
                String::new()
            } else {
                format!(": {}", self.health_message)
            };
            return Gate::Degraded(format!("its health is Degraded{message}{conditions}"));
        }
        if self.sync != "Synced" {
            return Gate::Waiting(format!(
                "it is {}{}{conditions}",
                or_unknown(&self.sync),
                self.by_hand()
            ));
        }
        if self.health != "Healthy" {
            return Gate::Waiting(format!(
                "its health is {}{conditions}",
                or_unknown(&self.health)
            ));
        }
        if !self.images.iter().any(|of| same_image(of, image)) {
            return Gate::Waiting(format!("it does not list the image {image}"));
        }
        Gate::Open
    }

    /// The commits that it has gone by, the one that it was last compared with first.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = &str> {
        [self.compared.as_str(), self.applied.as_str()]
            .into_iter()
            .filter(|revision| !revision.is_empty())
    }

    /// The commit that it calls Synced, and is not about to apply.
    pub(crate) fn synced_revision(&self) -> Option<&str> {
        let settled = self.sync == "Synced" && !self.operation && !self.compared.is_empty();
        settled.then_some(self.compared.as_str())
    }

    /// Why nothing is applied: a cause, and what `ArgoCD` says of it.
    pub(crate) fn error(&self) -> Option<(&str, &str)> {
        self.errors.first().map(|(kind, message)| (kind.as_str(), message.as_str()))
    }

    /// The commit that could not be applied, and what `ArgoCD` says of it.
    pub(crate) fn failed(&self) -> Option<(&str, &str)> {
        self.operation_failed.as_deref().map(|message| (self.applied.as_str(), message))
    }

    /// How it stands, in words.
    pub(crate) fn standing(&self) -> String {
        let at = if self.compared.is_empty() {
            String::new()
        } else {
            format!(" at {}", short(&self.compared))
        };
        let operation = if self.operation { ", and an operation is under way" } else { "" };
        format!("it is {}{at}{operation}{}", or_unknown(&self.sync), self.by_hand())
    }

    /// What keeps it from being synced, in words, where it waits for a person.
    fn by_hand(&self) -> &'static str {
        if self.sync == "OutOfSync" && !self.automated && !self.operation {
            ", and nothing syncs it automatically: spec.syncPolicy.automated is not set, or not enabled"
        } else {
            ""
        }
    }
}

/// A commit's name as people write it.
pub(crate) fn short(revision: &str) -> &str {
    revision.get(..7).unwrap_or(revision)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "Unknown" } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gate(changes: &Value) -> Gate {
        let mut object = json!({"spec": {"syncPolicy": {"automated": {}}}, "status": {
            "sync": {"status": "Synced"}, "health": {"status": "Healthy"}, "reconciledAt": "2026-01-01T00:00:11Z",
            "summary": {"images": ["x/y:v1-abcd", "docker.io/a/b:v2-abcd"]},
            "operationState": {"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:01Z"},
        }});
        json_patch::merge(&mut object, changes);
        Application::of(&object).gate("a/b:v2-abcd", Some("2026-01-01T00:00:10Z".parse().unwrap()))
    }

    #[test]
    fn what_it_says_of_commits_is_read() {
        let of = |changes: Value| {
            let mut object = json!({"status": {
                "sync": {"status": "Synced", "revision": "aaaaaaaa"},
                "operationState": {"phase": "Succeeded", "message": "successfully synced", "syncResult": {"revision": "bbbbbbbb"}},
            }});
            json_patch::merge(&mut object, &changes);
            Application::of(&object)
        };
        assert_eq!(of(json!({})).revisions().collect::<Vec<_>>(), ["aaaaaaaa", "bbbbbbbb"]);
        assert_eq!(of(json!({})).synced_revision(), Some("aaaaaaaa"));
        assert_eq!(of(json!({"operation": {"sync": {}}})).synced_revision(), None);
        assert_eq!(
            of(json!({"status": {"sync": {"status": "OutOfSync"}}})).synced_revision(),
            None
        );
        assert_eq!(of(json!({"status": null})).revisions().count(), 0);
        assert_eq!((of(json!({})).error(), of(json!({})).failed()), (None, None));
        let failed = of(
            json!({"status": {"operationState": {"phase": "Failed", "message": "no such field"}}}),
        );
        assert_eq!(failed.failed(), Some(("bbbbbbbb", "no such field")));
        let conditions = json!([{"type": "OrphanedResourceWarning", "message": "x"}, {"type": "ComparisonError", "message": "no such path"}]);
        assert_eq!(
            of(json!({"status": {"conditions": conditions}})).error(),
            Some(("ComparisonError", "no such path"))
        );
        assert_eq!(of(json!({})).standing(), "it is Synced at aaaaaaa");
        let standing = |automated: Value, operation: Value| {
            let spec = json!({"syncPolicy": {"automated": automated}});
            let status = json!({"sync": {"status": "OutOfSync"}});
            of(json!({"spec": spec, "operation": operation, "status": status})).standing()
        };
        let by_hand = "it is OutOfSync at aaaaaaa, and nothing syncs it automatically: spec.syncPolicy.automated is not set, \
                       or not enabled";
        let under_way = "it is OutOfSync at aaaaaaa, and an operation is under way";
        for (automated, operation, expected) in [
            (json!({}), json!(null), "it is OutOfSync at aaaaaaa"),
            (json!({"enabled": true}), json!(null), "it is OutOfSync at aaaaaaa"),
            (json!({"enabled": false}), json!(null), by_hand),
            (json!(null), json!(null), by_hand),
            (json!(null), json!({"sync": {}}), under_way),
        ] {
            assert_eq!(
                standing(automated.clone(), operation.clone()),
                expected,
                "{automated} {operation}"
            );
        }
    }

    #[test]
    fn only_a_word_from_after_our_write_counts_and_only_a_good_one() {
        let waiting = |text: &str| Gate::Waiting(text.to_owned());
        let stale = |text: &str| Gate::Stale(text.to_owned());
        for (changes, expected) in [
            (json!({}), Gate::Open),
            (json!({"status": {"operationState": null}}), Gate::Open),
            (
                json!({"status": {"reconciledAt": "2026-01-01T00:00:10Z"}}),
                stale("it was last compared at 00:00:10"),
            ),
            (json!({"status": {"reconciledAt": null}}), stale("it has never been compared")),
            (json!({"status": null}), stale("it has never been compared")),
            (json!({"operation": {"sync": {}}}), waiting("an operation of ArgoCD's is under way")),
            (
                json!({"status": {"operationState": {"phase": "Running", "finishedAt": null}}}),
                waiting("an operation of ArgoCD's is under way"),
            ),
            (
                json!({"status": {"operationState": {"finishedAt": "2026-01-01T00:00:12Z"}}}),
                stale("it has not been compared since its last operation"),
            ),
            (json!({"status": {"sync": {"status": "OutOfSync"}}}), waiting("it is OutOfSync")),
            (
                json!({"status": {"sync": {"status": "Unknown"}, "conditions": [{"message": "no such path"}]}}),
                waiting("it is Unknown; no such path"),
            ),
            (
                json!({"status": {"health": {"status": "Progressing"}}}),
                waiting("its health is Progressing"),
            ),
            (
                json!({"status": {"health": {"status": "Degraded", "message": "crashing"}}}),
                Gate::Degraded("its health is Degraded: crashing".to_owned()),
            ),
            (
                json!({"status": {"summary": {"images": ["a/b:v1-abcd"]}}}),
                waiting("it does not list the image a/b:v2-abcd"),
            ),
        ] {
            assert_eq!(gate(&changes), expected, "{changes}");
        }
    }
}

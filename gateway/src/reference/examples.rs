//! The examples of what CI sends: the files of `docs/examples`, each of which a test posts and sees end in a verdict.

use serde_json::Value;
use utoipa::openapi::{RefOr, example::ExampleBuilder, path::PathItem};

/// A content type of `POST /api/builds`, a name, and the body.
const EXAMPLES: [(&str, &str, &str); 4] = [
    ("application/json", "Our own form", include_str!("../../../docs/examples/native.json")),
    (
        "application/cloudevents+json",
        "CDEvents 0.5 in a CloudEvent, artifact.published",
        include_str!("../../../docs/examples/cloudevents-structured-artifact-0.5.1.body"),
    ),
    (
        "application/cloudevents+json",
        "CDEvents 0.5 in a CloudEvent, pipelinerun.finished",
        include_str!("../../../docs/examples/cloudevents-structured-pipelinerun-0.5.1.body"),
    ),
    (
        "application/cloudevents-batch+json",
        "Three events",
        include_str!("../../../docs/examples/cloudevents-batch-three.body"),
    ),
];

/// Adds them to the request body of an item's POST.
pub(super) fn add(item: &mut PathItem) {
    let body = item.post.as_mut().and_then(|post| post.request_body.as_mut());
    let Some(RefOr::T(body)) = body else { return };
    for (content_type, name, text) in EXAMPLES {
        let value: Option<Value> = serde_json::from_str(text).ok();
        if let (Some(RefOr::T(content)), Some(value)) = (body.content.get_mut(content_type), value)
        {
            let example = ExampleBuilder::new().summary(name).value(Some(value)).build();
            content.examples.insert(name.to_owned(), RefOr::T(example));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_json() {
        for (_, name, text) in EXAMPLES {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{name}");
        }
    }
}

//! What the API takes, in schemas that are as strict as the code that reads it.

use std::borrow::Cow;

use events::{BuildFinished, BuildStatus, Event as _};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Array, KnownFormat, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::{AdditionalProperties, AnyOfBuilder, SchemaType},
    },
};

use super::patterns;
use crate::{contact, decisions, fields, formats};

/// Gives a schema its name.
macro_rules! schema {
    ($(#[$doc:meta])* $name:ident, $title:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                $title.into()
            }
        }
    };
}

schema!(
    /// A contact, as JSON or as a form.
    Contact,
    "NewContact",
    object()
        .property("name", text(patterns::LINE, contact::MAX_NAME).examples(["Ada Lovelace"]))
        .property("email", text(patterns::EMAIL, contact::MAX_EMAIL).examples(["ada@example.org"]))
        .property("subject", optional(patterns::OPTIONAL_LINE, Some(contact::MAX_SUBJECT)).examples(["A question"]))
        .property(
            "message",
            text(patterns::TEXT, contact::MAX_MESSAGE).examples(["Would you like to build an analytical engine?"])
        )
        .required("name")
        .required("email")
        .required("message")
        .build()
);

schema!(
    /// The same from a form, where every field is a text.
    ContactForm,
    "NewContactForm",
    object()
        .property("name", text(patterns::LINE, contact::MAX_NAME))
        .property("email", text(patterns::EMAIL, contact::MAX_EMAIL))
        .property(
            "subject",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(patterns::OPTIONAL_LINE))
                .max_length(Some(contact::MAX_SUBJECT))
        )
        .property("message", text(patterns::TEXT, contact::MAX_MESSAGE))
        .required("name")
        .required("email")
        .required("message")
        .build()
);

schema!(
    /// A finished build.
    Build,
    "NewBuild",
    object()
        .property("job", text(patterns::LINE, events::JobName::MAX_CHARACTERS).description(Some("The CI's name of the job")))
        .property(
            "number",
            AnyOfBuilder::new()
                .description(Some("Counts the builds of the job; a text does as well"))
                .item(
                    ObjectBuilder::new()
                        .schema_type(Type::Integer)
                        .minimum(Some(0_u64))
                        .maximum(Some(fields::MAX_NUMBER))
                )
                .item(ObjectBuilder::new().schema_type(Type::String).pattern(Some(patterns::NUMBER)))
        )
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(statuses()))
                .description(Some("How it ended, in Jenkins' words; only success deploys"))
        )
        .property(
            "image",
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(patterns::IMAGE)).description(Some(
                "Its tag names the build: v{number}-{commit}. It may end with @ and the digest in place of `digest`"
            ))
        )
        .property(
            "digest",
            optional(patterns::OPTIONAL_DIGEST, None)
                .description(Some("The content of the image; with it, exactly that is deployed"))
        )
        .property("commit", optional(patterns::OPTIONAL_LINE, Some(formats::MAX_TEXT)))
        .property("branch", optional(patterns::OPTIONAL_LINE, Some(formats::MAX_TEXT)))
        .property(
            "url",
            optional(patterns::OPTIONAL_LINE, Some(formats::MAX_TEXT)).description(Some("Where the CI shows it"))
        )
        .required("job")
        .required("number")
        .required("status")
        .required("image")
        .build()
);

schema!(
    /// A CDEvent that tells of an image.
    CdEvent,
    "CDEvent",
    object()
        .description(Some(
            "A CDEvent 0.5 that tells of a published image. Versions 0.1 to 0.5 are read, and pipelinerun.finished too, \
             where the gateway's JOBS_FILE knows the image of the job; cdevents.dev has the full schemas"
        ))
        .property(
            "context",
            closed(&["specversion", "id", "source", "type", "timestamp"])
                .property("specversion", one_of(&["0.5.0", "0.5.1"]))
                .property("id", any_text())
                .property("source", ObjectBuilder::new().schema_type(Type::String).pattern(Some(patterns::JOB_URL)))
                .property("type", one_of(&["dev.cdevents.artifact.published.0.3.0"]))
                .property("timestamp", time())
        )
        .property(
            "subject",
            object()
                .required("id")
                .required("content")
                .property("id", ObjectBuilder::new().schema_type(Type::String).pattern(Some(patterns::PACKAGE_URL)))
                .property("content", closed(&[]).property(
                    "user",
                    ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
                ))
        )
        .required("context")
        .required("subject")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .build()
);

schema!(
    /// A build in an envelope of CloudEvents.
    CloudEvent,
    "CloudEvent",
    Schema::from(
        AnyOfBuilder::new()
        .description(Some("CloudEvents 1.0 in structured mode. The binary mode, in headers, is read as well"))
        .item(envelope(one_of(&[BuildFinished::TYPE]), "NewBuild"))
        .item(envelope(one_of(&["dev.cdevents.artifact.published.0.3.0"]), "CDEvent"))
        )
);

schema!(
    /// Some of them at once.
    CloudEvents,
    "CloudEvents",
    Schema::Array({
        let mut array = Array::new(Ref::from_schema_name("CloudEvent"));
        array.min_items = Some(1);
        array.max_items = Some(formats::MAX_BATCH);
        array.description = Some("All of them are taken, or none; each has its own source and id".to_owned());
        array
    })
);

schema!(
    /// A change of a rollout, as an event of Server-Sent Events.
    ChangeEvent,
    "ChangeEvent",
    object()
        .property("event", one_of(&["rollout"]))
        .property("id", any_text().description(Some("Its place in the stream, for `Last-Event-ID`")))
        .property(
            "data",
            any_text()
                .content_media_type("application/json")
                .content_schema(Some(Ref::from_schema_name("Change")))
        )
        .required("event")
        .required("id")
        .required("data")
        .build()
);

schema!(
    /// Why, and until when.
    Freeze,
    "NewFreeze",
    object()
        .property("reason", reason())
        .property(
            "until",
            ObjectBuilder::new()
                .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                .description(Some("When it ends, in the future; without it, when somebody ends it"))
        )
        .required("reason")
        .build()
);

schema!(
    /// Why, and to what.
    Rollback,
    "NewRollback",
    object()
        .property("reason", reason())
        .property(
            "image",
            optional(patterns::OPTIONAL_LINE, None)
                .description(Some("The image that it is expected to go back to; if it is another by now, 409"))
        )
        .required("reason")
        .build()
);

schema!(
    /// Why, and where.
    Force,
    "NewForce",
    object()
        .property("reason", reason())
        .property(
            "target",
            optional(patterns::OPTIONAL_TARGET, None).description(Some("Only there; without it, wherever it belongs"))
        )
        .required("reason")
        .build()
);

fn object() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object)
}

/// An object with nothing but what is said.
fn closed(required: &[&str]) -> ObjectBuilder {
    let object = object().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    required.iter().fold(object, |object, name| object.required(*name))
}

fn text(pattern: &str, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .min_length(Some(1))
        .max_length(Some(max))
}

fn any_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))
}

fn optional(pattern: &str, max: Option<usize>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
        .pattern(Some(pattern))
        .max_length(max)
}

fn reason() -> ObjectBuilder {
    text(patterns::LINE, decisions::MAX_REASON)
        .description(Some("For whoever reads it later, in one line"))
}

fn time() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn one_of(values: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(values.iter().map(|value| json!(value))))
}

/// Jenkins writes them in capitals.
fn statuses() -> impl Iterator<Item = Value> {
    let lower = BuildStatus::ALL.map(|status| status.as_str().to_owned());
    let upper = BuildStatus::ALL.map(|status| status.as_str().to_ascii_uppercase());
    lower.into_iter().chain(upper).map(Value::from)
}

fn envelope(r#type: ObjectBuilder, data: &str) -> ObjectBuilder {
    object()
        .property("specversion", one_of(&["1.0"]))
        .property("id", any_text())
        .property("source", any_text().description(Some("With the id, it names the event")))
        .property("type", r#type)
        .property("time", time().schema_type(SchemaType::Array(vec![Type::String, Type::Null])))
        .property(
            "datacontenttype",
            ObjectBuilder::new()
                .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
                .enum_values(Some([json!("application/json"), Value::Null])),
        )
        .property("data", Ref::from_schema_name(data))
        .required("specversion")
        .required("id")
        .required("source")
        .required("type")
        .required("data")
        // Attributes of extensions.
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::Object(
            ObjectBuilder::new()
                .schema_type(SchemaType::Array(vec![
                    Type::String,
                    Type::Boolean,
                    Type::Integer,
                    Type::Null,
                ]))
                .minimum(Some(i64::MIN))
                .maximum(Some(i64::MAX))
                .build(),
        )))))
}

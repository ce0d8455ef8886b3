//! What jenkinsci/cdevents-plugin posts: a CloudEvent as Java's `toString()` writes it, whose data are the bytes of a CDEvent,
//! each as a signed number.

use serde_json::Value;

use super::{EventId, unreadable};
use crate::problem::Problem;

const BEGIN: &str = "CloudEvent{id='";
const SOURCE: &str = "', source=";
const TYPE: &str = ", type='";
const DATA: &str = "data=BytesCloudEventData{value=[";

/// Whether a body looks like one.
pub(super) fn is_one(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"CloudEvent{")
}

/// The CDEvent in it, and what names it.
pub(super) fn read(body: &[u8]) -> Result<(Value, EventId), Problem> {
    let bad = |what: &str| unreadable(format!("not a CloudEvent as Java writes it: {what}"));
    let text = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8"))?;
    let rest =
        text.trim_start().strip_prefix(BEGIN).ok_or_else(|| bad("it does not begin with an id"))?;
    let (id, rest) = rest.split_once(SOURCE).ok_or_else(|| bad("it has no source"))?;
    let (source, rest) = rest.split_once(TYPE).ok_or_else(|| bad("it has no type"))?;
    let (_, rest) = rest.split_once(DATA).ok_or_else(|| bad("it has no data"))?;
    let (numbers, _) = rest.split_once(']').ok_or_else(|| bad("its data do not end"))?;
    let bytes: Option<Vec<u8>> = numbers.split(',').map(byte).collect();
    let bytes = bytes.ok_or_else(|| bad("its data are not numbers from -128 to 127"))?;
    let event = serde_json::from_slice(&bytes)
        .map_err(|error| bad(&format!("its data are not JSON: {error}")))?;
    Ok((event, EventId { source: source.to_owned(), id: id.to_owned() }))
}

fn byte(text: &str) -> Option<u8> {
    text.trim().parse::<i8>().ok().map(i8::cast_unsigned)
}

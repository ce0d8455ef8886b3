//! The payload's version, as a type: what is not version 1 is not decoded as if it were.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Version 1 of a payload. It is written as the number `1`, and nothing else is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(D::Error::custom(format_args!(
                "payload version {other} is not known, only 1 is"
            ))),
        }
    }
}

//! The payload's version, as a type: a payload of another version is not decoded.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

macro_rules! version {
    ($(#[$doc:meta])* $name:ident, $number:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl $name {
            /// The version as a number.
            pub const NUMBER: u64 = $number;
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(Self::NUMBER)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match u64::deserialize(deserializer)? {
                    Self::NUMBER => Ok(Self),
                    other => Err(D::Error::custom(format_args!(
                        "payload version {other} is unknown"
                    ))),
                }
            }
        }
    };
}

version!(
    /// Version 1 of a payload, written as the number `1`. No other number is read.
    V1,
    1
);
version!(
    /// Version 2 of a payload, written as the number `2`. No other number is read.
    V2,
    2
);

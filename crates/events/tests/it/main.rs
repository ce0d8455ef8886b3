//! The wire is frozen: the JSON of payloads, the streams, and the meaning of image references.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod properties;
mod snapshots;
mod stream_files;

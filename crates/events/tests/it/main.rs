//! The wire is frozen: what a payload looks like, what the streams are, and what a reference means.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod properties;
mod snapshots;
mod stream_files;

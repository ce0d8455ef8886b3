//! The services, wired to the servers of a test or of `xtask up`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Mongo, Nats, Service, Spec, free_port, http};

/// The tokens that [`Gateway::spec`] writes, by role, and their SHA-256.
const TOKENS: [(&str, &str, &str); 2] = [
    ("ci", "testbed-ci-token", "a4c58a70d8a4dcf2c2c4a2aa9f1a3f6f0b54ee0a1bd2a5ea56f9fb7b59a0a2ad"),
    ("operator", "testbed-operator-token", ""),
];

/// A gateway, and clients for it.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub service: Service,
    /// A client without a token.
    pub http: http::Client,
    /// Where it is.
    pub url: String,
}

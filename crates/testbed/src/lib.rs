//! Real servers on free loopback ports: NATS, MongoDB, a Kubernetes control plane, and our own services as processes.
//!
//! Each start returns once the server truly answers, and is ours. Each server ends with the value that stands for it, and
//! at the latest with this process, however that ends.

mod argocd;
pub mod audit;
pub mod browser;
mod cluster;
mod fates;
mod former;
pub mod http;
mod jaeger;
mod mongo;
mod nats;
pub mod observers;
mod ports;
mod process;
mod reaper;
mod registry;
mod secured;
mod service;
mod sshd;
pub mod system;
mod tools;
mod virtual_machine;
mod wait;

pub use argocd::ArgoCd;
pub use cluster::Cluster;
pub use fates::Fate;
pub use former::{FORMER, Former};
pub use jaeger::{Jaeger, Span};
pub use mongo::Mongo;
pub use nats::Nats;
pub use ports::free_port;
pub use process::{Server, Spec};
pub use registry::{REGISTRY_PASSWORD, REGISTRY_USER, Registry};
pub use secured::Access;
pub use service::{Service, service_binary};
pub use sshd::Sshd;
pub use system::Gateway;
pub use tools::{
    MissingTool, can_run, can_run_with, find_tool, on_path, path_with, tools_folder,
    workspace_folder,
};
pub use virtual_machine::VirtualMachine;
pub use wait::{eventually, within};

use std::{
    io,
    path::{Path, PathBuf},
};

/// A temporary folder for the files of one test. It goes when this value does, or when this process ends.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// There is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("portfolio-").tempdir()?;
        reaper::remove_at_end(folder.path())?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder in it, made if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

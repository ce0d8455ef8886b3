//! Our services, wired to the servers of a test.

use std::{
    fs,
    ops::{Deref, DerefMut},
    path::Path,
};

use crate::{Mongo, Nats, Service, Spec, free_port, http};

/// The token of CI, and its SHA-256.
pub const CI_TOKEN: &str = "testbed-ci-token";
const CI_SHA256: &str = "e7e7761669a249d45ed1e24d11b382d0aa0837560d5a1f09e45cfd89041cf651";

/// The token of an operator, and its SHA-256.
pub const OPERATOR_TOKEN: &str = "testbed-operator-token";
const OPERATOR_SHA256: &str = "447302531a1b440235570178b89f461838e84818456a4745efa81316cf6d3ab8";

/// A gateway, and a client for its public port.
#[derive(Debug)]
pub struct Gateway {
    service: Service,
    /// A client without a token.
    pub http: http::Client,
    /// Where it serves.
    pub url: String,
}

impl Deref for Gateway {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

impl Gateway {
    /// How a gateway is started. Each in a folder of its own.
    ///
    /// # Errors
    /// The program has not been built, or its files cannot be written.
    pub fn spec(folder: &Path, nats_url: &str) -> anyhow::Result<Spec> {
        fs::create_dir_all(folder)?;
        let tokens = folder.join("tokens.yaml");
        let text = format!(
            "tokens:\n  - {{ name: jenkins, role: ci, sha256: {CI_SHA256} }}\n  - {{ name: ana, role: operator, sha256: {OPERATOR_SHA256} }}\n"
        );
        fs::write(&tokens, text)?;
        Ok(Service::spec("gateway", folder)?.env("NATS_URL", nats_url).env("TOKENS_FILE", tokens))
    }

    /// Provisions its streams and starts it, on a free port.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path, nats: &Nats) -> anyhow::Result<Self> {
        let spec = Self::spec(folder, &nats.url())?;
        Service::run(&spec, "provision").await?;
        let mut gateway = Self::start_unready(spec)?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts it on a free port; it may never get ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_unready(spec: Spec) -> anyhow::Result<Self> {
        Self::start_at(spec, &format!("127.0.0.1:{}", free_port()))
    }

    /// Starts it on a given address; it may never get ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_at(spec: Spec, address: &str) -> anyhow::Result<Self> {
        let url = format!("http://{address}");
        let service = Service::start(spec.env("LISTEN_ADDR", address))?;
        Ok(Self { service, http: http::Client::new(&url), url })
    }

    /// A client with CI's token.
    pub fn ci(&self) -> http::Client {
        self.http.bearer(CI_TOKEN)
    }

    /// A client with an operator's token.
    pub fn operator(&self) -> http::Client {
        self.http.bearer(OPERATOR_TOKEN)
    }
}

/// How a worker is started. Each in a folder of its own.
///
/// # Errors
/// The program has not been built.
pub fn worker_spec(
    folder: &Path,
    nats_url: &str,
    mongo: &Mongo,
    database: &str,
) -> anyhow::Result<Spec> {
    let spec = Service::spec("contact-worker", folder)?;
    Ok(spec
        .env("NATS_URL", nats_url)
        .env("MONGODB_URI", mongo.uri())
        .env("MONGODB_DATABASE", database))
}

/// How a deployer is started. Each in a folder of its own. The text is that of its `TARGETS_FILE`.
///
/// # Errors
/// The program has not been built, or its files cannot be written.
pub fn deployer_spec(
    folder: &Path,
    nats_url: &str,
    kubeconfig: &Path,
    targets: &str,
) -> anyhow::Result<Spec> {
    fs::create_dir_all(folder)?;
    let file = folder.join("targets.yaml");
    fs::write(&file, targets)?;
    let spec = Service::spec("deployer", folder)?;
    Ok(spec
        .env("NATS_URL", nats_url)
        .env("KUBECONFIG", kubeconfig)
        .env("TARGETS_FILE", file)
        .env("GITOPS_FOLDER", folder.join("gitops")))
}

/// Provisions what a service needs, starts it, and waits until it is ready.
///
/// # Errors
/// It does not get ready.
pub async fn start(spec: Spec) -> anyhow::Result<Service> {
    Service::run(&spec, "provision").await?;
    let mut service = Service::start(spec)?;
    service.ready().await?;
    Ok(service)
}

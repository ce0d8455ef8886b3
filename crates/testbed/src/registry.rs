//! A real image registry, which asks who is there.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{Server, Spec, find_tool, free_port, http, process::START};

/// Who may push and pull, and with which password.
pub const REGISTRY_USER: &str = "jenkins";
/// The password.
pub const REGISTRY_PASSWORD: &str = "testbed-registry-password";
/// Both, as `htpasswd -B` writes them.
const HTPASSWD: &str = "jenkins:$2a$04$I27GepRCtvVG2Nc/TblHcuLg.34HgUoT633TcRz0AYtZAhWeKNoIO\n";

/// A registry.
#[derive(Debug)]
pub struct Registry {
    /// The process.
    pub server: Server,
    /// Where it serves, as it stands in an image's name: `127.0.0.1:5000`.
    pub host: String,
    /// A client that is logged in.
    pub http: http::Client,
}

impl Registry {
    /// Starts one that keeps its images in the folder.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let host = format!("127.0.0.1:{}", free_port());
        let (config, passwords) = (folder.join("registry.yml"), folder.join("htpasswd"));
        fs::write(&passwords, HTPASSWD)?;
        let text = format!(
            "version: 0.1\nlog: {{ level: warn }}\nhttp: {{ addr: '{host}' }}\n\
             storage: {{ filesystem: {{ rootdirectory: '{}' }} }}\n\
             auth: {{ htpasswd: {{ realm: testbed, path: '{}' }} }}\n",
            folder.join("images").display(),
            passwords.display()
        );
        fs::write(&config, text)?;
        let spec =
            Spec::new("registry", find_tool("registry")?, folder).args(["serve"]).args([config]);
        let login = BASE64_STANDARD.encode(format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}"));
        let http = http::Client::new(&format!("http://{host}"))
            .with("authorization", &format!("Basic {login}"));
        let mut server = Server::start(spec)?;
        let asked = http.clone();
        let answers = || async {
            asked.get("/v2/").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
        };
        server.ready(START, answers).await?;
        Ok(Self { server, host, http })
    }

    /// The digest that a tag of a repository stands for.
    ///
    /// # Errors
    /// It does not answer, or has no such tag.
    pub async fn digest(&self, repository: &str, tag: &str) -> anyhow::Result<String> {
        let accept = self.http.with("accept", "application/vnd.oci.image.manifest.v1+json");
        let answer = accept.get(&format!("/v2/{repository}/manifests/{tag}")).await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "{repository}:{tag}: {} {}",
            answer.status,
            answer.text()
        );
        Ok(answer.header("docker-content-digest").to_owned())
    }
}

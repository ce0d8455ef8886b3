//! A real OpenSSH server, by which whoever has the key gets at git repositories of this machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use tokio::net::TcpStream;

use crate::{Server, Spec, free_port, on_path, process::START, tools::beside_path};

/// A server with a key of its own, and one for its only client.
#[derive(Debug)]
pub struct Sshd {
    /// The process.
    pub server: Server,
    port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// The program, if it is installed. It is no part of the tools.
    pub fn program() -> Option<PathBuf> {
        on_path("ssh-keygen")?;
        on_path("ssh")?;
        on_path("sshd").or_else(|| beside_path("sshd"))
    }

    /// Starts one, with new keys.
    ///
    /// # Errors
    /// It is not installed, or does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let program =
            Self::program().context("OpenSSH's client and server have to be installed")?;
        if rustix::process::geteuid().is_root() {
            // Debian leaves it to systemd.
            fs::create_dir_all("/run/sshd")?;
        }
        let (port, host_key) = (free_port(), folder.join("host"));
        make_key(&host_key)?;
        make_key(&folder.join("client"))?;
        fs::copy(folder.join("client.pub"), folder.join("authorized_keys"))?;
        fs::write(
            folder.join("known_hosts"),
            format!("[127.0.0.1]:{port} {}", fs::read_to_string(folder.join("host.pub"))?),
        )?;
        let config = folder.join("sshd_config");
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin prohibit-password\n",
            host_key.display(),
            folder.join("authorized_keys").display()
        );
        fs::write(&config, text)?;
        // -e: to stderr.
        let mut server = Server::start(
            Spec::new("sshd", program, folder).args(["-D", "-e", "-f"]).args([config]),
        )?;
        let answers = || async { TcpStream::connect(("127.0.0.1", port)).await.ok().map(|_| ()) };
        server.ready(START, answers).await?;
        Ok(Self { server, port, folder: folder.to_owned() })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A folder of this machine, as git finds it.
    pub fn url(&self, folder: &Path) -> String {
        format!("ssh://{}{}", self.address(), folder.display())
    }

    /// The private key that opens it.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("client")
    }

    /// The server's own key, as `known_hosts` has it.
    pub fn known_hosts_file(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }
}

fn make_key(path: &Path) -> anyhow::Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()?;
    ensure!(status.success(), "ssh-keygen ended with {status}");
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

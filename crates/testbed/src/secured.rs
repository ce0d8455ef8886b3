//! A real nats-server as it is deployed: `nats/secure.conf`, with TLS and the users of
//! `nats/users.conf`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::{Nats, Spec, workspace_folder};

/// The files of `nats` that configure a secured server.
const FILES: [&str; 3] = ["nats-server.conf", "secure.conf", "users.conf"];

/// The users, with the bcrypt hashes of `testbed-<user>` at the lowest cost that bcrypt allows.
const USERS: [(&str, &str); 6] = [
    ("gateway", "$2b$04$OQzquNHcrwBp2nfQ04Dt0uCz561lVHkvnbK6Jl8HD0OiWzPhD.HNq"),
    ("contact-worker", "$2b$04$SQFX50CEAWHu5sWpf9quCO1iJUB5a.HKkHkF0Cs5JgMq9/0I.Il3C"),
    ("deployer", "$2b$04$gHmsM7s0Ew4HCG75Soqj2O701CQLMcl1uKFczYV.MwyOPXHjgBPEm"),
    ("provision", "$2b$04$dzlTJVo6l6EBZZx03JWaXeOyiW/7z3SmEg1WJmWWGrEiLlLouU38e"),
    ("operator", "$2b$04$DxSJ5MGl5tMf6QeoeIux6uSeROoBAuttRW/Yt4RZNk3I0KK0SAq6u"),
    ("system", "$2b$04$sBQBVO3Y4TrBZpDbXeDso.W5VYdnnYKysr8H3YaKoubx0WSto1fOG"),
];

/// Another password, and its hash.
const OTHER: (&str, &str) =
    ("testbed-other", "$2b$04$wsHmAs/ss5DhELrYrw.jT.ijyeBIPTBaDulkrNsqXecWvsm///r8u");

/// The certificates and passwords with which clients sign in to a secured server.
#[derive(Clone, Debug)]
pub struct Access {
    folder: PathBuf,
}

impl Nats {
    /// Starts a secured server that keeps its data in the folder.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn start_secured(folder: &Path) -> anyhow::Result<(Self, Access)> {
        let access = Access::write(folder)?;
        let config = folder.join("secure.conf");
        // Paths in the configuration are relative to the folder that the server runs in: this one.
        let nats = Self::start_with(folder, |spec, name| {
            spec.args(["--config".as_ref(), config.as_os_str()]).env("SERVER_NAME", name)
        });
        Ok((nats.await?, access))
    }

    /// Makes the server read its files again. If the new ones are wrong, the server keeps the old
    /// ones, and logs that.
    ///
    /// # Errors
    /// Fails if the server does not run.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.server.signal(Signal::HUP)
    }
}

impl Access {
    fn write(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("tls"))?;
        for name in FILES {
            let from = workspace_folder().join("nats").join(name);
            fs::copy(&from, folder.join(name))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let access = Self { folder: folder.to_owned() };
        access.change_certificate()?;
        access.write_passwords(None)?;
        Ok(access)
    }

    /// Makes a new certificate, of a new authority. The server takes the certificate at the next
    /// reload.
    ///
    /// # Errors
    /// Fails if the files cannot be written.
    pub fn change_certificate(&self) -> anyhow::Result<()> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "testbed NATS");
        let authority_certificate = authority.self_signed(&authority_key)?;
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?
            .signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
        fs::write(self.ca_file(), authority_certificate.pem())?;
        fs::write(self.folder.join("tls/tls.crt"), certificate.pem())?;
        fs::write(self.folder.join("tls/tls.key"), key.serialize_pem())?;
        Ok(())
    }

    /// Writes all passwords, and their hashes for the server. One user may have the other password.
    fn write_passwords(&self, changed: Option<&str>) -> anyhow::Result<()> {
        let mut hashes = String::new();
        for (user, hash) in USERS {
            let (password, hash) = if changed == Some(user) {
                (OTHER.0.to_owned(), OTHER.1)
            } else {
                (Self::password(user), hash)
            };
            fs::write(self.password_file(user), password + "\n")?;
            let variable = user.to_uppercase().replace('-', "_");
            hashes = hashes + &variable + "_PASSWORD: \"" + hash + "\"\n";
        }
        fs::write(self.folder.join("passwords.conf"), hashes)?;
        Ok(())
    }

    /// Gives one user another password. The server takes the password at the next reload.
    ///
    /// # Errors
    /// Fails if the files cannot be written.
    pub fn change_password(&self, user: &str) -> anyhow::Result<()> {
        self.write_passwords(Some(user))
    }

    /// Changes the permissions of users. The server takes the permissions at the next reload.
    ///
    /// # Errors
    /// Fails if the file cannot be read or written.
    pub fn change_users(&self, change: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
        let path = self.folder.join("users.conf");
        let changed = change(&fs::read_to_string(&path)?);
        fs::write(path, changed)?;
        Ok(())
    }

    /// Returns the certificate of the authority that has signed the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("tls/ca.crt")
    }

    /// Returns the password that a user has at first.
    pub fn password(user: &str) -> String {
        format!("testbed-{user}")
    }

    /// Returns the file with a user's password.
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.password"))
    }

    /// Returns the prefix of the subjects of JetStream's API for a user. The processes are in
    /// accounts of their own; the streams are not.
    pub fn api(user: &str) -> &'static str {
        if matches!(user, "gateway" | "contact-worker" | "deployer") {
            "BUS.API"
        } else {
            "$JS.API"
        }
    }

    /// Makes a service sign in as a user.
    #[must_use]
    pub fn sign_in(&self, spec: Spec, user: &str) -> Spec {
        spec.env("NATS_USER", user)
            .env("NATS_PASSWORD_FILE", self.password_file(user))
            .env("NATS_CA_FILE", self.ca_file())
            .env("NATS_API_PREFIX", Self::api(user))
    }
}

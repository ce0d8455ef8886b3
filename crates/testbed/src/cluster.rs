//! A real Kubernetes control plane without containers: etcd, API server, controllers, scheduler. KWOK plays the nodes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use serde_json::json;

use crate::{Server, Spec, fates::stages, find_tool, free_port, process::START, within};

const KWOK_CONFIG: &str = include_str!("cluster/kwok.yaml");
/// What all containers have written, in the form in which a kubelet keeps it.
const CONTAINER_LOG: &str = "\
2026-01-01T00:00:00.000000000Z stdout F connecting to the database
2026-01-01T00:00:00.100000000Z stderr F DB_PASSWORD=hunter2 is refused
2026-01-01T00:00:00.200000000Z stderr F thread 'main' panicked: no database, no service
";
/// By default controllers make 20 requests a second, and tests would wait for each other.
const QUICK: [&str; 2] = ["--kube-api-qps=1000", "--kube-api-burst=2000"];

const AUDIT_LOG: &str = "audit.log";

/// Deployments with what they are then, and of everything else who asked for what.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete]
  resources: [{ group: apps, resources: [deployments, deployments/status] }]
- level: Metadata
  users: [deployer]
- level: None
";
const TOKEN: &str = "testbed-admin";

/// The token of a user without any rights of its own.
const DEPLOYER_TOKEN: &str = "testbed-deployer";

/// A control plane. It keeps its ports and its data when parts of it are started again.
#[derive(Debug)]
pub struct Cluster {
    // Ended in this order.
    kwok: Server,
    scheduler: Server,
    controllers: Server,
    /// The API server.
    pub api_server: Server,
    etcd: Server,
    kubeconfig: PathBuf,
    deployer_kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts one that keeps its data in the folder.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, false).await
    }

    /// Starts one that also writes down every request, and every state of every Deployment.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_audited(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, true).await
    }

    async fn start_with(folder: &Path, audited: bool) -> anyhow::Result<Self> {
        let files = Files::write(folder)?;
        let etcd = start_etcd(folder, files.etcd_port).await?;
        let mut spec = api_server(folder, &files)?;
        if audited {
            let (policy, log) = (folder.join("audit.yaml"), folder.join(AUDIT_LOG));
            fs::write(&policy, AUDIT_POLICY)?;
            spec =
                spec.args([flag("--audit-policy-file", &policy), flag("--audit-log-path", &log)]);
        }
        let mut api_server = Server::start(spec)?;
        let kubeconfig = files.kubeconfig.clone();
        api_server.ready(START, || is_ready(kubeconfig.clone())).await?;
        let controllers = Server::start(
            Spec::new("kube-controller-manager", find_tool("kube-controller-manager")?, folder)
                .args(["--leader-elect=false", "--secure-port=0"])
                .args(QUICK)
                .args([
                    flag("--kubeconfig", &files.kubeconfig),
                    flag("--service-account-private-key-file", &files.sa_key),
                ]),
        )?;
        let scheduler = Server::start(
            Spec::new("kube-scheduler", find_tool("kube-scheduler")?, folder)
                .args(["--leader-elect=false", "--secure-port=0"])
                .args(QUICK)
                .args([flag("--kubeconfig", &files.kubeconfig)]),
        )?;
        free_node(&files.kubeconfig).await?;
        let kwok = Server::start(kwok(folder, &files)?)?;
        let Files { kubeconfig, deployer_kubeconfig, .. } = files;
        let cluster = Self {
            kwok,
            scheduler,
            controllers,
            api_server,
            etcd,
            kubeconfig,
            deployer_kubeconfig,
        };
        cluster.add_node().await?;
        Ok(cluster)
    }

    /// Stops all of it, in order.
    pub async fn stop(mut self) {
        let parts = [
            &mut self.kwok,
            &mut self.scheduler,
            &mut self.controllers,
            &mut self.api_server,
            &mut self.etcd,
        ];
        for server in parts {
            // One that does not stop in time has been killed.
            let _ = server.stop(Duration::from_secs(10)).await;
        }
    }

    /// What it wrote down, if it was started so; one event in JSON a line (Kubernetes' `audit.k8s.io/v1`).
    pub fn audit_log(&self) -> Option<PathBuf> {
        let log = self.kubeconfig.parent()?.join(AUDIT_LOG);
        log.is_file().then_some(log)
    }

    /// Writes a file with which clients reach it as a service account.
    ///
    /// # Errors
    /// There is no such account, or the file cannot be written.
    pub async fn sign_in_as(
        &self,
        namespace: &str,
        account: &str,
        file: &Path,
    ) -> anyhow::Result<()> {
        let token = self.kubectl(&["--namespace", namespace, "create", "token", account]).await?;
        let admin = fs::read_to_string(&self.kubeconfig)?;
        let (before, after) =
            admin.split_once("user: { token: ").context("a kubeconfig without a token")?;
        let (_, after) = after.split_once(" }").context("a kubeconfig without an end")?;
        Ok(fs::write(file, format!("{before}user: {{ token: {} }}{after}", token.trim()))?)
    }

    /// The file with which clients reach it, as an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The file with which the user `deployer` reaches it, who has no rights but those that a test gives.
    pub fn deployer_kubeconfig(&self) -> &Path {
        &self.deployer_kubeconfig
    }

    /// Starts the API server again after it was stopped or killed, and with it what works through it, which would come back by
    /// itself only after ever longer pauses.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_api_server_again(&mut self) -> anyhow::Result<()> {
        for server in [&mut self.kwok, &mut self.controllers, &mut self.scheduler] {
            server.kill();
        }
        self.api_server.start_again()?;
        let kubeconfig = self.kubeconfig.clone();
        self.api_server.ready(START, || is_ready(kubeconfig.clone())).await?;
        free_node(&self.kubeconfig).await?;
        for server in [&mut self.controllers, &mut self.scheduler, &mut self.kwok] {
            server.start_again()?;
        }
        within(Duration::from_mins(1), "a KWOK that keeps its node", || async {
            let holder = [
                "-n",
                "kube-node-lease",
                "get",
                "lease",
                "node-0",
                "-o",
                "jsonpath={.spec.holderIdentity}",
            ];
            self.kubectl(&holder).await.ok().filter(|holder| !holder.is_empty()).map(|_| ())
        })
        .await?;
        // It overlooks a pod now and then that was there before it, until something of that pod changes.
        let poke = [
            "annotate",
            "pods",
            "--all",
            "--all-namespaces",
            "--overwrite",
            "testbed/seen-again=true",
        ];
        self.kubectl(&poke).await.map(|_| ())
    }

    /// Runs `kubectl` and gives what it printed.
    ///
    /// # Errors
    /// It fails.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        kubectl(&self.kubeconfig, args, "").await
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// The API server refuses them.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        kubectl(&self.kubeconfig, &["apply", "--filename", "-"], manifests).await.map(|_| ())
    }

    /// The node on which all pods run, which is ready once KWOK keeps its lease and says so.
    async fn add_node(&self) -> anyhow::Result<()> {
        self.apply(
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-0","annotations":{"kwok.x-k8s.io/node":"fake"},
                "labels":{"kubernetes.io/hostname":"node-0"}}}"#,
        )
        .await?;
        within(START, "a node that takes pods", || async {
            let path = "jsonpath={.spec.taints}{.status.conditions[?(@.type==\"Ready\")].status}";
            let found = self.kubectl(&["get", "node", "node-0", "-o", path]).await.ok()?;
            let account = self.kubectl(&["get", "serviceaccount", "default"]).await.ok();
            (found == "True" && account.is_some()).then_some(())
        })
        .await
    }
}

/// The files that the servers read, and the ports in them.
struct Files {
    etcd_port: u16,
    api_port: u16,
    certificate: PathBuf,
    certificate_key: PathBuf,
    sa_key: PathBuf,
    sa_public_key: PathBuf,
    tokens: PathBuf,
    kwok_config: PathBuf,
    kubeconfig: PathBuf,
    deployer_kubeconfig: PathBuf,
}

impl Files {
    /// Certificates are new each time, so that a client with our kubeconfig reaches our API server or none.
    fn write(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "testbed");
        let authority_certificate = authority.self_signed(&authority_key)?;
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?
            .signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
        let log = write("container.log", CONTAINER_LOG)?;
        let (etcd_port, api_port) = (free_port(), free_port());
        let kubeconfig = kubeconfig(&folder.join("ca.crt"), api_port);
        write("ca.crt", &authority_certificate.pem())?;
        // Tokens of service accounts outlive a restart.
        let sa_key = folder.join("sa.key");
        let sa = match fs::read_to_string(&sa_key) {
            Ok(pem) => KeyPair::from_pem(&pem)?,
            Err(_) => KeyPair::generate()?,
        };
        Ok(Self {
            etcd_port,
            api_port,
            certificate: write("server.crt", &certificate.pem())?,
            certificate_key: write("server.key", &key.serialize_pem())?,
            sa_key: write("sa.key", &sa.serialize_pem())?,
            sa_public_key: write("sa.pub", &sa.public_key_pem())?,
            tokens: write(
                "tokens.csv",
                &format!(
                    "{TOKEN},admin,admin,system:masters\n{DEPLOYER_TOKEN},deployer,deployer\n"
                ),
            )?,
            deployer_kubeconfig: write(
                "deployer.kubeconfig",
                &kubeconfig.replace(TOKEN, DEPLOYER_TOKEN),
            )?,
            kwok_config: write("kwok.yaml", &format!("{KWOK_CONFIG}{}{}", stages(), logs(&log)))?,
            kubeconfig: write("kubeconfig", &kubeconfig)?,
        })
    }
}

fn kubeconfig(authority: &Path, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: testbed\n\
         clusters: [{{ name: testbed, cluster: {{ server: 'https://127.0.0.1:{port}', certificate-authority: '{}' }} }}]\n\
         users: [{{ name: admin, user: {{ token: {TOKEN} }} }}]\n\
         contexts: [{{ name: testbed, context: {{ cluster: testbed, user: admin }} }}]\n",
        authority.display()
    )
}

async fn start_etcd(folder: &Path, port: u16) -> anyhow::Result<Server> {
    let peer = format!("http://127.0.0.1:{}", free_port());
    let client = format!("http://127.0.0.1:{port}");
    let data = folder.join("etcd");
    let spec = Spec::new("etcd", find_tool("etcd")?, folder)
        .args([flag("--data-dir", &data)])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        // The peer's address is new each time, and there is only one.
        .args(["--initial-cluster", &format!("default={peer}"), "--force-new-cluster"])
        .args(["--unsafe-no-fsync", "--log-level", "warn"]);
    let mut server = Server::start(spec)?;
    let client = crate::http::Client::new(&client);
    let healthy = || async {
        client.get("/health").await.ok().filter(|answer| answer.status.is_success()).map(|_| ())
    };
    server.ready(START, healthy).await?;
    Ok(server)
}

fn api_server(folder: &Path, files: &Files) -> anyhow::Result<Spec> {
    Ok(Spec::new("kube-apiserver", find_tool("kube-apiserver")?, folder)
        .args([format!("--etcd-servers=http://127.0.0.1:{}", files.etcd_port)])
        .args([format!("--secure-port={}", files.api_port)])
        .args([
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
        ])
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged"])
        .args([
            flag("--service-account-key-file", &files.sa_public_key),
            flag("--service-account-signing-key-file", &files.sa_key),
            flag("--token-auth-file", &files.tokens),
            flag("--tls-cert-file", &files.certificate),
            flag("--tls-private-key-file", &files.certificate_key),
            flag("--cert-dir", &folder.join("certs")),
        ]))
}

fn kwok(folder: &Path, files: &Files) -> anyhow::Result<Spec> {
    let port = free_port().to_string();
    Ok(Spec::new("kwok", find_tool("kwok")?, folder)
        .args([flag("--kubeconfig", &files.kubeconfig), flag("--config", &files.kwok_config)])
        .args(["--manage-all-nodes=true", "--node-lease-duration-seconds=40", "--cidr=10.0.0.0/24"])
        .args([
            "--node-ip=127.0.0.1",
            "--node-port",
            &port,
            "--server-address",
            &format!("127.0.0.1:{port}"),
        ]))
}

/// Where KWOK finds the log of every container, the present and the one before.
fn logs(file: &Path) -> String {
    let logs = json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "logs"},
        "spec": {"logs": [{"logsFile": file, "previousLogsFile": file}]},
    });
    format!("---\n{logs}\n")
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// An earlier KWOK held the node's lease, and the next one would wait for its end.
async fn free_node(kubeconfig: &Path) -> anyhow::Result<()> {
    let lease = ["delete", "lease", "node-0", "--namespace=kube-node-lease", "--ignore-not-found"];
    kubectl(kubeconfig, &lease, "").await.map(|_| ())
}

async fn is_ready(kubeconfig: PathBuf) -> Option<()> {
    let answer = kubectl(&kubeconfig, &["get", "--raw", "/readyz"], "").await;
    if answer.is_err() {
        // Each question is a process.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    answer.ok().map(|_| ())
}

/// Runs kubectl without the caller's own configuration.
async fn kubectl(kubeconfig: &Path, args: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(find_tool("kubectl")?);
    command.arg("--kubeconfig").arg(kubeconfig).args(args);
    command
        .env("KUBERC", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = tokio::task::spawn_blocking(run).await??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {error}", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

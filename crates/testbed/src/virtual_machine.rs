//! A nats-server in a machine of its own, whose power can be cut. Data that a killed process has
//! written is still in the kernel's memory, and reaches the disk. Here, the kernel ends too, and
//! only data that was synced is there afterwards.

mod initramfs;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::{Server, Spec, find_tool, free_port, http, on_path, tools::beside_path, tools_folder};

use initramfs::Initramfs;

/// The size of the disk. Streams reserve their `max_bytes`, so that a smaller disk has no room for
/// ours. The file is sparse.
const DISK_BYTES: u64 = 6 << 30;

/// The kernel. `ci/get-kernel` gets the kernel, the modules that it needs here, in the order of
/// their names, and a shell.
const KERNEL: &str = "vmlinuz";
const MODULES: &str = "modules";
const BUSYBOX: &str = "busybox";

/// The line that `init` prints on the console once the network is up. Before that, a connection
/// would hang in place of being refused.
const UP: &str = "init: the network is up";

/// An emulated machine that boots straight into a nats-server, and keeps its port and its disk when
/// it is booted again.
#[derive(Debug)]
pub struct VirtualMachine {
    /// The emulator. Its log is the machine's console.
    pub server: Server,
    port: u16,
    monitor: http::Client,
    name: String,
    /// The number of boots.
    boots: usize,
}

impl VirtualMachine {
    /// Returns the emulator and the program that makes the disk's file system, if both are there,
    /// and the kernel too. They are no part of the tools.
    pub fn programs() -> Option<[PathBuf; 2]> {
        // The machine that is emulated is the one that nats-server is built for.
        let here = cfg!(target_arch = "x86_64");
        let kernel = [KERNEL, MODULES, BUSYBOX].iter().all(|name| kernel_file(name).exists());
        let qemu = on_path("qemu-system-x86_64")?;
        // On Debian, `mkfs.ext4` is in a folder that only root's PATH names.
        let mkfs = on_path("mkfs.ext4").or_else(|| beside_path("mkfs.ext4"))?;
        (here && kernel).then_some([qemu, mkfs])
    }

    /// Boots a machine with an empty disk, and a server with this configuration.
    ///
    /// # Errors
    /// Fails if a program is missing, or the server does not get ready.
    pub async fn start(folder: &Path, config: &str) -> anyhow::Result<Self> {
        let [qemu, mkfs] =
            Self::programs().context("QEMU, mkfs.ext4 or the kernel is not installed")?;
        fs::create_dir_all(folder)?;
        make_disk(&mkfs, &folder.join("disk"))?;
        make_initramfs(&folder.join("initramfs"), config)?;
        let (port, monitor_port) = (free_port(), free_port());
        let name = format!("testbed-{}-{port}", std::process::id());
        let spec = Spec::new("machine", qemu, folder)
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-accel", "tcg,thread=single", "-cpu", "max", "-m", "512"])
            .args(["-serial", "stdio", "-initrd", "initramfs"])
            .args(["-kernel".as_ref(), kernel_file(KERNEL).as_os_str(), "-append".as_ref()])
            .args([format!("console=ttyS0 quiet mitigations=off panic=-1 server_name={name}")])
            // The machine's disk is the file itself, without the page cache of the kernel here.
            .args(["-drive", "file=disk,format=raw,if=virtio,cache=none"])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-netdev".to_owned(), network(&[(port, 4222), (monitor_port, 8222)])]);
        let monitor = http::Client::new(&format!("http://127.0.0.1:{monitor_port}"));
        let mut machine = Self { server: Server::start(spec)?, port, monitor, name, boots: 1 };
        machine.ready().await?;
        Ok(machine)
    }

    /// Returns the address that clients connect to.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the machine at once, in the middle of any work. The disk stays as it is.
    pub fn cut_power(&mut self) {
        self.server.kill();
    }

    /// Boots the machine again on the same disk, and waits until the server answers.
    ///
    /// # Errors
    /// Fails if the server does not get ready.
    pub async fn boot(&mut self) -> anyhow::Result<()> {
        self.server.start_again()?;
        self.boots += 1;
        self.ready().await
    }

    /// Waits until the machine is up and the server healthy. Fails if the server is not ours by its
    /// name.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let (monitor, console) = (self.monitor.clone(), self.server.spec().log_path());
        let boots = self.boots;
        self.server
            .ready(Duration::from_mins(2), || async {
                let console = fs::read(&console).ok()?;
                if String::from_utf8_lossy(&console).matches(UP).count() < boots {
                    return None;
                }
                let answer = monitor.get("/healthz").await.ok()?;
                answer.status.is_success().then_some(())
            })
            .await?;
        let found = self.monitor.get("/varz").await.context("nats-server's monitoring")?.json();
        ensure!(found["server_name"] == *self.name, "another nats-server answers on our port");
        Ok(())
    }
}

fn kernel_file(name: &str) -> PathBuf {
    tools_folder().join("kernel").join(name)
}

/// Describes a network that reaches nothing, with ports of this machine that lead to ports of the
/// other.
fn network(ports: &[(u16, u16)]) -> String {
    let forward = |(here, there): &(u16, u16)| format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}");
    format!("user,id=net,restrict=on{}", ports.iter().map(forward).collect::<String>())
}

/// Makes an empty file system in a sparse file.
fn make_disk(mkfs: &Path, path: &Path) -> anyhow::Result<()> {
    File::create(path)?.set_len(DISK_BYTES)?;
    let output = Command::new(mkfs).arg("-q").arg(path).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mkfs.ext4 ended with {}: {errors}", output.status);
    Ok(())
}

/// Writes the archive that the kernel unpacks into its memory: the first process, and all that it
/// needs.
fn make_initramfs(path: &Path, config: &str) -> anyhow::Result<()> {
    let mut archive = Initramfs::create(path)?;
    for folder in ["bin", "dev", "disk", "etc", "modules", "proc", "tmp"] {
        archive.folder(folder)?;
    }
    archive.program("init", include_bytes!("virtual_machine/init"))?;
    archive.program("bin/busybox", &fs::read(kernel_file(BUSYBOX))?)?;
    archive.program("bin/nats-server", &fs::read(find_tool("nats-server")?)?)?;
    archive.program("etc/nats-server.conf", config.as_bytes())?;
    for module in fs::read_dir(kernel_file(MODULES))? {
        let (name, module) = module.map(|file| (file.file_name(), file.path()))?;
        archive.program(&format!("modules/{}", name.display()), &fs::read(module)?)?;
    }
    archive.finish()
}

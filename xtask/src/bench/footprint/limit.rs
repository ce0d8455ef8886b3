//! A memory limit for one process, as a container has one: a cgroup, if we may make one.

use std::{fs, path::PathBuf};

use testbed::Spec;

/// A script that enters the cgroup and becomes the program, so that all its memory is counted.
const ENTER: &str = r#"echo $$ >"$0" && exec "$@""#;

/// The files of a memory controller.
#[derive(Debug)]
struct Controller {
    folder: &'static str,
    limit: &'static str,
    /// The limit of memory and swap together, or of swap alone. Nodes of Kubernetes have no swap.
    swap: &'static str,
    events: &'static str,
    peak: &'static str,
}

const V1: Controller = Controller {
    folder: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    events: "memory.oom_control",
    peak: "memory.max_usage_in_bytes",
};

const V2: Controller = Controller {
    folder: "/sys/fs/cgroup",
    limit: "memory.max",
    swap: "memory.swap.max",
    events: "memory.events",
    peak: "memory.peak",
};

/// A cgroup with a limit. Dropping it removes the cgroup, if no process runs in it any more.
#[derive(Debug)]
pub(super) struct Limit {
    controller: Controller,
    folder: PathBuf,
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Limit {
    /// Makes a cgroup with a limit in bytes. Returns none if that is not allowed here.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false);
        if v2 {
            // Has no effect if it was done before. If it is refused, there is no file for the
            // limit.
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        }
        let controller = if v2 { V2 } else { V1 };
        let name = format!("portfolio-bench-{}", std::process::id());
        let limit = Self { folder: PathBuf::from(controller.folder).join(name), controller };
        fs::create_dir(&limit.folder).ok()?;
        limit.set(limit.controller.limit, bytes).then_some(())?;
        let _ = limit.set(limit.controller.swap, if v2 { 0 } else { bytes });
        Some(limit)
    }

    /// Writes a value to a file of the cgroup, unless the file is missing. Returns whether that
    /// succeeded.
    fn set(&self, file: &str, value: u64) -> bool {
        let path = self.folder.join(file);
        path.is_file() && fs::write(path, value.to_string()).is_ok()
    }

    /// Returns the same program, in the cgroup from its start.
    pub(super) fn hold(&self, mut spec: Spec) -> Spec {
        let args = std::mem::take(&mut spec.args);
        let program = std::mem::replace(&mut spec.program, PathBuf::from("/bin/sh"));
        let procs = self.folder.join("cgroup.procs");
        spec.args(["-c", ENTER]).args([procs, program]).args(args)
    }

    /// Returns the number of processes in the cgroup that the kernel has killed for lack of memory.
    pub(super) fn kills(&self) -> Option<u64> {
        let text = self.read(self.controller.events)?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// Returns the most memory that the cgroup has used, in KiB, with the kernel's cache of files.
    pub(super) fn peak_kib(&self) -> Option<u64> {
        Some(self.read(self.controller.peak)?.trim().parse::<u64>().ok()? / 1024)
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }
}

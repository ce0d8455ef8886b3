//! Nothing is left behind, even if this process is killed: a small shell of our own waits for the end of a pipe that only
//! we hold, then kills what we had started and removes our temporary folders.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Reads `pid N`, `gone N` and `folder PATH`; acts on the end of its input. It does not hear Ctrl-C.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=' '
while read -r what arg; do
  case $what in
    pid) pids="$pids$arg " ;;
    gone) pids="${pids%% "$arg" *} ${pids#* "$arg" }" ;;
    folder) set -- "$@" "$arg" ;;
  esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
for folder; do rm -rf -- "$folder"; done
"#;

static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();

/// Kills this process when ours ends.
pub(crate) fn kill_at_end(pid: u32) -> io::Result<()> {
    tell(&format!("pid {pid}"))
}

/// This process has ended already, and its id may soon be somebody else's.
pub(crate) fn forget(pid: u32) -> io::Result<()> {
    tell(&format!("gone {pid}"))
}

/// Removes this folder when our process ends.
pub(crate) fn remove_at_end(folder: &Path) -> io::Result<()> {
    tell(&format!("folder {}", folder.display()))
}

fn tell(line: &str) -> io::Result<()> {
    let mut pipe = PIPE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        *pipe = shell.stdin.take();
    }
    let pipe = pipe.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    writeln!(pipe, "{line}")
}

//! One server process: started, watched, stopped, killed, started again.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::reaper;

/// How long a server may take to get ready. On a slow disk that is long, and nobody waits for longer than it takes.
pub(crate) const START: Duration = Duration::from_mins(2);

/// How long one question whether it is ready may take.
const ASK: Duration = Duration::from_secs(10);

/// The longest time that the threads of a process take to stop.
const STOP: Duration = Duration::from_secs(10);

/// The pause before the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// How a server is started, each time anew.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it is called in messages and in the name of its log file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, beside `PATH` and `HOME`; nothing else is inherited.
    pub env: Vec<(String, OsString)>,
    /// The folder that it runs in and that its log is written to.
    pub folder: PathBuf,
}

impl Spec {
    /// A server without arguments and environment yet.
    pub fn new(name: &str, program: PathBuf, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            folder: folder.to_owned(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable, in place of an earlier value.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where its output goes.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

/// A running server. It is killed when this value goes.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    child: Option<Child>,
}

impl Server {
    /// Starts the program. It may not be ready yet.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(spec: Spec) -> anyhow::Result<Self> {
        let mut server = Self { spec, child: None };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it again, in the same way, after it has ended.
    ///
    /// # Errors
    /// It still runs, or cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let spec = &self.spec;
        ensure!(self.child.is_none(), "{} still runs", spec.name);
        std::fs::create_dir_all(&spec.folder)?;
        let log = OpenOptions::new().create(true).append(true).open(spec.log_path())?;
        let child = command(spec, log)?
            .spawn()
            .with_context(|| format!("cannot start {}", spec.program.display()))?;
        reaper::kill_at_end(child.id())?;
        self.child = Some(child);
        Ok(())
    }

    /// How it was started.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How it will be started next time.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        std::fs::read(self.spec.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.forget();
        Some(status)
    }

    /// Fails if it has ended by itself, with the end of its log.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match (self.ended(), &self.child) {
            (None, Some(_)) => Ok(()),
            (status, _) => {
                let status = status.map_or_else(
                    || "has ended".to_owned(),
                    |status| format!("ended with {status}"),
                );
                bail!("{} {status}; its last lines:\n{}", self.spec.name, tail(&self.log(), 15))
            }
        }
    }

    /// Waits until it answers, and fails at once if it ends instead.
    ///
    /// # Errors
    /// It ended, or the time is up.
    pub async fn ready<F: Future<Output = Option<()>>>(
        &mut self,
        time: Duration,
        mut ask: impl FnMut() -> F,
    ) -> anyhow::Result<()> {
        let name = self.spec.name.clone();
        let deadline = Instant::now() + time;
        loop {
            self.check_running()?;
            // Not less: on a busy machine, a client alone may take seconds, and would be started anew in vain.
            if let Ok(Some(())) = tokio::time::timeout(ASK, ask()).await {
                // Whoever answers on a port may be somebody else, if ours could not take it and has just ended.
                return self.check_running();
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} is not ready after {time:?}; its last lines:\n{}",
                    tail(&self.log(), 15)
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.forget();
    }

    /// Stops it where it is, without its knowing, until it is resumed or killed.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends a signal. After SIGSTOP, all threads have stopped.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    #[expect(
        clippy::disallowed_methods,
        reason = "a condition with a deadline, for callers that are not async"
    )]
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .context("it does not run")?;
        kill_process(pid, signal)?;
        let deadline = Instant::now() + STOP;
        while signal == Signal::STOP && !self.has_stopped()? {
            ensure!(Instant::now() < deadline, "{} does not stop", self.spec.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Returns whether all threads are stopped. The kernel stops them one after the other.
    fn has_stopped(&self) -> anyhow::Result<bool> {
        let pid = self.pid().context("it does not run")?;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended meanwhile.
            let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in parentheses.
            if stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('T'))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// It does not end in time; then it is killed.
    pub async fn stop(&mut self, time: Duration) -> anyhow::Result<ExitStatus> {
        self.check_running()?;
        self.signal(Signal::TERM)?;
        self.wait(time).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not end in time; then it is killed.
    pub async fn wait(&mut self, time: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill();
                bail!(
                    "{} did not end within {time:?}; its last lines:\n{}",
                    self.spec.name,
                    tail(&self.log(), 15)
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The memory it holds, in KiB (`VmRSS`).
    pub fn resident_kib(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most memory it has ever held, in KiB (`VmHWM`).
    pub fn peak_kib(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    fn forget(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = reaper::forget(child.id());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            report(&format!("--- {}, last lines:\n{}", self.spec.name, tail(&log, 12)));
        }
        self.kill();
    }
}

#[expect(clippy::print_stderr, reason = "shown with the failed test that it belongs to")]
fn report(text: &str) {
    eprintln!("{text}");
}

/// Its own process group, so that Ctrl-C in a terminal reaches us alone, and we stop what we started in order.
#[expect(clippy::disallowed_methods, reason = "a child needs to find programs and its home")]
fn command(spec: &Spec, log: File) -> anyhow::Result<Command> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.current_dir(&spec.folder).process_group(0);
    Ok(command)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

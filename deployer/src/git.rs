//! git: the only place that runs it.
//!
//! It has no checkout: a bare clone of one branch, and commits that are made of objects. Nothing is ever forced: a push that
//! would take something away is refused by git itself.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use service::config::ConfigError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use crate::targets::{Gitops, Target};

/// How long one command may take. The first one gets the branch's whole history.
const WITHIN: Duration = Duration::from_mins(2);

/// How much a command may say.
const MAX_OUTPUT: u64 = 1 << 20;

/// Who commits.
const NAME: &str = "deployer";
const EMAIL: &str = "deployer@localhost";

/// What git and ssh say where asking again changes nothing.
const REFUSALS: [&str; 8] = [
    "Permission denied",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "does not exist",
    "not found",
    "couldn't find remote ref",
    "does not appear to be a git repository",
    "dubious ownership",
];

/// Why git did not do it.
#[derive(Debug)]
pub(crate) enum GitError {
    /// It will not, or the other side will not.
    Refused(String),
    /// It may the next time.
    Unavailable(anyhow::Error),
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The branch has it.
    Done,
    /// The branch is another one by now, or the other side does not want it: in git's words.
    Rejected(String),
}

/// The clones of all branches that targets name. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Git(Arc<HashMap<Key, Arc<Repository>>>);

/// A repository, its branch, and how it is reached.
type Key = (String, String, Option<PathBuf>, Option<PathBuf>);

fn key(gitops: &Gitops) -> Key {
    let Gitops { repository, branch, key_file, known_hosts_file, .. } = gitops.clone();
    (repository, branch, key_file, known_hosts_file)
}

/// A clone of one branch.
pub(crate) struct Repository {
    gitops: Gitops,
    folder: PathBuf,
    path: OsString,
    turn: Mutex<()>,
}

impl Git {
    /// Prepares the clones that the targets need, empty ones, below a folder that is ours. `path` is where programs are found.
    ///
    /// # Errors
    /// There is no folder for them, or it cannot be written.
    pub(crate) fn open(
        targets: &[Arc<Target>],
        folder: Option<&Path>,
        path: &OsStr,
    ) -> Result<Self, ConfigError> {
        let mut repositories = HashMap::new();
        let wrong = |why: String| ConfigError::new("GITOPS_FOLDER", why);
        for target in targets {
            let Some(gitops) = &target.gitops else { continue };
            let folder = folder.ok_or_else(|| {
                wrong(format!("required, since the target {} has gitops", target.name))
            })?;
            // What an earlier process left may be half-done, and is fetched again.
            let ours = folder.join("repositories");
            if repositories.is_empty() && ours.exists() {
                std::fs::remove_dir_all(&ours)
                    .map_err(|error| wrong(format!("{}: {error}", ours.display())))?;
            }
            let folder = ours.join(repositories.len().to_string());
            std::fs::create_dir_all(&folder)
                .map_err(|error| wrong(format!("{}: {error}", folder.display())))?;
            let (gitops, path) = (gitops.clone(), path.to_owned());
            let made = repositories.entry(key(&gitops));
            made.or_insert_with(|| {
                Arc::new(Repository { gitops, folder, path, turn: Mutex::default() })
            });
        }
        Ok(Self(Arc::new(repositories)))
    }

    /// The clone of a target's branch.
    pub(crate) fn repository(&self, gitops: &Gitops) -> Option<Arc<Repository>> {
        self.0.get(&key(gitops)).cloned()
    }
}

impl Repository {
    /// Waits until nobody else here works with it.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Gets the branch, and gives its head.
    pub(crate) async fn fetch(&self) -> Result<String, GitError> {
        if !self.folder.join("HEAD").exists() {
            self.git(&["init", "--quiet", "--bare", "--template="], None).await?;
        }
        let Gitops { repository, branch, .. } = &self.gitops;
        let refspec = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--end-of-options",
            repository,
            &refspec,
        ];
        self.git(&fetch, None).await?;
        self.git(&["rev-parse", "--verify", &format!("refs/remotes/origin/{branch}")], None).await
    }

    /// A file as a commit has it; none if it has none.
    pub(crate) async fn read(
        &self,
        revision: &str,
        file: &str,
    ) -> Result<Option<String>, GitError> {
        if self.git(&["ls-tree", revision, "--", file], None).await?.is_empty() {
            return Ok(None);
        }
        let output = self.run(&["cat-file", "blob", &format!("{revision}:{file}")], None).await?;
        output.text().map(Some)
    }

    /// Makes a commit that changes one file. Nobody has it before it is pushed.
    pub(crate) async fn commit(
        &self,
        parent: &str,
        file: &str,
        text: &str,
        message: &str,
    ) -> Result<String, GitError> {
        let blob = self.git(&["hash-object", "-w", "--stdin"], Some(text)).await?;
        let found =
            self.git(&["ls-tree", "--format=%(objectmode)", parent, "--", file], None).await?;
        let mode = if found.is_empty() { "100644" } else { &found };
        self.git(&["read-tree", parent], None).await?;
        self.git(&["update-index", "--add", "--cacheinfo", &format!("{mode},{blob},{file}")], None)
            .await?;
        let tree = self.git(&["write-tree"], None).await?;
        self.git(&["commit-tree", &tree, "-p", parent], Some(message)).await
    }

    /// Makes a commit the branch's head, if the head is its parent still.
    pub(crate) async fn push(&self, revision: &str) -> Result<Pushed, GitError> {
        let Gitops { repository, branch, .. } = &self.gitops;
        let refspec = format!("{revision}:refs/heads/{branch}");
        let push = ["push", "--porcelain", "--no-verify", "--end-of-options", repository, &refspec];
        let output = self.run(&push, None).await?;
        if output.succeeded {
            return Ok(Pushed::Done);
        }
        // With --porcelain: a flag, both refs, and what is said of it, between tabs.
        let told = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("!\t")?.split_once('\t').map(|(_, told)| told));
        match told {
            Some(told) => Ok(Pushed::Rejected(told.to_owned())),
            None => Err(output.error("push")),
        }
    }

    /// The commit below `head` whose message has that line.
    pub(crate) async fn find(&self, head: &str, line: &str) -> Result<Option<String>, GitError> {
        let grep = format!("--grep={line}");
        let found = self
            .git(&["log", "-1", "--format=%H", "--fixed-strings", &grep, head, "--"], None)
            .await?;
        Ok((!found.is_empty()).then_some(found))
    }

    /// Whether a revision is a commit, or comes after it. One that is not known is got first.
    pub(crate) async fn contains(&self, revision: &str, commit: &str) -> Result<bool, GitError> {
        if revision == commit {
            return Ok(true);
        }
        // Others named it.
        if revision.is_empty() || !revision.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(false);
        }
        let _turn = self.turn().await;
        let kind = ["cat-file", "-e", &format!("{revision}^{{commit}}")];
        if !self.run(&kind, None).await?.succeeded {
            self.fetch().await?;
            if !self.run(&kind, None).await?.succeeded {
                return Ok(false);
            }
        }
        Ok(self.run(&["merge-base", "--is-ancestor", commit, revision], None).await?.succeeded)
    }

    /// Runs git; what it says, without the end of the line.
    async fn git(&self, args: &[&str], stdin: Option<&str>) -> Result<String, GitError> {
        Ok(self.run(args, stdin).await?.text_of(args[0])?.trim_end().to_owned())
    }

    async fn run(&self, args: &[&str], stdin: Option<&str>) -> Result<Output, GitError> {
        let mut git = Command::new("git");
        git.args(args).current_dir(&self.folder);
        // Nothing of ours, which may be secret, and nothing of the machine's.
        git.env_clear().env("PATH", &self.path).env("HOME", &self.folder).env("LC_ALL", "C");
        git.env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "ssh:file");
        // Tidying up is waited for, so that it is bounded too.
        git.env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "gc.autoDetach")
            .env("GIT_CONFIG_VALUE_0", "false");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), NAME).env(format!("GIT_{who}_EMAIL"), EMAIL);
        }
        if let (Some(key), Some(hosts)) = (&self.gitops.key_file, &self.gitops.known_hosts_file) {
            git.env("GIT_SSH_COMMAND", ssh(key, hosts)).env("GIT_SSH_VARIANT", "ssh");
        }
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let done = async {
            let child = git.spawn().context("git has to be on the PATH")?;
            talk(child, stdin.unwrap_or_default()).await
        };
        let unavailable =
            |error: anyhow::Error| GitError::Unavailable(error.context(format!("git {}", args[0])));
        if let Ok(output) = timeout(WITHIN, done).await {
            return output.map_err(unavailable);
        }
        // It may have left locks behind. All of it can be had again.
        let anew = std::fs::remove_dir_all(&self.folder)
            .and_then(|()| std::fs::create_dir_all(&self.folder));
        anew.map_err(|error| unavailable(error.into()))?;
        Err(unavailable(anyhow!("not done within {WITHIN:?}")))
    }
}

/// How ssh is called: with this key and no other, and only to a host that is known.
fn ssh(key: &Path, hosts: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (key, hosts) = (quoted(key), quoted(hosts));
    format!(
        "ssh -F none -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes \
         -o UserKnownHostsFile={hosts} -o GlobalKnownHostsFile=none -o ConnectTimeout=10 -o ServerAliveInterval=10"
    )
}

/// What a command said.
struct Output {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Output {
    fn text(self) -> Result<String, GitError> {
        self.text_of("")
    }

    fn text_of(self, what: &str) -> Result<String, GitError> {
        if self.succeeded { Ok(self.stdout) } else { Err(self.error(what)) }
    }

    /// What went wrong, in one line.
    fn error(&self, what: &str) -> GitError {
        let lines = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let said: Vec<_> = lines
            .map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: "))
            .collect();
        let text = format!("git {what}: {}", said.join("; "));
        if REFUSALS.iter().any(|refusal| text.contains(refusal)) {
            GitError::Refused(text)
        } else {
            GitError::Unavailable(anyhow!(text))
        }
    }
}

/// Hands a command its input, and hears it to its end.
async fn talk(mut child: Child, stdin: &str) -> anyhow::Result<Output> {
    let mut input = child.stdin.take().context("no standard input")?;
    let output = child.stdout.take().context("no standard output")?;
    let errors = child.stderr.take().context("no standard error")?;
    let write = async {
        // A command that needs no input may have ended.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut output, mut errors) = (output.take(MAX_OUTPUT), errors.take(MAX_OUTPUT));
    let ((), read, _) =
        tokio::join!(write, output.read_to_end(&mut stdout), errors.read_to_end(&mut stderr));
    read?;
    anyhow::ensure!(output.limit() > 0, "more than {MAX_OUTPUT} bytes");
    // What is left unread is nothing, or too much: then it ends by a closed pipe.
    drop((output, errors));
    let status = child.wait().await?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Ok(Output {
        succeeded: status.success(),
        stdout: String::from_utf8(stdout).context("not UTF-8")?,
        stderr,
    })
}

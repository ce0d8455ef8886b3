//! Programs that are built with Go, from the versions and sums in `tools/cluster`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    run::{install as put, on_path, say},
    tools::{Source, Tool},
};

/// How often the build says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(15);

/// Without these, the programs call themselves v0.0.0, and kubectl cannot tell what it speaks to.
const LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                       -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

/// Builds all of `tools/cluster`, since they share most of what they are made of.
pub(crate) fn install(tools: &[Tool], folder: &Path) -> anyhow::Result<()> {
    ensure!(on_path("go").is_some(), "Go 1.26 or newer has to be on the PATH, to build a Kubernetes control plane");
    say(
        "Kubernetes control plane: building etcd, API server, controllers, scheduler and KWOK; the first time takes some minutes …",
    );
    let work = folder.join(".go");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let result = build(&work).and_then(|()| {
        tools.iter().try_for_each(|tool| {
            let Source::Go { binary } = tool.source else { return Ok(()) };
            put(&work.join(binary), &folder.join(tool.name))
        })
    });
    let _ = fs::remove_dir_all(&work);
    result.context("the control plane was not built; Go's package proxy has to be reached, run it again then")
}

fn build(work: &Path) -> anyhow::Result<()> {
    let mut go = Command::new("go");
    go.args(["install", "-v", "-trimpath", "-ldflags", LDFLAGS, "tool"]);
    go.current_dir(testbed::workspace_folder().join("tools/cluster"));
    go.env("GOBIN", work.canonicalize()?).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    let mut child = go.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().context("cannot run go")?;
    let stderr = child.stderr.take().context("go says nothing")?;

    // With -v, Go names each package as it compiles it, and says what is wrong in other words.
    let (started, mut said, mut packages) = (Instant::now(), Instant::now(), 0);
    let mut last_lines = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        if line.starts_with("go: downloading") || line.split(' ').count() == 1 {
            packages += 1;
        } else {
            last_lines.push(line);
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            say(&format!("  {packages} packages after {} s …", started.elapsed().as_secs()));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("go failed with {status}:\n{}", last_lines.join("\n"));
    }
    say(&format!("  built in {} s", started.elapsed().as_secs()));
    Ok(())
}

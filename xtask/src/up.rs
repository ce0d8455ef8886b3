//! `cargo xtask up`: everything from nothing, on this machine.

mod check;
pub(crate) mod cluster;
mod events;
mod observe;
mod stack;

use std::{fs, path::PathBuf};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    run::{command, say, show},
    tools,
};
use stack::Stack;

/// How it is started.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Forget the data of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Use the cluster of this kubeconfig in place of one of our own
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, if not its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// Start Prometheus with our rules, Alertmanager and Jaeger, too
    #[arg(long)]
    observe: bool,
    /// Post one contact and one build, show what became of them, stop, and exit with 0 or 1
    #[arg(long)]
    check: bool,
}

/// Starts everything, then shows what happens until Ctrl-C.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let folder = testbed::workspace_folder().join(".up");
    if args.fresh && folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.try_lock().map_err(|_| anyhow::anyhow!("`cargo xtask up` runs already; stop it first"))?;

    tools::servers()?;
    let programs = args.observe.then(observe::Programs::find).transpose()?;
    if args.observe {
        tools::jaeger()?;
    }
    say("building the services …");
    let services = ["gateway", "contact-worker", "deployer"].map(|name| ["--package", name]);
    show(command(
        "cargo",
        ["build", "--locked", "--quiet"].into_iter().chain(services.into_iter().flatten()),
    ))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stack = Stack::start(folder, args.observe).await?;
        let result = tokio::select! {
            result = work(&mut stack, &args, programs.as_ref()) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        say("\nstopping …");
        stack.stop().await;
        result
    })
}

/// The contact side serves already; the cluster may still have to be built.
async fn work(
    stack: &mut Stack,
    args: &Args,
    programs: Option<&observe::Programs>,
) -> anyhow::Result<()> {
    stack.say_where_contacts_go();
    stack.start_builds(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    stack.say_where_builds_go();
    if let Some(programs) = programs {
        stack.watch(programs).await?;
    }
    if args.check { check::run(stack).await } else { events::show(stack).await }
}

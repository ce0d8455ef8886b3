//! Every situation in which a rollout can find itself, on a real control plane: the verdict, its cause and its time, and what
//! `kubectl rollout status` says of the same, and when.
//!
//! `SCENARIOS_FILE` names a file to write the table to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod argocd;
mod deployments;
mod faults;
mod gates;
mod gitops;
mod pods;
mod queue;
mod scene;
mod smoke;
mod table;
mod world;

use std::{process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Trial};

use crate::{scene::Scene, world::World};

/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(150);

/// Scenarios mostly wait, so more of them run at once than there are cores.
const AT_ONCE: usize = 8;

#[expect(clippy::disallowed_methods, reason = "how cargo xtask scenarios hands it on")]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cases = [
        pods::cases(),
        deployments::cases(),
        queue::cases(),
        gates::cases(),
        argocd::cases(),
        gitops::cases(),
        faults::cases(),
    ]
    .concat();
    let world = Arc::new(World::new(&cases));
    // The last ones take longest.
    let trials = cases.iter().rev().cloned().map(|case| {
        let (world, handle) = (world.clone(), runtime.handle().clone());
        Trial::test(case.name, move || {
            handle.block_on(async {
                let scene = Scene::set(&case, &world).await;
                let run = tokio::time::timeout(LIMIT, (case.run)(scene));
                run.await.map_err(|_| format!("not done within {LIMIT:?}"))?;
                Ok(())
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !conclusion.has_failed()
        && let Ok(file) = std::env::var("SCENARIOS_FILE")
    {
        table::write(&file, &cases, &world).unwrap();
    }
    // Ends everything that was started.
    drop(world);
    conclusion.exit_code()
}

//! The planner, and an executor a target.

use std::sync::Arc;

use bus::{
    Bus, ConsumerMetrics, DeadLettersCommand,
    config::{Nats, ProvisionArgs},
};
use events::{
    Consumer, DEAD_LETTERS, DEPLOYS, PIPELINE, ROLLOUTS, Stream, TARGETS, executor_consumer,
    planner_consumer,
};
use service::{metrics::register, process::Process};
use tokio_util::task::TaskTracker;

use crate::{
    cluster::Cluster,
    config::Settings,
    executor::Executor,
    git::Git,
    history::History,
    metrics::{Metrics, UnderWay},
    planner::Planner,
    reporter::Reporter,
    smoke::Prober,
    targets::Target,
};

/// Plans and executes until the shutdown begins. A rollout that is under way then is left to another replica, or to this one
/// when it is back.
pub(crate) async fn run(
    targets: Vec<Target>,
    settings: Settings,
    nats: Nats,
    process: Process,
) -> anyhow::Result<()> {
    let Settings { gateway_url, gitops_folder, path } = settings;
    let bus = Bus::of_process(&process, &nats).await?;
    let Process { readiness, registry, shutdown, .. } = process;
    // Shared by all who need them: there may be hundreds.
    let targets: Vec<Arc<Target>> = targets.into_iter().map(Arc::new).collect();
    let metrics = Metrics::new(&registry, &targets);
    let git = Git::open(&targets, gitops_folder.as_deref(), &path)?;
    let cluster = Cluster::open(&targets, metrics.requests.clone()).await?;
    let consumers = ConsumerMetrics::new(&registry, "builds");
    let tasks = TaskTracker::new();
    let history = History::new(bus.clone());
    register(&registry, UnderWay::new(history.clone()));
    let prober = Prober::new();
    let gateway_url: Option<Arc<str>> = gateway_url.map(Into::into);
    let reported = targets.clone();
    let planner = Planner {
        bus: bus.clone(),
        cluster: cluster.clone(),
        history: history.clone(),
        policies: targets.iter().map(|target| target.policy()).collect(),
        targets: targets.clone(),
        metrics: metrics.clone(),
    };
    {
        let (bus, backlogs, metrics, shutdown) = (
            bus.clone(),
            all_consumers(targets.iter().map(AsRef::as_ref)),
            consumers.clone(),
            shutdown.clone(),
        );
        tasks.spawn(async move { bus.watch_backlog(&backlogs, &metrics, &shutdown).await });
    }
    let consume = |consumer: Consumer| (bus.clone(), consumer, consumers.clone(), shutdown.clone());
    {
        let (bus, consumer, consumers, shutdown) = consume(planner_consumer());
        let latch = readiness.latch("planner");
        tasks.spawn(async move {
            bus.consume(consumer, Arc::new(planner), consumers, latch, shutdown).await;
        });
    }
    for target in targets {
        let (bus, consumer, consumers, shutdown) = consume(executor_consumer(&target.name));
        let executor = Executor {
            bus: bus.clone(),
            cluster: cluster.clone(),
            git: git.clone(),
            history: history.clone(),
            prober: prober.clone(),
            target,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            gateway_url: gateway_url.clone(),
        };
        let latch = readiness.latch(consumer.name.clone());
        tasks.spawn(async move {
            bus.consume(consumer, Arc::new(executor), consumers, latch, shutdown).await;
        });
    }
    {
        let (bus, latch, shutdown) = (bus.clone(), readiness.latch("streams"), shutdown.clone());
        tasks.spawn(async move { bus.watch_streams(&streams(), latch, shutdown).await });
    }
    {
        let (bus, registry, shutdown) = (bus.clone(), registry.clone(), shutdown.clone());
        tasks.spawn(async move { bus.watch_dead_letters(&CONSUMED, &registry, &shutdown).await });
    }
    {
        let (history, shutdown) = (history.clone(), shutdown.clone());
        let latches = ["rollouts", "targets"].map(|name| readiness.latch(name));
        tasks.spawn(async move { history.follow(latches, shutdown).await });
    }
    {
        let reports = Reporter::new(bus.clone(), cluster.clone(), history, reported);
        let shutdown = shutdown.clone();
        tasks.spawn(async move { reports.run(&shutdown).await });
    }
    tasks.close();
    let latch = readiness.latch("kubernetes");
    readiness.started();
    cluster.watch(latch, &shutdown).await;
    tasks.wait().await;
    bus.flush().await;
    Ok(())
}

/// Creates or updates what the deployer reads and writes.
pub(crate) async fn provision(
    nats: Nats,
    targets: Vec<Target>,
    args: ProvisionArgs,
) -> anyhow::Result<Vec<String>> {
    let bus = Bus::of_command("deployer", &nats).await?;
    let mut said = bus.provision_streams(&streams(), args.replicas).await?;
    said.extend(bus.provision_consumers(&all_consumers(&targets)).await?);
    Ok(said)
}

/// The streams that the planner and the executors consume.
static CONSUMED: [&Stream; 2] = [&PIPELINE, &DEPLOYS];

/// Handles builds and requests that the planner and the executors gave up on.
pub(crate) async fn dead_letters(
    nats: Nats,
    command: DeadLettersCommand,
) -> anyhow::Result<Vec<String>> {
    let bus = Bus::of_command("deployer", &nats).await?;
    bus.handle_dead_letters(&CONSUMED, command).await
}

fn streams() -> [&'static Stream; 5] {
    [&PIPELINE, &DEPLOYS, &ROLLOUTS, &TARGETS, &DEAD_LETTERS]
}

fn all_consumers<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Vec<Consumer> {
    let executors = targets.into_iter().map(|target| executor_consumer(&target.name));
    std::iter::once(planner_consumer()).chain(executors).collect()
}

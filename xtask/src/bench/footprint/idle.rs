//! Measures the services while they are idle.

use std::time::{Duration, Instant};

use testbed::{Gateway, Mongo, Nats, Scratch, Service, Spec, system};

use crate::{
    bench::{
        build::Build,
        report::Report,
        servers::mib,
        stats::{Series, figure},
    },
    run::say,
    up::cluster,
};

/// The time for which a service is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Figures {
    memory: Series,
    start: Series,
}

/// Starts each service in every round, and reports the figures.
pub(super) async fn measure(report: &mut Report, rounds: usize) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let nats = Nats::start(&scratch.folder("nats")?).await?;
    let mongo = Mongo::start(&scratch.folder("mongodb")?).await?;
    let kubernetes = cluster::Kubernetes::of_our_own(&scratch.folder("cluster")?).await?;
    let listen = format!("127.0.0.1:{}", testbed::free_port());
    let gateway =
        Gateway::spec(&scratch.path().join("gateway"), &nats.url())?.env("LISTEN_ADDR", listen);
    let worker =
        system::worker_spec(&scratch.path().join("worker"), &nats.url(), &mongo, "portfolio")?;
    let folder = scratch.path().join("deployer");
    let deployer =
        system::deployer_spec(&folder, &nats.url(), kubernetes.kubeconfig(), cluster::TARGETS)?;
    let specs = [gateway, worker, deployer].map(|spec| Build::This.of(spec));
    let specs = specs.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    for spec in &specs {
        Service::run(spec, "provision").await?;
    }
    let mut figures: [Figures; 3] = Default::default();
    for round in 1..=rounds {
        for (spec, figures) in specs.iter().zip(&mut figures) {
            figures.add(spec.clone()).await?;
        }
        say(&format!("round {round} is done"));
    }
    kubernetes.stop().await;
    tell(report, rounds, &specs, &figures)
}

impl Figures {
    async fn add(&mut self, spec: Spec) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut service = Service::start(spec)?;
        while !service.admin.get("/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
            service.server.check_running()?;
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        self.start.push(started.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(IDLE).await;
        self.memory.push(mib(service.server.resident_kib()));
        service.server.stop(Duration::from_secs(15)).await?;
        Ok(())
    }
}

fn tell(
    report: &mut Report,
    rounds: usize,
    specs: &[Spec],
    figures: &[Figures],
) -> anyhow::Result<()> {
    report.say(&format!(
        "The services, {rounds} rounds in turns; median (smallest–largest). Memory is that of an idle process, {} s after it was ready.",
        IDLE.as_secs()
    ));
    let mut rows = Vec::new();
    for (spec, figures) in specs.iter().zip(figures) {
        let size = std::fs::metadata(&spec.program)?.len();
        let size = mib(Some(size / 1024));
        rows.push(vec![
            spec.name.clone(),
            figure(size),
            figures.memory.show(),
            figures.start.show(),
        ]);
    }
    report.table(&["service", "program, MiB", "memory (RSS), MiB", "ready after, ms"], &rows);
    Ok(())
}

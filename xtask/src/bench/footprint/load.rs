//! Measures the bus under full load, with the memory of its deployment.

use std::time::{Duration, Instant};

use anyhow::Context;
use testbed::{Mongo, Server, Service, Spec};

use super::{Args, limit::Limit};
use crate::{
    bench::{
        report::Report,
        servers::{Bus, mib},
        stats::figure,
        wrk::{self, Seen},
    },
    run::say,
};

/// The memory limit of the bus in `k8s/nats.yaml`.
const LIMIT_MIB: u64 = 512;
const GO_LIMIT: (&str, &str) = ("GOMEMLIMIT", "400MiB");

const CONNECTIONS: usize = 256;

/// The duration of one run of the load.
const SLICE: Duration = Duration::from_secs(10);

/// The interval between two readings of the memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The result of one run of the load.
#[derive(Clone, Copy, Debug)]
struct Slice {
    ended: Duration,
    rate: f64,
    /// The most memory that the bus held at a reading, in MiB.
    resident: f64,
    wrong: f64,
}

/// The highest memory of the whole run in MiB, read at its end.
#[derive(Clone, Copy, Debug)]
struct End {
    peak: f64,
    /// The memory with the kernel's cache of files; none without a cgroup.
    all: Option<f64>,
}

/// Puts the bus under load, and reports the figures. Fails if the bus ends.
pub(super) async fn measure(report: &mut Report, args: &Args) -> anyhow::Result<()> {
    // Made before the bus, so that the cgroup is dropped after the bus.
    let limit = Limit::new(LIMIT_MIB * 1024 * 1024);
    let in_a_container = |spec: Spec| {
        let spec = spec.env(GO_LIMIT.0, GO_LIMIT.1);
        match &limit {
            Some(limit) => limit.hold(spec),
            None => spec,
        }
    };
    let mut bus = Bus::start_adapted(in_a_container).await?;
    let mongo = Mongo::start(&bus.scratch.folder("mongodb")?).await?;
    let worker = bus.worker_spec("worker", &mongo, "portfolio")?;
    bus.provision(&worker).await?;
    let gateway = bus.gateway(&[]).await?;
    let _worker = if args.without_worker { None } else { Some(Service::start(worker)?) };
    let (begun, mut slices) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        let outcome = run(&gateway.url, bus.servers()[0]).await;
        let kills = || limit.as_ref().and_then(Limit::kills).unwrap_or_default();
        bus.check_running().with_context(|| format!("killed for want of memory: {}", kills()))?;
        let (seen, resident) = outcome?;
        if args.without_worker {
            bus.empty("CONTACTS").await?;
        }
        let ended = begun.elapsed();
        let (rate, wrong) = (seen.rate, seen.refused + seen.failed);
        say(&format!("{} s: {}/s, {} MiB", ended.as_secs(), figure(rate), figure(resident)));
        slices.push(Slice { ended, rate, resident, wrong });
    }
    let end = End {
        peak: mib(bus.servers()[0].peak_kib()),
        all: limit.as_ref().map(|limit| mib(limit.peak_kib())),
    };
    tell(report, args, &slices, end);
    Ok(())
}

/// Runs the load once. Returns its result, and the most memory that a server held meanwhile.
async fn run(url: &str, server: &Server) -> anyhow::Result<(Seen, f64)> {
    let load = wrk::post_contacts(url, CONNECTIONS, SLICE);
    tokio::pin!(load);
    let (mut look, mut most) = (tokio::time::interval(LOOK_EVERY), 0.0_f64);
    loop {
        tokio::select! {
            seen = &mut load => return Ok((seen?, most)),
            _ = look.tick() => most = most.max(mib(server.resident_kib())),
        }
    }
}

fn tell(report: &mut Report, args: &Args, slices: &[Slice], end: End) {
    let wrong: f64 = slices.iter().map(|slice| slice.wrong).sum();
    if wrong > 0.0 {
        report.fault(&format!("{wrong} contacts were refused or had no answer under load."));
    }
    if end.peak > f64::from(u32::try_from(LIMIT_MIB).unwrap_or(u32::MAX)) {
        report.fault("the bus took more memory than it is deployed with.");
    }
    let storing = if args.without_worker {
        "the stream is emptied every 10 s"
    } else {
        "a worker stores them"
    };
    let limit = if end.all.is_some() {
        "in a cgroup of"
    } else {
        "without a cgroup, which cannot be made here, and must not take more than"
    };
    report.say(&format!(
        "nats-server for {} s under full load: {CONNECTIONS} connections post contacts to a gateway, and {storing}. It runs {limit} \
         {LIMIT_MIB} MiB,\nwith {}={}, as `k8s/nats.yaml` has it.",
        args.seconds, GO_LIMIT.0, GO_LIMIT.1
    ));
    let row = |slice: &Slice| {
        vec![slice.ended.as_secs().to_string(), figure(slice.rate), figure(slice.resident)]
    };
    let rows: Vec<_> = slices.iter().map(row).collect();
    report.table(&["after, s", "contacts/s", "memory (RSS), MiB"], &rows);
    let minute = 6.min(slices.len());
    report.say(&format!(
        "It was not killed. Contacts/s in the first minute: {}, in the last one: {}. Its memory (RSS) at most: {} MiB.{}",
        figure(mean(&slices[..minute])),
        figure(mean(&slices[slices.len() - minute..])),
        figure(end.peak),
        end.all.map_or_else(String::new, |all| format!(
            " At most {} MiB counted against the limit, with files in the kernel's cache.", figure(all)
        ))
    ));
}

#[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
fn mean(slices: &[Slice]) -> f64 {
    slices.iter().map(|slice| slice.rate).sum::<f64>() / slices.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_deployment() {
        let file = testbed::workspace_folder().join("k8s/nats.yaml");
        let manifest = std::fs::read_to_string(file).unwrap();
        let (name, value) = GO_LIMIT;
        assert!(manifest.contains(&format!("{{ name: {name}, value: {value} }}")));
        assert!(manifest.contains(&format!("limits: {{ memory: {LIMIT_MIB}Mi }}")));
    }
}

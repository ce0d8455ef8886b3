//! The machine that the figures come from.

use std::{
    fs::{self, File},
    io::Write,
    time::Instant,
};

use testbed::find_tool;

use super::stats::{figure, percentile};
use crate::run::{command, output};

/// Describes the machine, its disk, and the versions of the programs that were measured.
pub(crate) fn description() -> anyhow::Result<String> {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let kernel = output(command("uname", ["-sr"]))?;
    let commit = output(command("git", ["describe", "--always", "--dirty", "--abbrev=7"]))
        .unwrap_or_default();
    let nats = output(command(&find_tool("nats-server")?.to_string_lossy(), ["--version"]))?;
    let mongod = output(command(&find_tool("mongod")?.to_string_lossy(), ["--version"]))?;
    Ok(format!(
        "Machine: {cpu}, {cores} cores, {} GiB, {}; an fsync of 300 new bytes takes {} µs (median).\n\
         Load, services and servers share it. Commit {}, {}, MongoDB {}.\n",
        figure(memory.unwrap_or_default() / 1024.0 / 1024.0),
        kernel.trim(),
        figure(fsync_micros()?),
        commit.trim(),
        nats.trim(),
        mongod.lines().next().unwrap_or_default(),
    ))
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Measures an fsync on the disk that the servers write to. Returns the median in microseconds.
fn fsync_micros() -> anyhow::Result<f64> {
    let scratch = testbed::Scratch::new()?;
    let mut file = File::create(scratch.path().join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[b'x'; 300])?;
        let started = Instant::now();
        file.sync_all()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(percentile(&mut times, 50.0))
}

//! The CPU time of processes, from `/proc`.

use std::fs;

use anyhow::Context;
use testbed::Server;

/// The length of a tick in `/proc/PID/stat`: `USER_HZ` is 100 wherever the benchmarks run.
const TICK_MICROS: f64 = 10_000.0;

/// CPU time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Used<const N: usize> {
    /// The CPU time of each group of servers.
    pub(crate) servers: [f64; N],
    /// The CPU time of the load: the programs that we have started and whose end we have waited
    /// for.
    pub(crate) load: f64,
}

/// Measures the CPU time of groups of servers, and of the load, from its start on.
#[derive(Debug)]
pub(crate) struct Meter<const N: usize> {
    groups: [Vec<u32>; N],
    begun: Used<N>,
}

impl<const N: usize> Meter<N> {
    /// Starts with servers that run. Processes that a server has started count as the server's own.
    pub(crate) fn start(servers: [&[&Server]; N]) -> anyhow::Result<Self> {
        let mut groups = [const { Vec::new() }; N];
        for (group, servers) in groups.iter_mut().zip(servers) {
            for server in servers {
                let pid = server.pid();
                group.push(pid.with_context(|| format!("{} has ended", server.spec().name))?);
            }
        }
        let begun = now(&groups)?;
        Ok(Self { groups, begun })
    }

    /// Returns the CPU time since the start.
    pub(crate) fn used(&self) -> anyhow::Result<Used<N>> {
        let mut used = now(&self.groups)?;
        for (used, begun) in used.servers.iter_mut().zip(self.begun.servers) {
            *used -= begun;
        }
        used.load -= self.begun.load;
        Ok(used)
    }
}

impl<const N: usize> Used<N> {
    /// Returns the CPU time a contact.
    pub(crate) fn a_contact(self, contacts: f64) -> Self {
        Self { servers: self.servers.map(|used| used / contacts), load: self.load / contacts }
    }
}

fn now<const N: usize>(groups: &[Vec<u32>; N]) -> anyhow::Result<Used<N>> {
    let mut servers = [0.0; N];
    for folder in fs::read_dir("/proc")?.flatten() {
        // A process that ends meanwhile no longer has this file.
        let text = fs::read_to_string(folder.path().join("stat")).unwrap_or_default();
        let Some(stat) = Stat::parse(&text) else { continue };
        for (used, group) in servers.iter_mut().zip(groups) {
            if group.contains(&stat.group) {
                *used += stat.own;
            }
        }
    }
    let ours = fs::read_to_string("/proc/self/stat")?;
    let load = Stat::parse(&ours).context("/proc/self/stat is not understood")?.children;
    Ok(Used { servers, load })
}

/// The fields of `/proc/PID/stat` that count, with times in microseconds.
#[derive(Debug, PartialEq)]
struct Stat {
    /// The process group. Each server has one of its own, with the id of the server's process.
    group: u32,
    own: f64,
    /// The CPU time of the children that have ended.
    children: f64,
}

impl Stat {
    /// Parses the file. The name, in parentheses, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            own: (ticks(11)? + ticks(12)?) * TICK_MICROS,
            children: (ticks(13)? + ticks(14)?) * TICK_MICROS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_whatever_it_is_called() {
        let text = "42 (a) (b)) S 1 40 40 0 -1 4194304 100 0 0 0 30 12 5 1 20 0 8 0 1000 1 1";
        let expected = Stat { group: 40, own: 420_000.0, children: 60_000.0 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse(""), None);
    }
}

//! CPU time that processes take, from `/proc`.

use std::fs;

use anyhow::Context;
use testbed::Server;

/// A tick of `/proc/PID/stat`: `USER_HZ` is 100 wherever the benchmarks run.
const TICK_MICROS: f64 = 10_000.0;

/// CPU time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Used<const N: usize> {
    /// Of each group of servers.
    pub(crate) servers: [f64; N],
    /// Of the programs that we had started, and whose end we have waited for: the load.
    pub(crate) load: f64,
}

/// Measures what groups of servers, and the load, take from now on.
#[derive(Debug)]
pub(crate) struct Meter<const N: usize> {
    groups: [Vec<u32>; N],
    begun: Used<N>,
}

impl<const N: usize> Meter<N> {
    /// Starts, with servers that run. What they have started themselves counts as theirs.
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

    /// The time that they have taken since.
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
    /// The same a contact.
    pub(crate) fn a_contact(self, contacts: f64) -> Self {
        Self { servers: self.servers.map(|used| used / contacts), load: self.load / contacts }
    }
}

fn now<const N: usize>(groups: &[Vec<u32>; N]) -> anyhow::Result<Used<N>> {
    let mut servers = [0.0; N];
    for folder in fs::read_dir("/proc")?.flatten() {
        // A process that ends meanwhile has no such file any more.
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

/// The content of `/proc/PID/stat`, in microseconds.
#[derive(Debug, PartialEq)]
struct Stat {
    /// The process group. Each server has one of its own, which is called like the server.
    group: u32,
    own: f64,
    /// Of the children that have ended.
    children: f64,
}

impl Stat {
    /// The name, in parentheses, may hold anything.
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

//! The readiness of a process: one latch for each dependency.
//!
//! A process is ready while all latches are set, that is, while it is connected to all of its
//! dependencies. A process is live while it runs, with or without its dependencies.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// The state of a dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// True while the dependency can be used.
    pub ready: bool,
    /// The state in words.
    pub detail: Cow<'static, str>,
}

/// The states of all dependencies of a process, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<Cow<'static, str>, Status>>>);

/// The body of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True while all dependencies are ready.
    pub ready: bool,
    /// The state of each dependency, by name.
    pub dependencies: BTreeMap<Cow<'static, str>, Status>,
}

/// The latch of the process itself.
const PROCESS: &str = "process";

impl Readiness {
    /// Creates the readiness of a process that still has to add its dependencies.
    ///
    /// The process is not ready before [`Readiness::started`].
    pub fn starting() -> Self {
        let status = Status { ready: false, detail: "starting".into() };
        Self(Arc::new(Mutex::new(BTreeMap::from([(PROCESS.into(), status)]))))
    }

    /// Reports that all dependencies have been added.
    ///
    /// From now on, the process is ready while all of its dependencies are.
    pub fn started(&self) {
        Latch { readiness: self.clone(), name: PROCESS.into() }.set("started");
    }

    /// Adds a dependency, which is not ready until its latch is set.
    pub fn latch(&self, name: impl Into<Cow<'static, str>>) -> Latch {
        let latch = Latch { readiness: self.clone(), name: name.into() };
        latch.unset("not connected yet");
        latch
    }

    /// Returns the current states of all dependencies.
    pub fn report(&self) -> Report {
        let dependencies = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report { ready: dependencies.values().all(|status| status.ready), dependencies }
    }
}

/// The latch of one dependency, set while the dependency can be used.
#[derive(Clone, Debug)]
pub struct Latch {
    readiness: Readiness,
    name: Cow<'static, str>,
}

impl Latch {
    /// Marks the dependency as ready, with the state in words.
    pub fn set(&self, detail: impl Into<Cow<'static, str>>) {
        self.change(true, detail.into());
    }

    /// Marks the dependency as unavailable and records the reason.
    pub fn unset(&self, detail: impl Into<Cow<'static, str>>) {
        self.change(false, detail.into());
    }

    /// Stores the state, and logs it if it differs from the previous one.
    fn change(&self, ready: bool, detail: Cow<'static, str>) {
        let status = Status { ready, detail };
        let mut all = self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.name) == Some(&status) {
            return;
        }
        let known = all.insert(self.name.clone(), status.clone()).is_some();
        drop(all);
        if known {
            if ready {
                tracing::info!(
                    dependency = %self.name,
                    "{} is ready: {}", self.name, status.detail
                );
            } else {
                tracing::warn!(
                    dependency = %self.name,
                    "{} is not ready: {}", self.name, status.detail
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_to_be_set() {
        let readiness = Readiness::starting();
        assert!(!readiness.report().ready);
        readiness.started();
        assert!(readiness.report().ready);
        let (bus, store) = (readiness.latch("nats"), readiness.latch("mongodb"));
        bus.set("connected");
        assert!(!readiness.report().ready);
        store.set("connected");
        assert!(readiness.report().ready);
        bus.unset("disconnected");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.dependencies["nats"].detail, "disconnected");
    }
}

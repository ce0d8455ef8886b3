//! Ready means connected: a latch for each dependency, all of which have to be set. Live means running, whatever they say.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// How a dependency stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it can be used.
    pub ready: bool,
    /// In words.
    pub detail: Cow<'static, str>,
}

/// All dependencies of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<Cow<'static, str>, Status>>>);

/// What `/readyz` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all are ready.
    pub ready: bool,
    /// Each by its name.
    pub dependencies: BTreeMap<Cow<'static, str>, Status>,
}

/// The latch of the process itself.
const PROCESS: &str = "process";

impl Readiness {
    /// For a process that has yet to add its dependencies: not ready before [`Readiness::started`].
    pub fn starting() -> Self {
        let status = Status { ready: false, detail: "starting".into() };
        Self(Arc::new(Mutex::new(BTreeMap::from([(PROCESS.into(), status)]))))
    }

    /// All dependencies have been added. From now on they alone decide.
    pub fn started(&self) {
        Latch { readiness: self.clone(), name: PROCESS.into() }.set("started");
    }

    /// Adds a dependency, which is not ready before its latch is set.
    pub fn latch(&self, name: impl Into<Cow<'static, str>>) -> Latch {
        let latch = Latch { readiness: self.clone(), name: name.into() };
        latch.unset("not connected yet");
        latch
    }

    /// How all stand now.
    pub fn report(&self) -> Report {
        let dependencies = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report { ready: dependencies.values().all(|status| status.ready), dependencies }
    }
}

/// One dependency's part of the readiness.
#[derive(Clone, Debug)]
pub struct Latch {
    readiness: Readiness,
    name: Cow<'static, str>,
}

impl Latch {
    /// It can be used.
    pub fn set(&self, detail: impl Into<Cow<'static, str>>) {
        self.change(true, detail.into());
    }

    /// It cannot be used, because.
    pub fn unset(&self, detail: impl Into<Cow<'static, str>>) {
        self.change(false, detail.into());
    }

    /// Logs a change once; saying the same again is silent.
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
                tracing::info!(dependency = %self.name, "{} is ready: {}", self.name, status.detail);
            } else {
                tracing::warn!(dependency = %self.name, "{} is not ready: {}", self.name, status.detail);
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

//! What all scenarios share: a control plane, a bus, a gateway, and a deployer with a target for each.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use testbed::{ArgoCd, Cluster, Gateway, Nats, Scratch, Service, system};
use tokio::sync::OnceCell;

use crate::{scene::Case, smoke::Smoke, table::Row};

pub(crate) struct World {
    targets: String,
    shared: OnceCell<Shared>,
    rows: Mutex<BTreeMap<&'static str, Row>>,
}

pub(crate) struct Shared {
    pub(crate) argocd: ArgoCd,
    pub(crate) cluster: Cluster,
    pub(crate) bus: Bus,
    pub(crate) smoke: Smoke,
    _scratch: Scratch,
}

/// A bus, its gateway, and deployers.
pub(crate) struct Bus {
    pub(crate) nats: Nats,
    pub(crate) gateway: Gateway,
    pub(crate) deployers: Vec<Service>,
}

impl Bus {
    /// One with so many deployers, which all have these targets.
    pub(crate) async fn start(
        scratch: &Scratch,
        kubeconfig: PathBuf,
        targets: &str,
        deployers: usize,
    ) -> Self {
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
        let mut bus = Self { nats, gateway, deployers: Vec::new() };
        for index in 0..deployers {
            let folder = scratch.folder(&format!("deployer-{index}")).unwrap();
            let spec =
                system::deployer_spec(&folder, &bus.nats.url(), &kubeconfig, targets).unwrap();
            bus.deployers.push(system::start(spec).await.unwrap());
        }
        bus
    }
}

impl World {
    pub(crate) fn new(cases: &[Case]) -> Self {
        let targets = cases
            .iter()
            .filter(|case| !case.own_bus)
            .map(|case| case.target("{{smoke}}", "{{git}}"))
            .collect();
        Self { targets, shared: OnceCell::new(), rows: Mutex::default() }
    }

    pub(crate) async fn shared(&self) -> &Shared {
        self.shared
            .get_or_init(|| async {
                let scratch = Scratch::new().unwrap();
                let smoke = Smoke::start().await;
                let cluster = Cluster::start(&scratch.folder("cluster").unwrap()).await.unwrap();
                let argocd =
                    ArgoCd::start(&scratch.folder("argocd").unwrap(), &cluster).await.unwrap();
                let git = format!("file://{}", argocd.repositories().display());
                let targets =
                    self.targets.replace("{{smoke}}", &smoke.url).replace("{{git}}", &git);
                let targets = format!("targets:\n{targets}");
                let bus = Bus::start(&scratch, cluster.kubeconfig().to_owned(), &targets, 1).await;
                Shared { argocd, cluster, bus, smoke, _scratch: scratch }
            })
            .await
    }

    pub(crate) fn record(&self, name: &'static str, row: Row) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(name, row);
    }

    pub(crate) fn rows(&self) -> BTreeMap<&'static str, Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

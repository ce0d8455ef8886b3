//! What the tests share: a control plane, an `ArgoCD` and a Jaeger. Each has its own bus and its own services.

use std::sync::LazyLock;

use serde_json::{Value, json};
use testbed::{
    ArgoCd, Cluster, Fate, Gateway, Jaeger, Nats, Scratch, Service, Span, Spec, eventually, system,
};
use tokio::sync::OnceCell;

use crate::service::Application;

pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) argocd: ArgoCd,
    pub(crate) jaeger: Jaeger,
}

/// They end with the process.
pub(crate) async fn shared() -> &'static Shared {
    static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().unwrap());
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let start = || async {
        let jaeger = Jaeger::start(&SCRATCH.folder("jaeger").unwrap()).await.unwrap();
        let cluster = Cluster::start(&SCRATCH.folder("cluster").unwrap()).await.unwrap();
        let argocd = ArgoCd::start(&SCRATCH.folder("argocd").unwrap(), &cluster).await.unwrap();
        Shared { cluster, argocd, jaeger }
    };
    SHARED.get_or_init(start).await
}

/// A service that sends all its spans, and soon.
pub(crate) fn traced(spec: Spec, jaeger: &Jaeger) -> Spec {
    spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

/// A trace of the caller's own.
pub(crate) struct Caller {
    pub(crate) trace: String,
    pub(crate) span: &'static str,
}

impl Caller {
    pub(crate) fn new() -> Self {
        Self { trace: bson::Uuid::new().to_string().replace('-', ""), span: "b7ad6b7169203331" }
    }

    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.span)
    }
}

/// Everything that builds pass through, for a target with a smoke test and an Application.
pub(crate) struct Builds {
    pub(crate) shared: &'static Shared,
    pub(crate) name: &'static str,
    pub(crate) application: Application,
    pub(crate) deployer: Service,
    gateway: Gateway,
    _nats: Nats,
    _scratch: Scratch,
}

impl Builds {
    pub(crate) async fn start(name: &'static str) -> Self {
        let shared = shared().await;
        let Shared { cluster, argocd, jaeger } = shared;
        let deployment = deployment(name);
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.apply(&format!("{namespace}\n---\n{deployment}")).await.unwrap();
        argocd.commit(name, &deployment.to_string()).unwrap();
        let ours = json!({
            "ignoreDifferences": [{"group": "apps", "kind": "Deployment",
                "jqPathExpressions": [".spec.template.spec.containers[].image"]}],
            "syncPolicy": {"automated": {"selfHeal": true}, "syncOptions": ["RespectIgnoreDifferences=true"]},
        });
        cluster.apply(&argocd.application(name, name, &ours)).await.unwrap();
        argocd.is_well(cluster, name).await.unwrap();

        let scratch = Scratch::new().unwrap();
        let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
        let spec = traced(
            Gateway::spec(&scratch.folder("gateway").unwrap(), &nats.url()).unwrap(),
            jaeger,
        );
        Service::run(&spec, "provision").await.unwrap();
        let mut gateway = Gateway::start_unready(spec).unwrap();
        gateway.ready().await.unwrap();
        let application = Application::start();
        let targets = format!(
            "targets:\n  - {{ name: {name}, image: x/{name}, namespace: {name}, deployment: app, container: app, \
             deadline: 60s, failure_grace: 1s, rollback: true, \
             smoke: {{ url: \"{}\", version_pointer: /version, successes: 3, timeout: 20s }}, \
             argocd: {{ application: {name}, namespace: argocd, timeout: 30s }} }}\n",
            application.url
        );
        let folder = scratch.folder("deployer").unwrap();
        let spec =
            system::deployer_spec(&folder, &nats.url(), cluster.kubeconfig(), &targets).unwrap();
        let deployer = system::start(traced(spec, jaeger)).await.unwrap();
        Self { shared, name, application, deployer, gateway, _nats: nats, _scratch: scratch }
    }

    /// Posts a build in a trace, and gives its id.
    pub(crate) async fn post(&self, caller: &Caller, fate: Fate) -> String {
        let tag = fate.tag(2);
        let image = format!("x/{}:{tag}", self.name);
        let build = json!({"job": self.name, "number": 2, "status": "success", "image": image});
        let ci = self.gateway.ci().with("traceparent", &caller.traceparent());
        let answer = ci.post_json("/api/builds", &build).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The build, once it is as it is asked for.
    pub(crate) async fn build(&self, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || async {
            let build = self.gateway.ci().get(&format!("/api/builds/{id}")).await.ok()?.json();
            fits(&build).then_some(build)
        })
        .await
    }

    /// The trace, once its last span has come.
    pub(crate) async fn trace(&self, caller: &Caller) -> Trace {
        let verdict = |spans: &[Span]| {
            let note = "POST /api/v1/namespaces/{namespace}/events";
            let done = ["verdict", "process DEPLOYS", "process PIPELINE", "POST /api/builds", note];
            done.iter()
                .all(|name| spans.iter().any(|span| span.name == *name))
                .then(|| spans.to_vec())
        };
        Trace(
            self.shared
                .jaeger
                .eventually(&caller.trace, "a trace with its verdict", verdict)
                .await
                .unwrap(),
        )
    }
}

fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    let container = json!({"name": "app", "image": format!("x/{name}:{}", Fate::Ready.tag(1))});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    })
}

/// All spans of a trace.
#[derive(Debug)]
pub(crate) struct Trace(pub(crate) Vec<Span>);

impl Trace {
    /// The spans of a service that are called so, in the order of their begins.
    pub(crate) fn all(&self, service: &str, name: &str) -> Vec<&Span> {
        let mut found: Vec<_> =
            self.0.iter().filter(|span| span.service == service && span.name == name).collect();
        found.sort_by_key(|span| span.start);
        found
    }

    /// The only one.
    #[track_caller]
    pub(crate) fn only(&self, service: &str, name: &str) -> &Span {
        let found = self.all(service, name);
        assert_eq!(found.len(), 1, "{service}: {name} in {:#?}", self.names());
        found[0]
    }

    /// The only one below another.
    #[track_caller]
    pub(crate) fn below(&self, parent: &Span, name: &str) -> &Span {
        let found: Vec<_> =
            self.children(parent).into_iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name} below {} in {:#?}", parent.name, self.names());
        found[0]
    }

    /// Those that are directly below another, in the order of their begins.
    pub(crate) fn children(&self, parent: &Span) -> Vec<&Span> {
        let mut found: Vec<_> =
            self.0.iter().filter(|span| span.parent.as_ref() == Some(&parent.id)).collect();
        found.sort_by_key(|span| span.start);
        found
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut spans: Vec<_> = self.0.iter().collect();
        spans.sort_by_key(|span| span.start);
        spans
            .iter()
            .map(|span| {
                format!("{}: {} ({:?} below {:?})", span.service, span.name, span.id, span.parent)
            })
            .collect()
    }
}

/// Each is done before the next begins, and all are done within what they are parts of. A millisecond is lost in rounding.
#[track_caller]
pub(crate) fn add_up(whole: &Span, parts: &[&Span]) {
    for pair in parts.windows(2) {
        assert!(
            pair[0].end() <= pair[1].start + 1_000,
            "{} and {} overlap",
            pair[0].name,
            pair[1].name
        );
    }
    for part in parts {
        assert!(
            part.start + 1_000 >= whole.start && part.end() <= whole.end() + 1_000,
            "{} is not within {}",
            part.name,
            whole.name
        );
    }
    let sum: u64 = parts.iter().map(|part| part.duration).sum();
    assert!(sum <= whole.duration + 1_000, "{sum} µs of {}", whole.duration);
}

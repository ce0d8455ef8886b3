//! Measures rollouts beside `kubectl set image` and `kubectl rollout status` on the same cluster,
//! timed by the API server's audit log.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use testbed::{Cluster, Fate, Gateway, Service, audit, http, system, within};

use super::{
    build::Build,
    report::Report,
    servers::Bus,
    stats::{Series, figure, percentile},
};
use crate::run::say;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rollouts a round, one after the other
    #[arg(long, default_value_t = 20)]
    rollouts: u64,
    /// Targets that get a build at once
    #[arg(long, default_value_t = 500)]
    targets: usize,
}

const NAMESPACE: &str = "bench";

/// The time that all rollouts at once may take.
const PATIENCE: Duration = Duration::from_mins(10);

type Time = DateTime<Utc>;

/// The figures of all rounds.
#[derive(Debug, Default)]
struct Figures {
    /// Milliseconds from the post, or the command, until success is reported.
    ours: Series,
    kubectl: Series,
    /// Seconds from the write of an image that does not exist until its failure is reported.
    failed: Series,
}

/// The latencies of single rollouts over all rounds, in milliseconds.
#[derive(Debug, Default)]
struct Latencies {
    to_patch: Vec<f64>,
    to_verdict: Vec<f64>,
    requests: f64,
}

pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let bus = Bus::start().await?;
    let cluster = Cluster::start_audited(&bus.scratch.folder("cluster")?).await?;
    let many: Vec<_> = (0..args.targets).map(|index| format!("many-{index}")).collect();
    say("making the Deployments …");
    cluster.apply(&rights()).await?;
    let names = ["ours", "kubectl", "failing", "waiting"]
        .into_iter()
        .chain(many.iter().map(String::as_str));
    cluster.apply(&deployments(names)).await?;
    let all = [
        "--namespace",
        NAMESPACE,
        "wait",
        "--for=condition=Available",
        "--timeout=300s",
        "deployments",
        "--all",
    ];
    cluster.kubectl(&all).await?;
    let gateway = bus.gateway(&[]).await?;

    // kubectl waits for ten minutes, the default of Kubernetes, and uses no resources meanwhile.
    let waiting = async {
        let started = Instant::now();
        let image = format!("app=x/waiting:{}", Fate::ImageNotFound.tag(2));
        cluster
            .kubectl(&["--namespace", NAMESPACE, "set", "image", "deployment/waiting", &image])
            .await?;
        let status = cluster
            .kubectl(&["--namespace", NAMESPACE, "rollout", "status", "deployment/waiting"])
            .await;
        ensure!(status.is_err(), "kubectl calls it a success: {status:?}");
        Ok(started.elapsed().as_secs_f64())
    };
    let ours = async {
        let deployer = deployer(&bus, &cluster, "deployer", &["ours", "failing"]).await?;
        let (figures, latencies) = one_by_one(args, rounds, &gateway, &cluster).await?;
        drop(deployer);
        let at_once = at_once(&many, &bus, &gateway, &cluster).await?;
        Ok((figures, latencies, at_once))
    };
    let (kubectl_named, (figures, latencies, at_once)) =
        futures::future::try_join(waiting, ours).await?;
    cluster.stop().await;
    Ok(report(args, rounds, &figures, latencies, &at_once, kubectl_named))
}

/// Returns the namespace, and a binding that lets the deployer do everything.
pub(super) fn rights() -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "deployer"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
         "subjects": [{"kind": "User", "name": "deployer", "apiGroup": "rbac.authorization.k8s.io"}]},
    ]})
    .to_string()
}

pub(super) fn deployments<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let deployment = |name: &str| {
        let labels = json!({"app": name});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "app", "image": format!("x/{name}:{}", Fate::Ready.tag(1))}]}}}})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": names.map(deployment).collect::<Vec<_>>()})
        .to_string()
}

/// Starts a deployer with these targets, built with all optimizations.
pub(super) async fn deployer(
    bus: &Bus,
    cluster: &Cluster,
    folder: &str,
    targets: &[&str],
) -> anyhow::Result<Service> {
    let line = |name: &&str| {
        format!(
            "  - {{ name: {name}, image: x/{name}, namespace: {NAMESPACE}, deployment: {name}, container: app, rollback: true }}\n"
        )
    };
    let targets = format!("targets:\n{}", targets.iter().map(line).collect::<String>());
    let folder = bus.scratch.folder(folder)?;
    let spec = system::deployer_spec(&folder, &bus.url(), cluster.deployer_kubeconfig(), &targets)?;
    system::start(Build::This.of(spec)?).await
}

pub(super) async fn post(ci: &http::Client, target: &str, tag: &str) -> anyhow::Result<String> {
    let build = json!({"job": target, "number": 1, "status": "success", "image": format!("x/{target}:{tag}")});
    let answer = ci.post_json("/api/builds", &build).await?;
    ensure!(answer.status == 202, "{}", answer.text());
    Ok(answer.json()["id"].as_str().context("no id")?.to_owned())
}

pub(super) async fn verdict(ci: &http::Client, id: &str) -> anyhow::Result<Value> {
    within(PATIENCE, "a verdict", || async {
        let build = ci.get(&format!("/api/builds/{id}?wait=50s")).await.ok()?.json();
        (build["terminal"] == true).then_some(build)
    })
    .await
}

/// Runs our rollouts and kubectl's in turns, and one with an image that does not exist once a
/// round.
async fn one_by_one(
    args: &Args,
    rounds: usize,
    gateway: &Gateway,
    cluster: &Cluster,
) -> anyhow::Result<(Figures, Latencies)> {
    let (mut figures, mut builds, mut number) = (Figures::default(), Vec::new(), 1);
    let ci = gateway.ci();
    for round in 1..=rounds {
        let (mut ours, mut kubectl) = (Vec::new(), Vec::new());
        for _ in 0..args.rollouts {
            number += 1;
            let tag = Fate::Ready.tag(number);
            let started = Instant::now();
            let id = post(&ci, "ours", &tag).await?;
            let build = verdict(&ci, &id).await?;
            ours.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(build["state"] == "succeeded", "{build:#}");
            builds.push(build);

            let image = format!("app=x/kubectl:{tag}");
            let started = Instant::now();
            cluster
                .kubectl(&["--namespace", NAMESPACE, "set", "image", "deployment/kubectl", &image])
                .await?;
            cluster
                .kubectl(&["--namespace", NAMESPACE, "rollout", "status", "deployment/kubectl"])
                .await?;
            kubectl.push(started.elapsed().as_secs_f64() * 1e3);
        }
        figures.ours.push(percentile(&mut ours, 50.0));
        figures.kubectl.push(percentile(&mut kubectl, 50.0));
        let id = post(&ci, "failing", &Fate::ImageNotFound.tag(number)).await?;
        let build = verdict(&ci, &id).await?;
        ensure!(build["rollouts"][0]["diagnosis"]["cause"] == "ImagePullBackOff", "{build:#}");
        figures
            .failed
            .push(seconds(entered(&build, "rolling_back")? - entered(&build, "progressing")?));
        say(&format!("round {round} is done"));
    }
    let log = audit::read(&cluster.audit_log().context("no audit log")?)?;
    Ok((figures, latencies(&builds, &log)?))
}

/// Compares single rollouts with the API server's audit log.
fn latencies(builds: &[Value], log: &[audit::Request]) -> anyhow::Result<Latencies> {
    let mut found = Latencies::default();
    let mut requests = 0;
    for build in builds {
        let image = build["build"]["image"].as_str().context("no image")?;
        let received: Time = build["received_at"].as_str().context("no time")?.parse()?;
        let finished = entered(build, "succeeded")?;
        let of_image = |request: &&audit::Request| {
            request.object["spec"]["template"]["spec"]["containers"][0]["image"] == image
                && request.code == 200
        };
        let patch = log
            .iter()
            .filter(of_image)
            .find(|request| request.user == "deployer")
            .context("no write")?;
        let decides = log
            .iter()
            .filter(of_image)
            .find(|request| audit::is_complete(&request.object))
            .context("not complete")?;
        found.to_patch.push(millis(patch.asked - received));
        found.to_verdict.push(millis(finished - decides.asked));
        // Kubernetes events are written after the verdict.
        let end = finished + TimeDelta::milliseconds(20);
        let during = |request: &&audit::Request| request.asked >= received && request.asked <= end;
        requests += log.iter().filter(|request| request.user == "deployer").filter(during).count();
    }
    found.requests = f64::from(u32::try_from(requests)?) / f64::from(u32::try_from(builds.len())?);
    Ok(found)
}

/// The figures of all rollouts at once.
struct AtOnce {
    rollouts: usize,
    seconds: f64,
    idle_mib: f64,
    peak_mib: f64,
}

async fn at_once(
    many: &[String],
    bus: &Bus,
    gateway: &Gateway,
    cluster: &Cluster,
) -> anyhow::Result<AtOnce> {
    let names: Vec<_> = many.iter().map(String::as_str).collect();
    say(&format!("a deployer with {} targets …", names.len()));
    let deployer = deployer(bus, cluster, "deployer-of-many", &names).await?;
    let mib = |kib: Option<u64>| {
        kib.and_then(|kib| u32::try_from(kib).ok()).map_or(f64::NAN, |kib| f64::from(kib) / 1024.0)
    };
    let idle_mib = mib(deployer.server.resident_kib());
    let ci = gateway.ci();
    let started = Instant::now();
    let tag = Fate::Ready.tag(2);
    let mut ids = Vec::new();
    // The gateway lets one client post this many builds at a time.
    for names in names.chunks(32) {
        ids.extend(try_join_all(names.iter().map(|name| post(&ci, name, &tag))).await?);
    }
    for build in join_all(ids.iter().map(|id| verdict(&ci, id))).await {
        let build = build?;
        ensure!(build["state"] == "succeeded", "{build:#}");
    }
    let (seconds, peak_mib) = (started.elapsed().as_secs_f64(), mib(deployer.server.peak_kib()));
    say(&format!(
        "{seconds:.1} s, {idle_mib:.1} MiB before, {peak_mib:.1} MiB at most; kubectl waits until its ten minutes are over …"
    ));
    Ok(AtOnce { rollouts: names.len(), seconds, idle_mib, peak_mib })
}

fn entered(build: &Value, state: &str) -> anyhow::Result<Time> {
    let transitions = build["rollouts"][0]["transitions"].as_array().context("no transitions")?;
    let found = transitions.iter().find(|transition| transition["state"] == state);
    let at = found
        .and_then(|transition| transition["at"].as_str())
        .with_context(|| format!("never {state}: {build:#}"))?;
    Ok(at.parse()?)
}

fn seconds(time: TimeDelta) -> f64 {
    time.as_seconds_f64()
}

fn millis(time: TimeDelta) -> f64 {
    time.as_seconds_f64() * 1e3
}

fn report(
    args: &Args,
    rounds: usize,
    figures: &Figures,
    mut latencies: Latencies,
    at_once: &AtOnce,
    kubectl_named: f64,
) -> Report {
    let mut report = Report::new("Rollouts");
    report.say(&format!(
        "`cargo xtask bench rollout`: {rounds} rounds of {} rollouts, ours and kubectl's in turns, on one control plane whose pods KWOK plays; \
         1 replica. Median of the rounds' medians (smallest–largest). Times of single rollouts are those of the API server's audit log and of \
         the rollout's own log.",
        args.rollouts
    ));
    report.table(
        &["from the post, or the command, to the word that it is done", "ms"],
        &[
            vec!["deployer".to_owned(), figures.ours.show()],
            vec![
                "`kubectl set image`, `kubectl rollout status`".to_owned(),
                figures.kubectl.show(),
            ],
            vec!["ours ÷ kubectl's".to_owned(), figures.ours.over(&figures.kubectl).show()],
        ],
    );
    let percentiles =
        |values: &mut Vec<f64>| [50.0, 99.0].map(|percent| figure(percentile(values, percent)));
    let [patch_50, patch_99] = percentiles(&mut latencies.to_patch);
    let [verdict_50, verdict_99] = percentiles(&mut latencies.to_verdict);
    report.table(
        &["single rollouts", "p50", "p99"],
        &[
            vec![
                "from the build's receipt to the write in the cluster, ms".to_owned(),
                patch_50,
                patch_99,
            ],
            vec![
                "from the status that decides to the verdict, ms".to_owned(),
                verdict_50,
                verdict_99,
            ],
            vec![
                "requests to the API server, all kinds".to_owned(),
                figure(latencies.requests),
                "–".to_owned(),
            ],
        ],
    );
    report.table(
        &["an image that does not exist, named after", "s"],
        &[
            vec!["deployer".to_owned(), figures.failed.show()],
            vec!["kubectl, with Kubernetes' default, once".to_owned(), figure(kubectl_named)],
            vec!["kubectl's ÷ ours".to_owned(), figure(kubectl_named / figures.failed.median())],
        ],
    );
    let AtOnce { rollouts, seconds, idle_mib, peak_mib } = at_once;
    report.table(
        &[&format!("{rollouts} rollouts at once on {rollouts} targets"), "once"],
        &[
            vec!["until all have succeeded, s".to_owned(), figure(*seconds)],
            vec!["memory of the deployer (RSS) before, MiB".to_owned(), figure(*idle_mib)],
            vec!["at most, MiB".to_owned(), figure(*peak_mib)],
        ],
    );
    report
}

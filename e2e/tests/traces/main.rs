//! One trace from the caller to the last effect, read back from a real Jaeger.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canary;
mod contacts;
mod service;
mod world;

use std::collections::HashSet;

use contacts::Contacts;
use futures::future::join_all;
use testbed::{Fate, Span, eventually};
use world::{Builds, Caller, Trace, add_up, shared};

const PATCH: &str = "PATCH /apis/apps/v1/namespaces/{namespace}/deployments/{name}";
const EVENT: &str = "POST /api/v1/namespaces/{namespace}/events";

/// From the request to the request of a rollout: the same for every build. Gives the span below which it is carried out.
fn planned<'a>(trace: &'a Trace, caller: &Caller) -> &'a Span {
    let http = trace.only("gateway", "POST /api/builds");
    assert_eq!(http.parent.as_deref(), Some(caller.span));
    assert_eq!((http.tag("span.kind"), http.tag("http.route")), ("server", "/api/builds"));
    assert_eq!(http.tag("http.response.status_code"), "202");
    assert!(http.resource["service.version"].starts_with('v'), "{:?}", http.resource);
    let sent = trace.below(http, "send PIPELINE");
    assert_eq!((sent.tag("span.kind"), sent.tag("messaging.system")), ("producer", "nats"));
    add_up(http, &[sent]);
    let plan = trace.below(sent, "process PIPELINE");
    assert_eq!((plan.service.as_str(), plan.tag("span.kind")), ("deployer", "consumer"));
    let accepted = trace.below(plan, "send ROLLOUTS");
    let asked = trace.below(plan, "send DEPLOYS");
    add_up(plan, &[accepted, asked]);
    asked
}

/// The steps of an attempt, by name, without the requests in between.
fn steps<'a>(trace: &'a Trace, attempt: &Span) -> Vec<&'a Span> {
    trace.children(attempt).into_iter().filter(|span| span.tag("span.kind") == "internal").collect()
}

fn names<'a>(spans: &[&'a Span]) -> Vec<&'a str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test]
async fn a_good_build_is_one_trace_down_to_its_verdict() {
    let world = Builds::start("good").await;
    let caller = Caller::new();
    world.application.is(&Fate::Ready.tag(2));
    let id = world.post(&caller, Fate::Ready).await;
    let build = world.build(&id, "a verdict", |build| build["terminal"] == true).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(build["trace_id"], caller.trace);

    let trace = world.trace(&caller).await;
    let asked = planned(&trace, &caller);
    let process = trace.below(asked, "process DEPLOYS");
    let attempt = trace.below(process, "roll out good");
    for (name, value) in [
        ("k8s.namespace.name", "good"),
        ("k8s.deployment.name", "app"),
        ("container.image.tags", &format!("[{:?}]", Fate::Ready.tag(2))),
        ("build.id", &id),
    ] {
        assert_eq!(attempt.tag(name), value, "{name}");
    }
    let steps = steps(&trace, attempt);
    assert_eq!(
        names(&steps),
        ["set image", "watch rollout", "smoke test", "await ArgoCD", "verdict"]
    );
    add_up(attempt, &steps);
    add_up(process, &[attempt]);
    for step in &steps {
        assert_eq!(step.tag("otel.status_code"), "", "{} is no failure", step.name);
    }
    let patch = trace.below(steps[0], PATCH);
    assert_eq!((patch.tag("http.response.status_code"), patch.tag("span.kind")), ("200", "client"));
    let asked: Vec<_> =
        trace.children(steps[2]).into_iter().filter(|span| span.name == "GET").collect();
    assert_eq!(asked.len(), 3);
    add_up(steps[2], &asked);
    // The application goes on in the same trace.
    let told = asked.iter().map(|span| format!("00-{}-{}-01", caller.trace, span.id));
    assert_eq!(world.application.contexts(), told.collect::<Vec<_>>());
    assert_eq!(steps[4].tag("rollout.state"), "succeeded");
    assert_eq!(trace.below(steps[4], EVENT).tag("http.response.status_code"), "201");
    let annotation =
        "jsonpath={.items[?(@.reason==\"RolloutSucceeded\")].metadata.annotations.trace_id}";
    let found = world
        .shared
        .cluster
        .kubectl(&["--namespace", "good", "get", "events", "--output", annotation])
        .await
        .unwrap();
    assert_eq!(found, caller.trace);
}

#[tokio::test]
async fn a_build_that_fails_says_so_where_it_failed() {
    let world = Builds::start("bad").await;
    let caller = Caller::new();
    let id = world.post(&caller, Fate::ImageNotFound).await;
    let build = world.build(&id, "a verdict", |build| build["terminal"] == true).await;
    assert_eq!(build["rollouts"][0]["state"], "rolled_back", "{build:#}");

    let trace = world.trace(&caller).await;
    let process = trace.below(planned(&trace, &caller), "process DEPLOYS");
    let attempt = trace.below(process, "roll out bad");
    let steps = steps(&trace, attempt);
    assert_eq!(names(&steps), ["set image", "watch rollout", "roll back", "verdict"]);
    add_up(attempt, &steps);
    let status =
        |span: &Span| (span.tag("otel.status_code").to_owned(), span.tag("error.type").to_owned());
    let (fine, failed) =
        ((String::new(), String::new()), ("ERROR".to_owned(), "ImagePullBackOff".to_owned()));
    assert_eq!(
        steps.iter().map(|step| status(step)).collect::<Vec<_>>(),
        [fine.clone(), failed.clone(), fine, failed]
    );
    let summary = build["rollouts"][0]["diagnosis"]["summary"].as_str().unwrap();
    assert_eq!(steps[1].tag("otel.status_description"), summary);
    assert_eq!(trace.below(steps[2], PATCH).tag("http.response.status_code"), "200");
}

#[tokio::test]
async fn a_trace_goes_on_after_the_deployer_was_killed() {
    let mut world = Builds::start("killed").await;
    let caller = Caller::new();
    // The smoke test lasts until the application says that it is the new version.
    let id = world.post(&caller, Fate::Ready).await;
    world
        .build(&id, "a smoke test", |build| build["rollouts"][0]["state"] == "smoke_testing")
        .await;
    let jaeger = &world.shared.jaeger;
    let set = |spans: &[Span]| spans.iter().any(|span| span.name == "set image").then_some(());
    jaeger.eventually(&caller.trace, "the image's span", set).await.unwrap();
    world.deployer.kill_and_start_again().unwrap();
    world.application.is(&Fate::Ready.tag(2));
    let build = world.build(&id, "a verdict", |build| build["terminal"] == true).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");

    let trace = world.trace(&caller).await;
    let asked = planned(&trace, &caller);
    // What was open when it was killed is lost; who went on did so below the same request.
    let process = trace.below(asked, "process DEPLOYS");
    let attempt = trace.below(process, "roll out killed");
    assert_eq!(attempt.tag("delivery"), "2");
    let steps = steps(&trace, attempt);
    assert_eq!(names(&steps), ["smoke test", "await ArgoCD", "verdict"]);
    add_up(attempt, &steps);
    // The one before set the image, in the same trace.
    let set = trace.only("deployer", "set image");
    assert!(trace.below(set, PATCH).end() <= process.start);
}

#[tokio::test]
async fn a_contact_is_one_trace_down_to_mongodb() {
    let world = Contacts::start().await;
    let caller = Caller::new();
    world.post(&caller).await;
    world.stored(1).await;
    let jaeger = &shared().await.jaeger;
    let complete = |spans: &[Span]| (spans.len() >= 4).then(|| Trace(spans.to_vec()));
    let trace = jaeger.eventually(&caller.trace, "the spans of a contact", complete).await.unwrap();
    let http = trace.only("gateway", "POST /api/contact");
    assert_eq!(http.parent.as_deref(), Some(caller.span));
    let sent = trace.below(http, "send CONTACTS");
    let process = trace.below(sent, "process CONTACTS");
    let insert = trace.below(process, "insert contacts");
    assert_eq!(
        (process.service.as_str(), insert.service.as_str()),
        ("contact-worker", "contact-worker")
    );
    add_up(http, &[sent]);
    add_up(process, &[insert]);
    for (name, value) in [
        ("db.system.name", "mongodb"),
        ("db.namespace", "portfolio"),
        ("db.collection.name", "contacts"),
        ("db.operation.batch.size", ""),
        ("span.kind", "client"),
    ] {
        assert_eq!(insert.tag(name), value, "{name}");
    }
    assert_eq!(trace.0.len(), 4, "{:#?}", trace.names());
}

#[tokio::test]
async fn the_contacts_of_a_batch_are_linked_to_it() {
    let world = Contacts::start().await;
    let callers: Vec<_> = (0..150).map(|_| Caller::new()).collect();
    // While the bus says nothing, all of them wait, and are committed together when it does again.
    world.nats.server.pause().unwrap();
    let posted = join_all(callers.iter().map(|caller| world.post(caller)));
    let waiting = async {
        let series =
            "http_server_active_requests{http_request_method=\"POST\",http_route=\"/api/contact\"}";
        eventually("all to wait", || async {
            let active = world.gateway.metric(series).await.ok()?;
            (active >= 150.0).then_some(())
        })
        .await;
        world.nats.server.resume().unwrap();
    };
    tokio::join!(posted, waiting);
    world.stored(150).await;
    let jaeger = &shared().await.jaeger;

    // Those of one commit lead to it, and it to them.
    let commits = eventually("a commit of many", || async {
        let found = jaeger.find("gateway", "send group CONTACTS").await.ok()?;
        (!found.is_empty()).then_some(found)
    })
    .await;
    let commit = commits.iter().max_by_key(|span| span.links.len()).unwrap();
    assert!(commit.links.len() >= 16, "{commit:#?}");
    assert_eq!(commit.tag("messaging.batch.message_count"), commit.links.len().to_string());
    let (trace, contact) = &commit.links[0];
    assert!(callers.iter().any(|caller| caller.trace == *trace));
    let linked = |spans: &[Span]| spans.iter().find(|span| span.id == *contact).cloned();
    let sent = jaeger.eventually(trace, "the span of a contact", linked).await.unwrap();
    assert_eq!(sent.name, "send CONTACTS");
    assert!(sent.links.contains(&(commit.trace.clone(), commit.id.clone())), "{sent:#?}");

    // And those that are stored together are linked from there.
    let (process, insert) = eventually("a batch that is stored", || async {
        let found = jaeger.find("contact-worker", "process CONTACTS").await.ok()?;
        let process = found
            .iter()
            .find(|span| span.name == "process CONTACTS" && span.links.len() > 1)?
            .clone();
        let insert = found.iter().find(|span| span.parent.as_ref() == Some(&process.id))?.clone();
        Some((process, insert))
    })
    .await;
    let contacts: HashSet<_> = process.links.iter().map(|(trace, _)| trace).collect();
    assert_eq!(contacts.len(), process.links.len());
    assert!(contacts.iter().all(|trace| callers.iter().any(|caller| caller.trace == **trace)));
    assert_eq!(insert.tag("db.operation.batch.size"), process.links.len().to_string());
    add_up(&process, &[&insert]);
}

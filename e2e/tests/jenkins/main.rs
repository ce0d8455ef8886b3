//! The Jenkinsfile, run by a Groovy runner of ours with its steps for real: against a registry, a gateway, a bus, a deployer,
//! a Kubernetes API and an ArgoCD. What stands in for others: `docker` makes images with one file in place of the program, and
//! the pod of the smoke test runs its command on this machine. The scripts call curl, which is no part of the tools.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows the console then"
)]

mod jenkins;
mod project;
mod scripts;
#[path = "../traces/service.rs"]
mod service;
mod understood;
mod world;

use testbed::{Fate, REGISTRY_PASSWORD, system::CI_TOKEN};

use world::{TRACE, World, follow_with_argocd, shared};

#[tokio::test]
async fn a_push_is_built_and_deployed_and_proposed() {
    let Some(world) = World::start("jenkins-good").await else { return };
    follow_with_argocd(&world).await;
    let tag = world.project.tag(world.next());
    world.application.is(&tag);
    let ended = world.build(&[("ARGOCD_GATE", "true"), ("PROMOTE", "true")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.console);
    for stage in [
        "Version",
        "Tools",
        "Unit tests",
        "Build",
        "Push",
        "Deploy",
        "Smoke test",
        "ArgoCD",
        "Promote",
    ] {
        assert_eq!(ended.stage(stage), "SUCCESS", "{stage}");
    }
    assert_eq!(ended.stage("Deploy with kubectl"), "SKIPPED");
    assert!(ended.console.contains("portfolio-app: succeeded, "), "the console shows the verdict");

    // What runs is what was pushed, by its content.
    let digest = shared().await.registry.digest("mastereflex123/portfolio", &tag).await.unwrap();
    assert_eq!(world.deployed().await, format!("{}@{digest}", world.image(&tag).await));
    for name in ["portfolio-contact-worker", "portfolio-deployer"] {
        shared().await.registry.digest(&format!("mastereflex123/{name}"), &tag).await.unwrap();
    }

    let builds = world.gateway.ci().get("/api/builds").await.unwrap().json();
    let builds = builds["builds"].as_array().unwrap();
    assert_eq!(builds.len(), 2, "the gateway and the worker have targets");
    for build in builds {
        assert_eq!(
            (&build["state"], &build["trace_id"]),
            (&"succeeded".into(), &TRACE.into()),
            "{build:#}"
        );
        assert!(
            build["build"]["commit"].as_str().unwrap().starts_with(tag.rsplit('-').next().unwrap())
        );
        assert_eq!(build["build"]["branch"], "origin/main");
    }
    let asked = world.application.contexts();
    assert!(asked.len() >= 3 && asked.iter().all(|context| context.contains(TRACE)), "{asked:?}");
    let pods = [
        "--namespace",
        world.namespace,
        "get",
        "pods",
        "--selector",
        "app.kubernetes.io/name=smoke-test",
    ];
    assert_eq!(shared().await.cluster.kubectl(&pods).await.unwrap(), "", "the pod is gone");

    // A branch with one commit, which sets our tags and nothing else; the branch that ArgoCD follows is as it was.
    let branch = format!("promote/{tag}");
    let rev = |name: &str| world.project.git(&["rev-parse", name]);
    assert_eq!(rev("gitops-staging"), rev("main"));
    assert_eq!(
        world.project.git(&["rev-list", "--count", &format!("gitops-staging..{branch}")]).trim(),
        "1"
    );
    let diff = world.project.git(&["diff", "--unified=0", "gitops-staging", &branch]);
    let added: Vec<_> =
        diff.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++")).collect();
    assert_eq!(added, vec![format!("+    newTag: {tag}"); 3]);
    assert!(!world.docker_calls().contains("push --force"));

    // The same image once more: nothing is built, the verdict is the same, and what is proposed already stays.
    let again = world.build(&[("DEPLOY_ONLY", "true"), ("TAG", &tag), ("PROMOTE", "true")]).await;
    assert_eq!(
        (again.code, again.stage("Build"), again.stage("Deploy")),
        (Some(0), "SKIPPED", "SUCCESS")
    );
    assert!(again.console.contains("is proposed already"), "{}", again.console);
}

#[tokio::test]
async fn a_tag_that_names_no_build_is_stopped_where_it_would_be_built_and_where_it_would_be_deployed()
 {
    let Some(world) = World::start("jenkins-latest").await else { return };
    let before = world.deployed().await;
    let words = "the tag 'latest' names no build: one like v42-abc1234 does";
    world.build(&[("TAG", "latest")]).await.is_red_at("Build", words);
    let deploy = [("TAG", "latest"), ("DEPLOY_ONLY", "true")];
    world.build(&deploy).await.is_red_at("Deploy", words);
    let kubectl = [("TAG", "latest"), ("DEPLOY_ONLY", "true"), ("DEPLOY_WITH", "kubectl")];
    world.build(&kubectl).await.is_red_at("Deploy with kubectl", words);
    assert!(!world.docker_calls().contains("docker build"), "{}", world.docker_calls());
    assert_eq!(world.deployed().await, before);
}

#[tokio::test]
async fn tests_that_fail_stop_it_before_anything_is_built() {
    let Some(world) = World::start("jenkins-tests").await else { return };
    world.project.write("src/lib.rs", "#[test]\nfn it_holds() {\n    assert_eq!(1 + 1, 3);\n}\n");
    world.build(&[]).await.is_red_at("Unit tests", "test it_holds ... FAILED");
    assert!(!world.docker_calls().contains("docker build"), "{}", world.docker_calls());
}

#[tokio::test]
async fn a_rollout_that_fails_is_red_and_undone() {
    let Some(world) = World::start("jenkins-rollout").await else { return };
    let before = world.deployed().await;
    let tag = Fate::ImageNotFound.tag(2);
    world.build(&[("TAG", &tag)]).await.is_red_at("Deploy", "cannot be pulled");
    assert_eq!(world.deployed().await, before);
}

#[tokio::test]
async fn wrong_credentials_are_named_where_they_are_used() {
    let Some(world) = World::start("jenkins-credentials").await else { return };
    let wrong = world.build_with(&[], ["wrong-password", CI_TOKEN]).await;
    wrong.is_red_at("Push", "refuses the login of jenkins");
    let wrong = world.build_with(&[], [REGISTRY_PASSWORD, "wrong-token"]).await;
    wrong.is_red_at("Deploy", "the gateway refuses: HTTP 401");
    let missing = world.build_with(&[], [REGISTRY_PASSWORD, ""]).await;
    missing.is_red_at("Deploy", "Could not find credentials entry with ID 'deploy-token'");
}

#[tokio::test]
async fn a_version_that_does_not_answer_is_red_after_its_deployment() {
    let Some(world) = World::start("jenkins-smoke").await else { return };
    world.application.is("v1-0000001");
    world.build(&[]).await.is_red_at("Smoke test", "did not answer at http://127.0.0.1:");
}

#[tokio::test]
async fn without_a_deployer_kubectl_deploys_and_goes_back() {
    let Some(world) = World::start("jenkins-kubectl").await else { return };
    world.without_a_deployer().await;
    let kubectl = ("DEPLOY_WITH", "kubectl");
    let tag = world.project.tag(world.next());
    world.application.is(&tag);
    let good = world.build(&[kubectl]).await;
    assert_eq!(
        (good.code, good.stage("Deploy with kubectl")),
        (Some(0), "SUCCESS"),
        "{}",
        good.console
    );
    let before = world.deployed().await;
    assert!(before.starts_with(&world.image(&tag).await), "{before}");

    let bad = world
        .build(&[kubectl, ("TAG", &Fate::ImageNotFound.tag(3)), ("SMOKE_TEST", "false")])
        .await;
    bad.is_red_at("Deploy with kubectl", "did not come up within 60s; back to");
    assert_eq!(world.deployed().await, before);
}

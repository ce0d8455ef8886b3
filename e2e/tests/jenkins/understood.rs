//! What the runner makes of other Jenkinsfiles: it refuses what Jenkins would not know, so that ours is known to be understood.

use testbed::Scratch;

use crate::{
    jenkins::{Ended, Job, run},
    project::Project,
};

/// Runs another Jenkinsfile.
async fn run_text(text: &str) -> Ended {
    let scratch = Scratch::new().unwrap();
    let project = Project::new(scratch.folder("project").unwrap(), "localhost/portfolio");
    project.write("Jenkinsfile", text);
    let credentials = [("token", "string", [("secret", "hunter2hunter2")].as_slice())];
    let workspace = scratch.path().join("workspace");
    let (parameters, environment) = (&[], &[]);
    let job = Job {
        repository: project.path(),
        workspace,
        number: 1,
        parameters,
        credentials: &credentials,
        environment,
    };
    run(job).await
}

fn stage(steps: &str) -> String {
    format!("pipeline {{ agent any; stages {{ stage('A') {{ steps {{ {steps} }} }} }} }}")
}

#[tokio::test]
async fn what_jenkins_would_not_know_is_refused() {
    let with = |section: &str| {
        format!(
            "pipeline {{ agent any; {section}; stages {{ stage('A') {{ steps {{ sh 'true' }} }} }} }}"
        )
    };
    for (text, said) in [
        (stage("cleanWs()"), "there is no step cleanWs"),
        (stage("sh 'true', 3"), "there is no sh(String, Integer)"),
        (stage("sh script: 'true', returnStdOut: true"), "there is no returnStdOut"),
        (stage("if (true) { sh 'true' }"), "Groovy has to stand in script { }"),
        (stage(""), "there is no step in steps { }"),
        (with("options { timestamps() }"), "there is no timestamps()"),
        (with("options { timeout(time: 1, unit: 'FORTNIGHTS') }"), "FORTNIGHTS is none of"),
        (with("triggers { gitHubPush() }"), "there is no gitHubPush()"),
        (with("tools { }"), "there is no tools"),
        (
            "pipeline { stages { stage('A') { steps { sh 'true' } } } }".to_owned(),
            "agent { } is missing",
        ),
        ("println 'x'".to_owned(), "one pipeline { } and nothing else"),
        (
            stage(
                "withCredentials([string(credentialsId: 'token', variable: 'T')]) { sh \"echo ${env.T}\" }",
            ),
            "a secret is in its text",
        ),
    ] {
        let ended = run_text(&text).await;
        assert_eq!(ended.code, Some(2), "{text}\n{}", ended.console);
        assert!(ended.console.contains(said), "{text}\n{}", ended.console);
    }
}

#[tokio::test]
async fn secrets_are_masked_and_times_are_kept() {
    let text = "pipeline { agent any; stages {
        stage('Secret') { steps { withCredentials([string(credentialsId: 'token', variable: 'T')]) { sh 'echo it is $T' } } }
        stage('Slow') { options { timeout(time: 1, unit: 'SECONDS') }; steps { sh 'sleep 100' } }
        stage('Later') { steps { sh 'true' } }
    }; post { aborted { echo 'it was aborted' } success { echo 'it was fine' } } }";
    let ended = run_text(text).await;
    assert_eq!((ended.code, ended.stage("Secret")), (Some(1), "SUCCESS"), "{}", ended.console);
    assert_eq!(
        (ended.stage("Slow"), ended.stage("Later")),
        ("ABORTED", "NOT RUN"),
        "{}",
        ended.console
    );
    assert!(
        ended.console.contains("it is ****\n") && !ended.console.contains("hunter2"),
        "{}",
        ended.console
    );
    assert!(
        ended.console.contains("it was aborted\n") && !ended.console.contains("it was fine"),
        "{}",
        ended.console
    );
}

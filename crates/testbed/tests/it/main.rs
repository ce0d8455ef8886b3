//! The real servers start, answer, survive a kill, and leave nothing behind.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use bson::doc;
use testbed::{Cluster, Mongo, Nats, Scratch, eventually};

#[tokio::test]
async fn nats_is_ours_and_keeps_its_port_over_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut nats = Nats::start(scratch.path()).await.unwrap();
    let url = nats.url();
    nats.server.kill();
    nats.start_again().await.unwrap();
    assert_eq!(nats.url(), url);
    let status = nats.server.stop(Duration::from_secs(10)).await.unwrap();
    assert!(status.code().is_some_and(|code| code <= 1), "{status}");
}

#[tokio::test]
async fn mongod_takes_writes_and_keeps_them_over_a_kill() {
    let scratch = Scratch::new().unwrap();
    let mut mongo = Mongo::start(scratch.path()).await.unwrap();
    mongo.collection("test", "things").await.unwrap().insert_one(doc! {"_id": 1}).await.unwrap();
    mongo.server.kill();
    mongo.start_again().await.unwrap();
    let found =
        mongo.collection("test", "things").await.unwrap().find_one(doc! {"_id": 1}).await.unwrap();
    assert_eq!(found, Some(doc! {"_id": 1}));
}

#[tokio::test]
async fn the_control_plane_runs_pods_by_the_fate_in_their_image() {
    let scratch = Scratch::new().unwrap();
    let mut cluster = Cluster::start(scratch.path()).await.unwrap();
    cluster.kubectl(&["create", "deployment", "good", "--image=a/b:v1-abc1234"]).await.unwrap();
    cluster.kubectl(&["create", "deployment", "bad", "--image=a/b:v1-bad01234"]).await.unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/good", "--timeout=20s"]).await.unwrap();
    let status = cluster.kubectl(&["rollout", "status", "deployment/bad", "--timeout=1s"]).await;
    assert!(status.unwrap_err().to_string().contains("timed out waiting"));

    cluster.api_server.kill();
    cluster.start_api_server_again().await.unwrap();
    cluster.kubectl(&["set", "image", "deployment/bad", "b=a/b:v2-abc1234"]).await.unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/bad", "--timeout=20s"]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_at_once() {
    let scratch = Scratch::new().unwrap();
    let blocked = scratch.path().join("jetstream");
    std::fs::write(&blocked, "a file where the folder should be").unwrap();
    let error = Nats::start(scratch.path()).await.unwrap_err().to_string();
    assert!(error.contains("nats-server ended with exit status: 1; its last lines:\n"), "{error}");
}

#[tokio::test]
async fn nothing_outlives_a_killed_process() {
    let program =
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/holder");
    let mut holder =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (pid, folder) = line.trim().split_once(' ').unwrap();
    let (process, folder) = (PathBuf::from(format!("/proc/{pid}")), PathBuf::from(folder));
    assert!(process.is_dir() && folder.is_dir());

    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("no process and no folder", || {
        std::future::ready((!process.exists() && !folder.exists()).then_some(()))
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends_with_its_condition() {
    let mut asked = 0;
    let answer = eventually("three questions", || {
        asked += 1;
        std::future::ready((asked == 3).then_some("yes"))
    });
    assert_eq!(answer.await, "yes");
}

//! Start and end of the process.

use std::{fs, time::Duration};

use testbed::{Gateway, Scratch, Server, eventually};

use crate::world::{World, build, contact};

#[tokio::test]
async fn a_wrong_configuration_is_one_line_that_names_the_variable() {
    let scratch = Scratch::new().unwrap();
    let spec = Gateway::spec(&scratch.folder("gateway").unwrap(), "nats://127.0.0.1:4").unwrap();
    let bad_tokens = scratch.path().join("bad.yaml");
    fs::write(&bad_tokens, "tokens:\n  - { name: a, role: root, sha256: x }\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (index, (variable, value)) in [
        ("LISTEN_ADDR", "8080"),
        ("LISTEN_ADDR", taken.as_str()),
        ("ADMIN_ADDR", "nowhere"),
        ("SHUTDOWN_GRACE", "5"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
        ("NATS_URL", "http//x y"),
        ("TOKENS_FILE", "/does/not/exist"),
        ("TOKENS_FILE", bad_tokens.to_str().unwrap()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut spec = spec.clone().env("ADMIN_ADDR", "127.0.0.1:0").env(variable, value);
        spec.name = format!("gateway-{index}");
        let mut server = Server::start(spec).unwrap();
        let status = server.wait(Duration::from_secs(5)).await.unwrap();
        let log = server.log();
        assert_eq!(status.code(), Some(64), "{variable}={value}: {log}");
        let lines: Vec<_> = log.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(lines.len() == 1 && lines[0].starts_with(variable), "{variable}={value}: {log}");
    }
}

#[tokio::test]
async fn a_shutdown_answers_what_was_begun_and_exits_with_0() {
    let mut world = World::start().await;
    let id =
        world.gateway.ci().post_json("/api/builds", &build()).await.unwrap().json()["id"].clone();
    // Nobody plans it here, so the wait would go on for a minute.
    let ci = world.gateway.ci();
    let path = format!("/api/builds/{}?wait=60s", id.as_str().unwrap());
    let waiting = tokio::spawn(async move { ci.get(&path).await });
    let active =
        r#"http_server_active_requests{http_request_method="GET",http_route="/api/builds/{id}"} "#;
    eventually("the wait to begin", || async {
        (world.gateway.metric(active).await.ok()? > 0.5).then_some(())
    })
    .await;
    let status = world.gateway.server.stop(Duration::from_secs(8)).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &"pending".into()));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut world = World::start().await;
    // A request that takes its time keeps the first signal from ending it.
    let address = world.gateway.url.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = "POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let active =
        r#"http_server_active_requests{http_request_method="POST",http_route="/api/contact"} "#;
    eventually("the request to begin", || async {
        (world.gateway.metric(active).await.ok()? > 0.5).then_some(())
    })
    .await;
    world.gateway.server.signal(rustix::process::Signal::TERM).unwrap();
    eventually("the drain", || async {
        (world.gateway.admin.get("/readyz").await.ok()?.json()["dependencies"]["process"]["ready"]
            == false)
            .then_some(())
    })
    .await;
    world.gateway.server.signal(rustix::process::Signal::TERM).unwrap();
    let status = world.gateway.server.wait(Duration::from_secs(2)).await.unwrap();
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn tokens_are_read_again_when_their_file_changes() {
    let world = World::start().await;
    let file = world.scratch.path().join("gateway/tokens.yaml");
    let only_another = "tokens:\n  - { name: b, role: ci, sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b }\n";
    fs::write(&file, only_another).unwrap();
    let secret = world.gateway.http.bearer("secret");
    eventually("the new token", || async {
        (secret.post_json("/api/builds", &build()).await.ok()?.status == 202).then_some(())
    })
    .await;
    assert_eq!(world.gateway.ci().post_json("/api/builds", &build()).await.unwrap().status, 401);
    fs::write(&file, "nonsense: [").unwrap();
    eventually("a complaint", || async {
        world.gateway.server.log().contains("the tokens stay as they were").then_some(())
    })
    .await;
    assert_eq!(secret.post_json("/api/builds", &build()).await.unwrap().status, 202);
}

#[tokio::test]
async fn metrics_name_routes_and_never_paths() {
    let world = World::start().await;
    for path in ["/health", "/a/made/up/path", "/api/builds/x"] {
        world.gateway.ci().get(path).await.unwrap();
    }
    world.gateway.http.post_json("/api/contact", &contact()).await.unwrap();
    let text = world.gateway.admin.get("/metrics").await.unwrap().text();
    for series in [
        r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/health"} 1"#,
        r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="unmatched"} 1"#,
        r#"http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",http_route="/api/builds/{id}"} 1"#,
        "contacts_accepted_total 1",
        "build_info{version=",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(series), "{series} in\n{text}");
    }
    assert!(!text.contains("made"));
}

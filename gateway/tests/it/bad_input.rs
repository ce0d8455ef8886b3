//! Whatever is sent: a clear 4xx, never a 5xx, and nothing on the bus.

use std::time::Duration;

use serde_json::json;
use testbed::http::Answer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{World, build};

fn assert_problem(answer: &Answer, status: u16, detail: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
    assert!(
        problem["title"].is_string() && problem["detail"].as_str().unwrap().contains(detail),
        "{text}"
    );
    assert!(
        !answer.header("x-request-id").is_empty() && answer.header("traceresponse").len() == 55
    );
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let world = World::start().await;
    let http = &world.gateway.http;
    let deep = "[".repeat(10_000);
    for (content_type, body, status, detail) in [
        ("application/json", "{\n  \"name\": }", 400, "line 2 column 11"),
        ("application/json", "", 400, "line 1 column 0"),
        ("application/json", "{\"name\": \"\\ud800\"}", 400, "line 1 column"),
        ("application/json", deep.as_str(), 400, "recursion limit exceeded"),
        ("text/plain", "hello", 415, "application/json or application/x-www-form-urlencoded"),
        ("application/xml", "<a/>", 415, "application/json"),
        ("application/json", "[]", 422, "see `errors`"),
    ] {
        let answer = http.post("/api/contact", content_type, body.to_owned()).await.unwrap();
        assert_problem(&answer, status, detail);
    }
    let bytes = http
        .post("/api/contact", "application/json", &b"{\"name\": \"\xff\xfe\"}"[..])
        .await
        .unwrap();
    assert_problem(&bytes, 400, "not JSON");
    let form =
        http.post("/api/builds", "application/x-www-form-urlencoded", "job=x").await.unwrap();
    assert_problem(&form, 401, "token");
    let form = world
        .gateway
        .ci()
        .post("/api/builds", "application/x-www-form-urlencoded", "job=x")
        .await
        .unwrap();
    assert_problem(&form, 415, "application/json");
    assert_eq!(world.messages("CONTACTS").await + world.messages("PIPELINE").await, 0);
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let world = World::start().await;
    let body = json!({"name": "a\u{0}b", "email": "nobody", "subject": 7});
    let answer = world.gateway.http.post_json("/api/contact", &body).await.unwrap();
    assert_problem(&answer, 422, "see `errors`");
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<_> =
        errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/name", "/email", "/subject", "/message"]);
    assert!(!answer.text().contains("nobody"), "contact data is not repeated: {}", answer.text());

    let mut wrong = build();
    wrong["image"] = "a/b:latest".into();
    let answer = world.gateway.ci().post_json("/api/builds", &wrong).await.unwrap();
    assert_problem(&answer, 422, "see `errors`");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/image");
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read() {
    let world = World::start().await;
    let address = world.gateway.url.trim_start_matches("http://").to_owned();
    // 10 GB are announced, and not one byte of them is sent.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = "POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(3), stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");

    // Nothing is announced, and more than 64 KiB come.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = "POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // The gateway may hang up in the middle, having said why.
    let _ = stream.write_all(format!("{chunk}{chunk}").as_bytes()).await;
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(3), stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn http_1_and_http_2_are_told_apart_however_they_begin() {
    let world = World::start().await;
    let address = world.gateway.url.trim_start_matches("http://");
    // An HTTP/2 server begins with its settings, of which there are few: the first bytes are the upper ones of their length.
    let (http1, http2) = (&b"HTTP/1.1 "[..], &b"\0\0"[..]);
    for (first, rest, expected) in [
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "", http1),
        ("G", "ET /health HTTP/1.1\r\nHost: x\r\n\r\n", http1),
        ("P", "OST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", http1),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "", http2),
        ("PR", "I * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", http2),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        // Long enough to be read by itself; if it is not, the case is the one before.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, expected, "{first:?} {rest:?}");
    }
    // Who says nothing is no reason to stay: a shutdown does not wait for it.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut world = world;
    assert!(world.gateway.server.stop(Duration::from_secs(10)).await.unwrap().success());
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_taken_is_a_problem_too() {
    let world = World::start().await;
    let (http, ci) = (&world.gateway.http, world.gateway.ci());
    assert_problem(&http.get("/nowhere").await.unwrap(), 404, "nothing at this path");
    let answer = http.get("/api/contact").await.unwrap();
    assert_problem(&answer, 405, "does not take this method");
    assert_eq!(answer.header("allow"), "POST");
    for id in ["x", "01980000-0000-7000-8000-000000000001", "%00", "%F0%28"] {
        let answer = ci.get(&format!("/api/builds/{id}")).await.unwrap();
        assert_problem(&answer, 404, "no such build");
    }
    for wait in ["61s", "soon", "", "-1s"] {
        let answer = ci.get(&format!("/api/builds/x?wait={wait}")).await.unwrap();
        assert_problem(&answer, 400, "at most 60s");
    }
}

#[tokio::test]
async fn only_a_token_of_the_right_role_posts_builds() {
    let world = World::start().await;
    let http = &world.gateway.http;
    for (client, status) in [
        (http.clone(), 401),
        (http.bearer("wrong"), 401),
        (http.bearer(testbed::system::OPERATOR_TOKEN), 403),
        (http.bearer(testbed::system::CI_TOKEN), 202),
    ] {
        let answer = client.post_json("/api/builds", &build()).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
    }
    assert_problem(&http.get("/api/builds/x").await.unwrap(), 401, "a token is required");
    assert_eq!(world.messages("PIPELINE").await, 1);
}

#[tokio::test]
async fn a_browsers_form_gets_a_page_and_keeps_what_was_typed() {
    let world = World::start().await;
    let browser = world.gateway.http.with("accept", "text/html,application/xhtml+xml");
    let form = "application/x-www-form-urlencoded";
    let answer =
        browser.post("/api/contact", form, "name=Ada&email=nobody&message=a%3Cb%3E").await.unwrap();
    assert_eq!(answer.status, 422);
    let page = answer.text();
    assert!(
        page.contains(r#"value="Ada""#)
            && page.contains("a&#60;b&#62;")
            && page.contains("not an e-mail address"),
        "{page}"
    );

    let answer = browser
        .post("/api/contact", form, "name=Ada&email=ada%40example.org&message=one%0D%0Atwo")
        .await
        .unwrap();
    assert_eq!(answer.status, 202);
    assert!(answer.text().contains("safely stored"));
    let stream = world.jetstream().await.get_stream("CONTACTS").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(event["contacts"][0]["message"], "one\ntwo");

    // The same without a browser is answered with JSON.
    let answer = world
        .gateway
        .http
        .post("/api/contact", form, "name=Ada&email=ada%40example.org&message=x")
        .await
        .unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (202, "application/json"));

    let page = browser.get("/").await.unwrap();
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(!page.text().contains("<script"));
}

#[tokio::test]
async fn a_client_that_trickles_is_cut_off() {
    let world = World::start().await;
    let address = world.gateway.url.trim_start_matches("http://").to_owned();
    let trickle = |head: &'static str| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let writing = tokio::spawn(async move {
                while writer.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
            let mut answer = Vec::new();
            let end =
                tokio::time::timeout(Duration::from_secs(25), reader.read_to_end(&mut answer))
                    .await;
            assert!(end.is_ok(), "the connection is still open");
            writing.abort();
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    let (head, body) = tokio::join!(
        trickle("GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        trickle(
            "POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        ),
    );
    assert!(!head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
}

#[tokio::test]
async fn the_longest_name_of_a_job_fits_the_bus() {
    let world = World::start().await;
    let mut body = build();
    body["job"] = "🙂".repeat(200).into();
    let answer = world.gateway.ci().post_json("/api/builds", &body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let shown = world.gateway.ci().get(&format!("/api/builds/{id}")).await.unwrap().json();
    assert_eq!(shown["build"]["job"], body["job"]);
    body["job"] = "x".repeat(201).into();
    assert_eq!(world.gateway.ci().post_json("/api/builds", &body).await.unwrap().status, 422);
}

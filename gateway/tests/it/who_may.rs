//! Who may what: each route, with no token, a wrong one, one of CI and one of an operator.

use http::{Method, header};
use testbed::{
    http::Client,
    system::{CI_TOKEN, OPERATOR_TOKEN},
};

use crate::world::{World, build};

const BUILD: &str = "01980000-0000-7000-8000-000000000001";

/// Method, path, body, and what is answered to nobody, to a wrong token, to CI and to an operator. Where a token passes, what
/// is asked for is not there: 404 tells that the door was open.
const API: [(&str, &str, [u16; 4]); 12] = [
    ("GET", "/api/builds", [401, 401, 200, 200]),
    ("GET", "/api/builds/BUILD", [401, 401, 404, 404]),
    ("GET", "/api/builds/BUILD?wait=1s", [401, 401, 404, 404]),
    ("POST", "/api/builds", [401, 401, 422, 403]),
    ("POST", "/api/builds?dry_run=true", [401, 401, 422, 403]),
    ("POST", "/api/builds/BUILD/force", [401, 401, 403, 404]),
    ("GET", "/api/targets", [401, 401, 200, 200]),
    ("GET", "/api/targets/none", [401, 401, 404, 404]),
    ("POST", "/api/targets/none/freeze", [401, 401, 403, 404]),
    ("DELETE", "/api/targets/none/freeze", [401, 401, 403, 404]),
    ("POST", "/api/targets/none/rollback", [401, 401, 403, 404]),
    ("GET", "/api/rollouts/events", [401, 401, 200, 200]),
];

/// Open to everybody.
const OPEN: [&str; 6] = [
    "/",
    "/health",
    "/assets/style.css",
    "/assets/icon.svg",
    "/assets/board.css",
    "/rollouts/sign-in",
];

/// The board: what is answered to a browser that is not signed in, signed in with a wrong token, as CI, and as an operator.
const BOARD: [(&str, &str, [u16; 4]); 8] = [
    ("GET", "/rollouts", [303, 303, 200, 200]),
    ("GET", "/rollouts/builds/BUILD", [303, 303, 404, 404]),
    ("GET", "/rollouts/live", [401, 401, 200, 200]),
    ("POST", "/rollouts/builds/BUILD/force", [303, 303, 403, 404]),
    ("POST", "/rollouts/targets/none/freeze", [303, 303, 403, 404]),
    ("POST", "/rollouts/targets/none/resume", [303, 303, 403, 404]),
    ("POST", "/rollouts/targets/none/rollback", [303, 303, 403, 404]),
    ("POST", "/rollouts/sign-out", [303, 303, 303, 303]),
];

async fn status(client: &Client, method: &str, path: &str, body: &str) -> u16 {
    let path = path.replace("BUILD", BUILD);
    client.status(method.parse::<Method>().unwrap(), &path, body.to_owned()).await.unwrap().as_u16()
}

#[tokio::test]
async fn each_route_of_the_api_asks_who_it_is() {
    let world = World::start().await;
    let http = world.gateway.http.with(header::CONTENT_TYPE.as_str(), "application/json");
    let clients =
        [http.clone(), http.bearer("wrong"), http.bearer(CI_TOKEN), http.bearer(OPERATOR_TOKEN)];
    for (method, path, expected) in API {
        let body = if path.starts_with("/api/builds?") || path == "/api/builds" {
            "{}"
        } else {
            r#"{"reason": "x"}"#
        };
        for (client, expected) in clients.iter().zip(expected) {
            assert_eq!(status(client, method, path, body).await, expected, "{method} {path}");
        }
    }
    for path in OPEN {
        assert_eq!(status(&http, "GET", path, "").await, 200, "{path}");
    }
    // A token in the path is CI's, whatever is in the headers.
    for (token, expected) in [("wrong", 401), (OPERATOR_TOKEN, 403), (CI_TOKEN, 202)] {
        let answer = http
            .bearer(OPERATOR_TOKEN)
            .post_json(&format!("/api/builds/hooks/{token}"), &build())
            .await;
        assert_eq!(answer.unwrap().status, expected, "{token}");
    }
    assert!(!world.gateway.server.log().contains(CI_TOKEN), "a token is in the log");
}

/// A browser that is signed in with a token.
async fn browser(world: &World, token: &str) -> Client {
    let http = world.gateway.http.with("origin", &world.gateway.url);
    let form = format!("token={token}&next=%2Frollouts");
    let answer =
        http.post("/rollouts/sign-in", "application/x-www-form-urlencoded", form).await.unwrap();
    let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    http.with("cookie", &cookie)
        .with(header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")
}

#[tokio::test]
async fn each_page_of_the_board_asks_who_it_is() {
    let world = World::start().await;
    let none = world.gateway.http.with("origin", &world.gateway.url);
    let clients = [
        none.with(header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"),
        browser(&world, "wrong").await,
        browser(&world, CI_TOKEN).await,
        browser(&world, OPERATOR_TOKEN).await,
    ];
    for (method, path, expected) in BOARD {
        for (client, expected) in clients.iter().zip(expected) {
            assert_eq!(status(client, method, path, "reason=x").await, expected, "{method} {path}");
        }
    }
    // A cookie opens no door of the API, where no origin is asked for.
    assert_eq!(status(&clients[3], "GET", "/api/builds", "").await, 401);
}

#[tokio::test]
async fn another_site_cannot_use_the_cookie() {
    let world = World::start().await;
    let operator = browser(&world, OPERATOR_TOKEN).await;
    let path = "/rollouts/targets/none/freeze";
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")]
    {
        assert_eq!(
            status(&operator.with(name, value), "POST", path, "reason=x").await,
            403,
            "{name}: {value}"
        );
    }
    let again = operator
        .with("cookie", "")
        .with("sec-fetch-site", "cross-site")
        .get("/rollouts")
        .await
        .unwrap();
    assert_eq!(
        (again.status.as_u16(), again.header("refresh")),
        (200, "0"),
        "a link from elsewhere works"
    );
    let answer = operator.get("/rollouts").await.unwrap();
    assert!(
        answer
            .header("content-security-policy")
            .starts_with("default-src 'none'; style-src 'self'; script-src")
    );
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_token_that_is_taken_away_is_signed_out() {
    let world = World::start().await;
    let operator = browser(&world, OPERATOR_TOKEN).await;
    assert_eq!(status(&operator, "GET", "/rollouts", "").await, 200);
    let file = world.scratch.folder("gateway").unwrap().join("tokens.yaml");
    std::fs::write(file, "tokens: []").unwrap();
    testbed::eventually("signed out", || async {
        (status(&operator, "GET", "/rollouts", "").await == 303).then_some(())
    })
    .await;
}

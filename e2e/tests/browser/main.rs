//! What people do in a browser: write a contact, and watch and decide about rollouts. Chromium is no part of the tools: where it
//! is missing, this says so and passes, unless `REQUIRE_BROWSER` is set.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod world;

use std::{fs, path::PathBuf};

use serde_json::json;
use testbed::{
    Fate, Gateway, Nats, Scratch,
    browser::{self, Browser, Theme},
    eventually,
    system::OPERATOR_TOKEN,
};

use world::{Builds, cluster};

fn can_run() -> bool {
    testbed::can_run(browser::is_there(), "chromium and chromedriver", "REQUIRE_BROWSER")
}

/// Where pictures go, if somebody wants them.
#[expect(clippy::disallowed_methods, reason = "for whoever wants to look at the pages")]
fn pictures() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("PICTURES_FOLDER")?);
    fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

/// Looks at the page at both widths: nothing is out of reach, and everybody can use it.
async fn inspect(browser: &Browser, page: &str, theme: Theme) {
    for (width, height) in [(360, 800), (1_600, 1_000)] {
        browser.resize(width, height).await.unwrap();
        let violations = browser.accessibility().await.unwrap();
        assert!(violations.is_empty(), "{page}, {width} px, {theme:?}: {violations:#?}");
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(
            browser.run(script).await.unwrap(),
            json!(0),
            "{page} scrolls sideways at {width} px"
        );
        if let Some(folder) = pictures() {
            let name = format!("{page}-{width}-{theme:?}.png").to_lowercase();
            browser.screenshot(&folder.join(name)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_contact_is_written_with_and_without_scripts() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new().unwrap();
    let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
    let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
    for (theme, scripts) in [(Theme::Light, true), (Theme::Dark, false)] {
        let folder = scratch.folder(&format!("browser-{scripts}")).unwrap();
        let browser = Browser::start(&folder, theme, scripts).await.unwrap();
        browser.open(&gateway.url).await.unwrap();
        if scripts {
            inspect(&browser, "contact", theme).await;
        }
        // The browser takes it, and the gateway does not: an address needs a domain with a dot, or is none at all.
        // The browser takes a name of spaces, and the gateway does not.
        browser.type_into("#name", "   ").await.unwrap();
        browser.type_into("#email", "ada@example.org").await.unwrap();
        browser.type_into("#message", "Hello, and a second line").await.unwrap();
        browser.click("button[type=submit]").await.unwrap();
        browser.shows("#name-error", "required").await.unwrap();
        if scripts {
            inspect(&browser, "contact-error", theme).await;
            let kept =
                browser.run("return document.getElementById('message').value").await.unwrap();
            assert_eq!(kept, "Hello, and a second line");
        }
        browser.clear("#name").await.unwrap();
        browser.type_into("#name", "Ada").await.unwrap();
        browser.click("button[type=submit]").await.unwrap();
        browser.shows("h1", "Thank you").await.unwrap();
        if scripts {
            inspect(&browser, "thanks", theme).await;
        }
        browser.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_operator_watches_decides_and_goes_back() {
    if !can_run() {
        return;
    }
    let world = Builds::start(cluster().await, "browser", "60s").await;
    for tag in ["v2-abc1234", "v3-abc1234"] {
        let build = world.verdict(&world.post(tag).await).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
    }
    let folder = world.scratch.folder("browser").unwrap();
    let browser = Browser::start(&folder, Theme::Light, true).await.unwrap();
    browser.open(&format!("{}/rollouts", world.gateway.url)).await.unwrap();
    browser.type_into("#token", "wrong").await.unwrap();
    browser.click("main button[type=submit]").await.unwrap();
    browser.shows("#token-error", "not known").await.unwrap();
    inspect(&browser, "sign-in", Theme::Light).await;
    browser.type_into("#token", OPERATOR_TOKEN).await.unwrap();
    browser.click("main button[type=submit]").await.unwrap();
    browser.shows("#target-portfolio", "v3-abc1234").await.unwrap();
    browser.shows("#live", "Live").await.unwrap();

    // A rollout that fails, live: the page is not loaded again.
    browser.run("window.loaded = 'once'").await.unwrap();
    let bad = world.post(&Fate::ImageNotFound.tag(4)).await;
    browser.shows("#target-portfolio", "Progressing").await.unwrap();
    browser.shows("#target-portfolio", "Failed").await.unwrap();
    browser.shows("#target-portfolio", "ImagePullBackOff").await.unwrap();
    browser.shows(&format!("#row-{bad}-portfolio"), "Failed").await.unwrap();
    assert_eq!(browser.run("return window.loaded").await.unwrap(), "once");
    inspect(&browser, "board", Theme::Light).await;

    // Frozen, and resumed.
    browser.click("#acts-portfolio details:first-of-type summary").await.unwrap();
    browser.type_into("#freeze-reason-portfolio", "until it is mended").await.unwrap();
    browser.click("#acts-portfolio details[open] button").await.unwrap();
    browser.shows("#target-portfolio", "Frozen by ana").await.unwrap();
    browser.shows("#target-portfolio", "until it is mended").await.unwrap();
    let rejected = world.verdict(&world.post("v5-abc1234").await).await;
    assert_eq!(rejected["state"], "rejected", "{rejected:#}");
    inspect(&browser, "board-frozen", Theme::Light).await;
    browser.click("#acts-portfolio details:first-of-type summary").await.unwrap();
    browser.click("#acts-portfolio details[open] button").await.unwrap();
    browser.shows(".notice", "takes builds again").await.unwrap();

    // Back to the last good one; its page follows it to the end.
    browser.click("#acts-portfolio details:last-of-type summary").await.unwrap();
    browser.type_into("#back-reason-portfolio", "v4 has no image").await.unwrap();
    browser.click("#acts-portfolio details[open] button").await.unwrap();
    browser.shows("#head-portfolio", "Succeeded").await.unwrap();
    browser.shows("main", "v4 has no image").await.unwrap();
    inspect(&browser, "build", Theme::Light).await;
    browser.open(&format!("{}/rollouts/builds/{bad}", world.gateway.url)).await.unwrap();
    browser.shows("#why-portfolio", "ImagePullBackOff").await.unwrap();
    inspect(&browser, "build-failed", Theme::Light).await;
    let console = browser.console().await.unwrap();
    let bad_line =
        |line: &&String| line.contains("Content Security Policy") || line.contains("Uncaught");
    assert_eq!(console.iter().find(bad_line), None, "{console:#?}");
    browser.close().await.unwrap();

    let dark = Browser::start(&world.scratch.folder("browser-dark").unwrap(), Theme::Dark, true)
        .await
        .unwrap();
    dark.open(&format!("{}/rollouts/builds/{bad}", world.gateway.url)).await.unwrap();
    dark.type_into("#token", OPERATOR_TOKEN).await.unwrap();
    dark.click("main button[type=submit]").await.unwrap();
    dark.shows("#why-portfolio", "ImagePullBackOff").await.unwrap();
    inspect(&dark, "build-failed", Theme::Dark).await;
    dark.open(&format!("{}/rollouts", world.gateway.url)).await.unwrap();
    dark.shows("#target-portfolio", "v3-abc1234").await.unwrap();
    inspect(&dark, "board", Theme::Dark).await;
    dark.close().await.unwrap();
}

#[tokio::test]
async fn the_reference_shows_every_operation_without_help_from_elsewhere() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new().unwrap();
    let nats = Nats::start(&scratch.folder("nats").unwrap()).await.unwrap();
    let gateway = Gateway::start(&scratch.folder("gateway").unwrap(), &nats).await.unwrap();
    let described = gateway.http.get("/openapi.json").await.unwrap().json();
    let operations: usize = described["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum();

    let browser =
        Browser::start(&scratch.folder("browser").unwrap(), Theme::Light, true).await.unwrap();
    browser.open(&format!("{}/docs", gateway.url)).await.unwrap();
    browser.shows(".swagger-ui .info .title", "ateway").await.unwrap();
    let shown = eventually("all operations", || async {
        let count = browser
            .run("return document.querySelectorAll('.opblock').length")
            .await
            .ok()?
            .as_u64()?;
        (count >= operations as u64).then_some(count)
    })
    .await;
    assert_eq!(shown, operations as u64);
    // An operation unfolds, with its schema.
    browser.click(".opblock-summary-control").await.unwrap();
    browser.shows(".opblock.is-open", "Responses").await.unwrap();
    assert_eq!(browser.console().await.unwrap(), Vec::<String>::new());
    if let Some(folder) = pictures() {
        browser.resize(1_600, 1_000).await.unwrap();
        browser.screenshot(&folder.join("docs.png")).await.unwrap();
    }
    browser.close().await.unwrap();
}

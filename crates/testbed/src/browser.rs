//! Chromium, driven by WebDriver (W3C), whose JSON over HTTP needs no more than this.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::{Server, Spec, free_port, http::Client, on_path, process::START, tools_folder, within};

/// What WebDriver calls a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The colours that a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A browser with one window, and its driver. Both end with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Server,
    chromium: Server,
    session: Client,
}

/// Whether Chromium and its driver are on this machine.
pub fn is_there() -> bool {
    let runs = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
    };
    runs("chromedriver") && runs("chromium")
}

impl Browser {
    /// Opens a window.
    ///
    /// # Errors
    /// The driver or the browser does not start.
    pub async fn start(folder: &Path, theme: Theme, scripts: bool) -> anyhow::Result<Self> {
        let profile = folder.join("profile");
        fs::create_dir_all(profile.join("Default"))?;
        if !scripts {
            let settings =
                json!({"profile": {"default_content_setting_values": {"javascript": 2}}});
            fs::write(profile.join("Default/Preferences"), settings.to_string())?;
        }
        // Started by us and not by the driver, so that it ends whatever becomes of the driver.
        let debugging = free_port();
        let spec = Spec::new(
            "chromium",
            on_path("chromium").context("chromium is not on the PATH")?,
            folder,
        );
        let scheme = match theme {
            Theme::Dark => 0,
            Theme::Light => 1,
        };
        let spec = spec.args([
            // Within containers and as root, it has no sandbox of its own.
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-breakpad".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--remote-debugging-port={debugging}"),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            "about:blank".to_owned(),
        ]);
        let mut chromium = Server::start(spec.env("TMPDIR", folder))?;
        let devtools = Client::new(&format!("http://127.0.0.1:{debugging}"));
        chromium
            .ready(START, || async {
                devtools
                    .get("/json/version")
                    .await
                    .ok()
                    .filter(|answer| answer.status == 200)
                    .map(drop)
            })
            .await?;
        let port = free_port();
        let program = on_path("chromedriver").context("chromedriver is not on the PATH")?;
        let spec = Spec::new("chromedriver", program, folder).args([format!("--port={port}")]);
        let mut driver = Server::start(spec.env("TMPDIR", folder))?;
        let base = format!("http://127.0.0.1:{port}");
        let client = Client::new(&base);
        driver
            .ready(START, || async {
                let status = client.get("/status").await.ok()?.json();
                (status["value"]["ready"] == true).then_some(())
            })
            .await?;
        let options = json!({"debuggerAddress": format!("127.0.0.1:{debugging}")});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = client.post_json("/session", &wanted).await?.json();
        let id = answer["value"]["sessionId"]
            .as_str()
            .with_context(|| format!("no session: {answer}"))?;
        Ok(Self { driver, chromium, session: Client::new(&format!("{base}/session/{id}")) })
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if method == Method::POST { body.to_string() } else { String::new() };
        let client = self.session.with("content-type", "application/json");
        let mut answer = client.send(method, path, body).await?.json();
        let value = answer["value"].take();
        if let Some(error) = value["error"].as_str() {
            bail!("{path}: {error}: {}", value["message"].as_str().unwrap_or_default());
        }
        Ok(value)
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// The page does not load.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.call(Method::POST, "/url", &json!({"url": url})).await.map(drop)
    }

    /// Sets the window's size.
    ///
    /// # Errors
    /// The browser does not answer.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let size = json!({"width": width, "height": height});
        self.call(Method::POST, "/window/rect", &size).await.map(drop)
    }

    /// The element that a CSS selector finds first, once it is there.
    ///
    /// # Errors
    /// It does not come.
    async fn find(&self, selector: &str) -> anyhow::Result<String> {
        let how = json!({"using": "css selector", "value": selector});
        within(Duration::from_secs(20), selector, || async {
            let found = self.call(Method::POST, "/element", &how).await.ok()?;
            found[ELEMENT].as_str().map(str::to_owned)
        })
        .await
    }

    /// Clicks on an element, once it is there.
    ///
    /// # Errors
    /// It does not come, or cannot be clicked on.
    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.find(selector).await?;
        self.call(Method::POST, &format!("/element/{element}/click"), &json!({})).await.map(drop)
    }

    /// Types into an element, once it is there.
    ///
    /// # Errors
    /// It does not come, or takes no text.
    pub async fn type_into(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.find(selector).await?;
        self.call(Method::POST, &format!("/element/{element}/value"), &json!({"text": text}))
            .await
            .map(drop)
    }

    /// Empties an element that takes text, once it is there.
    ///
    /// # Errors
    /// It does not come, or takes no text.
    pub async fn clear(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.find(selector).await?;
        self.call(Method::POST, &format!("/element/{element}/clear"), &json!({})).await.map(drop)
    }

    /// The text of an element as people see it, once it is there.
    ///
    /// # Errors
    /// It does not come.
    pub async fn text(&self, selector: &str) -> anyhow::Result<String> {
        let element = self.find(selector).await?;
        let text =
            self.call(Method::GET, &format!("/element/{element}/text"), &Value::Null).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an element shows some text.
    ///
    /// # Errors
    /// It does not, within 30 seconds; what it shows then.
    pub async fn shows(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let shown = within(Duration::from_secs(30), selector, || async {
            self.text(selector).await.ok().filter(|found| found.contains(text)).map(drop)
        });
        if shown.await.is_err() {
            bail!("{selector} does not show '{text}', but: {}", self.text(selector).await?);
        }
        Ok(())
    }

    /// Runs a script in the page and gives what it returns.
    ///
    /// # Errors
    /// It throws.
    pub async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.call(Method::POST, "/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// What the page's console says.
    ///
    /// # Errors
    /// The browser does not answer.
    pub async fn console(&self) -> anyhow::Result<Vec<String>> {
        let lines = self.call(Method::POST, "/se/log", &json!({"type": "browser"})).await?;
        let message = |line: &Value| line["message"].as_str().map(str::to_owned);
        Ok(lines.as_array().into_iter().flatten().filter_map(message).collect())
    }

    /// Writes what the window shows into a PNG file.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let shot = self.call(Method::GET, "/screenshot", &Value::Null).await?;
        let png = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            shot.as_str().context("there is no picture")?,
        )?;
        fs::write(path, png)?;
        Ok(())
    }

    /// What axe-core finds wrong with the page for people who see, hear or move otherwise, one line for each.
    ///
    /// # Errors
    /// axe-core has not been got, or does not run.
    pub async fn accessibility(&self) -> anyhow::Result<Vec<String>> {
        let path = axe();
        let axe = fs::read_to_string(&path)
            .with_context(|| format!("{} is not there: run `cargo xtask tools`", path.display()))?;
        self.run(&axe).await?;
        let script = "const done = arguments[arguments.length - 1]; \
                      axe.run().then((found) => done(found.violations.map((violation) => \
                      violation.id + ': ' + violation.nodes.map((node) => node.html).join(' '))), \
                      (error) => done([String(error)]));";
        let body = json!({"script": script, "args": []});
        let found = self.call(Method::POST, "/execute/async", &body).await?;
        ensure!(found.is_array(), "axe-core gave {found}");
        Ok(serde_json::from_value(found)?)
    }

    /// Closes the window.
    ///
    /// # Errors
    /// The driver does not end.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let _ = self.call(Method::DELETE, "", &Value::Null).await;
        self.driver.stop(Duration::from_secs(10)).await?;
        self.chromium.stop(Duration::from_secs(10)).await.map(drop)
    }
}

/// Where axe-core is.
pub fn axe() -> PathBuf {
    tools_folder().join("axe.min.js")
}

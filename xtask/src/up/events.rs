//! One line an event of interest, out of the services' logs.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use super::stack::Stack;
use crate::run::say;

/// What is of interest when all is well. What is not well always is.
const INTERESTING: [&str; 7] = [
    "contact stored",
    "contacts stored",
    "contact was stored already",
    "build ",
    "rollout ",
    "image set",
    "tokens ",
];

/// Fields that say what it is about.
const FIELDS: [&str; 5] = ["contact.id", "build.id", "image", "reason", "trace_id"];

/// Shows events until a service ends.
pub(crate) async fn show(stack: &mut Stack) -> anyhow::Result<()> {
    say(
        "What happens is shown below. Ctrl-C stops everything; the data stays for the next time.\n",
    );
    let mut logs: Vec<_> =
        servers(stack).into_iter().map(|server| Log::new(server.spec().log_path())).collect();
    loop {
        for log in &mut logs {
            log.new_lines().iter().filter_map(|line| event(line)).for_each(|line| say(&line));
        }
        for server in servers(stack) {
            server.check_running()?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn servers(stack: &mut Stack) -> Vec<&mut testbed::Server> {
    let mut servers = vec![&mut stack.gateway.server, &mut stack.worker.server];
    servers.extend(stack.builds.as_mut().map(|(_, deployer)| &mut deployer.server));
    servers
}

/// A log file that grows.
struct Log {
    path: PathBuf,
    read: u64,
    rest: String,
}

impl Log {
    fn new(path: PathBuf) -> Self {
        Self { path, read: 0, rest: String::new() }
    }

    fn new_lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        self.read += read.unwrap_or(0) as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let end = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let whole: String = self.rest.drain(..end).collect();
        whole.lines().map(str::to_owned).collect()
    }
}

/// A log line as a person reads it, if it is of interest.
fn event(line: &str) -> Option<String> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| fields[name].as_str().unwrap_or_default();
    let (level, message) = (text("level"), text("message"));
    let trouble = matches!(level, "WARN" | "ERROR");
    if !trouble && !INTERESTING.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    let time = text("timestamp").get(11..19).unwrap_or_default();
    let service = text("module").split("::").next().unwrap_or_default();
    let about: Vec<_> = FIELDS
        .iter()
        .filter(|name| !text(name).is_empty())
        .map(|name| format!("{name}={}", text(name)))
        .collect();
    let mark = if trouble { format!("{level} ") } else { String::new() };
    Some(format!("{time}  {service:<14}  {mark}{message}  {}", about.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_interest_is_shown() {
        let line = r#"{"timestamp":"2026-05-28T20:26:40.123456Z","level":"INFO","message":"contact stored","module":"contact_worker::app","contact.id":"1"}"#;
        assert_eq!(
            event(line).as_deref(),
            Some("20:26:40  contact_worker  contact stored  contact.id=1")
        );
        assert_eq!(event(&line.replace("contact stored", "serving")), None);
        assert!(
            event(&line.replace("INFO", "WARN").replace("contact stored", "x"))
                .unwrap()
                .contains("WARN x")
        );
        assert_eq!(event("not json"), None);
    }
}

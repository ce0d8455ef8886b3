//! Starts a server and a scratch folder, says where, and waits to be killed. A test of what is left then.

use std::io::{Read, stdin};

use testbed::{Scratch, Server, Spec};

fn main() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let spec = Spec::new("sleep", "/bin/sleep".into(), scratch.path()).args(["600"]);
    let server = Server::start(spec)?;
    say(&format!("{} {}", server.pid().unwrap_or_default(), scratch.path().display()));
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "its output is what the test reads")]
fn say(line: &str) {
    println!("{line}");
}

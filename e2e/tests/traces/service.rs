//! Stands in for the application behind its Service, whose containers do not run here: it answers as one version, and keeps
//! the trace context that it was asked with.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) url: String,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    version: String,
    contexts: Vec<String>,
}

impl Application {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let told = Arc::<Mutex<Told>>::default();
        let shared = told.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who goes away in the middle is asked again by its own rules.
                let _ = answer(&stream, &shared);
            }
        });
        Self { url, told }
    }

    pub(crate) fn is(&self, version: &str) {
        version.clone_into(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner).version);
    }

    /// The values of `traceparent` that it was asked with.
    pub(crate) fn contexts(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).contexts.clone()
    }
}

fn answer(stream: &TcpStream, told: &Mutex<Told>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let mut context = None;
    for line in lines.by_ref() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("traceparent: ") {
            context = Some(value.to_owned());
        }
    }
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.contexts.extend(context);
    let body = format!("{{\"status\":\"ok\",\"version\":\"{}\"}}", told.version);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let mut stream = stream;
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())
}

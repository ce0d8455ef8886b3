//! Measures many clients that wait for one verdict, and many that listen to all: the memory of the
//! gateway, and the time until the clients receive the verdict.

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use testbed::{Cluster, Fate, Gateway, system::CI_TOKEN, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use super::{
    report::Report,
    rollout,
    servers::Bus,
    stats::{Series, percentile},
};
use crate::run::say;

/// Options of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients that wait, and as many that listen
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
}

/// The time that everything in a round may take.
const PATIENCE: Duration = Duration::from_secs(50);

type Time = DateTime<Utc>;

#[derive(Debug, Default)]
struct Figures {
    memory: Series,
    waiting: Heard,
    listening: Heard,
}

/// Milliseconds from the verdict until the clients receive it.
#[derive(Debug, Default)]
struct Heard {
    p50: Series,
    most: Series,
}

impl Heard {
    fn add(&mut self, mut delays: Vec<f64>) {
        self.p50.push(percentile(&mut delays, 50.0));
        self.most.push(percentile(&mut delays, 100.0));
    }
}

pub(crate) async fn measure(args: &Args, rounds: usize) -> anyhow::Result<Report> {
    let bus = Bus::start().await?;
    let cluster = Cluster::start_audited(&bus.scratch.folder("cluster")?).await?;
    cluster.apply(&rollout::rights()).await?;
    cluster.apply(&rollout::deployments(["ours"].into_iter())).await?;
    let deployer = rollout::deployer(&bus, &cluster, "deployer", &["ours"]).await?;
    let mut figures = Figures::default();
    for round in 1..=rounds {
        let gateway = bus.gateway(&[]).await?;
        // The deployer decides nothing until all clients are there.
        deployer.server.pause()?;
        let tag = Fate::Ready.tag(round as u64 + 1);
        let id = rollout::post(&gateway.ci(), "ours", &tag).await?;
        let (waiting, listening) = clients(&gateway, args.clients, &id).await?;
        deployer.server.resume()?;
        let verdict = rollout::verdict(&gateway.ci(), &id).await?;
        let at = verdict["rollouts"][0]["finished_at"]
            .as_str()
            .context("no verdict")?
            .parse::<Time>()?;
        for (clients, heard) in
            [(waiting, &mut figures.waiting), (listening, &mut figures.listening)]
        {
            heard.add(delays(clients, at).await?);
        }
        let peak = gateway
            .server
            .peak_kib()
            .and_then(|kib| u32::try_from(kib).ok())
            .context("no memory")?;
        figures.memory.push(f64::from(peak) / 1024.0);
        say(&format!("round {round} is done"));
    }
    cluster.stop().await;
    Ok(report(args, rounds, &figures))
}

type Clients = JoinSet<anyhow::Result<Time>>;

/// Starts the clients that wait and those that listen. Returns once the gateway serves all of them.
async fn clients(gateway: &Gateway, count: usize, id: &str) -> anyhow::Result<(Clients, Clients)> {
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let (there, mut here) = mpsc::unbounded_channel();
    let (mut waiting, mut listening) = (Clients::new(), Clients::new());
    for _ in 0..count {
        let wait = format!("/api/builds/{id}?wait=60s");
        waiting.spawn(hear(address.clone(), wait, "\"terminal\":true", None));
        let listen = "/api/rollouts/events".to_owned();
        listening.spawn(hear(address.clone(), listen, "\"succeeded\"", Some(there.clone())));
    }
    drop(there);
    let listeners = async {
        for _ in 0..count {
            here.recv().await.context("a listener was refused")?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, listeners).await??;
    let series =
        "http_server_active_requests{http_request_method=\"GET\",http_route=\"/api/builds/{id}\"}";
    within(PATIENCE, "all who wait", || async {
        #[expect(clippy::cast_precision_loss, reason = "a count that a float holds exactly")]
        let wanted = count as f64;
        (gateway.metric(series).await.ok()? >= wanted).then_some(())
    })
    .await?;
    Ok((waiting, listening))
}

/// Sends a request, and returns the time at which the answer contained a text. Reports the begin of
/// the answer, if a channel is given.
async fn hear(
    address: String,
    path: String,
    what: &'static str,
    begun: Option<mpsc::UnboundedSender<()>>,
) -> anyhow::Result<Time> {
    let mut stream = TcpStream::connect(&address).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {CI_TOKEN}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut text, mut buffer, mut begun) = (Vec::new(), [0; 4096], begun);
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the answer ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..read]);
        let told = String::from_utf8_lossy(&text);
        if let Some(begun) = begun.take_if(|_| told.contains("\r\n\r\n")) {
            ensure!(told.starts_with("HTTP/1.1 200"), "{told}");
            begun.send(())?;
        }
        if told.contains(what) {
            return Ok(Utc::now());
        }
    }
}

async fn delays(mut clients: Clients, verdict: Time) -> anyhow::Result<Vec<f64>> {
    let mut delays = Vec::new();
    while let Some(heard) = tokio::time::timeout(PATIENCE, clients.join_next()).await? {
        let delay = u32::try_from((heard?? - verdict).num_milliseconds()).unwrap_or(0);
        delays.push(f64::from(delay));
    }
    Ok(delays)
}

fn report(args: &Args, rounds: usize, figures: &Figures) -> Report {
    let mut report = Report::new("Many who wait");
    report.say(&format!(
        "`cargo xtask bench waiting`: {rounds} rounds; median (smallest–largest). {0} clients wait for one build (`?wait=60s`) and {0} listen to \
         all (Server-Sent Events), each on a\nconnection of its own. The clients share the machine. From the verdict's own time on.",
        args.clients
    ));
    let row = |name: &str, of: &Series| vec![name.to_owned(), of.show()];
    report.table(
        &["", "gateway"],
        &[
            row("those who wait hear it after, p50 in ms", &figures.waiting.p50),
            row("the last of them, in ms", &figures.waiting.most),
            row("those who listen hear it after, p50 in ms", &figures.listening.p50),
            row("the last of them, in ms", &figures.listening.most),
            row("memory at most (RSS), MiB", &figures.memory),
        ],
    );
    report
}

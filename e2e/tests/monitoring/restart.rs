//! Nothing fires while everything is replaced, one after the other, under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{Fate, Gateway, eventually, http};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{alone, can_run, monitored::System, shortened::Scale};

/// A pod that is replaced in its place is away for half a minute: `SHUTDOWN_GRACE` at most, and some seconds to be scheduled
/// and started. Here a process is away for a second, so time runs thirty times as fast: alerts wait for a thirtieth, and
/// services are scraped each half second in place of each 15.
///
/// What a process had of the bus when it ended comes again after `AckWait`, which is 15 seconds here too. So a message is 45
/// seconds old at most there, and 16 here: ages are divided by three.
const SCALE: Scale = Scale { divisor: 30, ages: 3, longest: Duration::MAX };
const AWAY: Duration = Duration::from_secs(1);
const SCRAPED_EVERY: Duration = Duration::from_millis(500);

const ROUNDS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fires_while_everything_is_replaced() {
    if !can_run() {
        return;
    }
    let _alone = alone().await;
    let targets = [("replaced", "rollback: true, deadline: 30s, failure_grace: 3s")];
    let mut system = System::start("restarts", SCALE, SCRAPED_EVERY, &targets, false).await;
    system.be_found().await;
    eventually("that nothing fires any more", || system.prometheus.finds_nothing("ALERTS")).await;
    let (begun, since) = (Instant::now(), system.alertmanager.now());

    let load = Load::start(&system.gateways);
    for round in 0..ROUNDS {
        // A rollout is under way each time, too.
        system.post_build("replaced", &Fate::SlowlyReady.tag(round + 2)).await;
        for service in system.services() {
            let away = Instant::now();
            let status = service.server.stop(Duration::from_secs(10)).await.unwrap();
            assert!(status.success(), "{status}");
            // As long as it is meant to be away.
            sleep(AWAY.saturating_sub(away.elapsed())).await;
            service.server.start_again().unwrap();
            service.ready().await.unwrap();
        }
    }
    let Answers { accepted, failed, lost } = load.stop().await;
    assert!(accepted > 0, "that was no load");
    // What is pending fires, or it goes.
    eventually("that nothing is pending", || system.prometheus.finds_nothing("ALERTS")).await;

    // That no service was found at first may be told to be over only now.
    let mut told = system.alertmanager.heard().split_off(since);
    told.retain(|notice| notice.status != "resolved");
    assert!(told.is_empty(), "{told:#?}");
    let during = format!("{}s", begun.elapsed().as_secs());
    let fired = system
        .prometheus
        .query(&format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{during}])"))
        .await;
    assert_eq!(fired.unwrap(), json!([]));
    // Its longer windows could not fire in so short a time, so that not even a beginning is allowed.
    let burns = format!("max_over_time(ALERTS{{alertname=\"GatewayErrorBudgetBurn\"}}[{during}])");
    assert_eq!(
        system.prometheus.query(&burns).await.unwrap(),
        json!([]),
        "{failed} of {accepted} failed, {lost} were lost"
    );
}

/// Visitors who post contacts to both gateways, some hundred a second.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Answers>,
}

/// What became of their posts.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    accepted: u64,
    /// Answered with 5xx.
    failed: u64,
    /// Not answered, since the gateway was gone.
    lost: u64,
}

impl Load {
    fn start(gateways: &[Gateway]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        for gateway in gateways {
            for _ in 0..2 {
                tasks.spawn(visit(gateway.http.clone(), stop.clone()));
            }
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let add = |sum: Answers, more: Answers| Answers {
            accepted: sum.accepted + more.accepted,
            failed: sum.failed + more.failed,
            lost: sum.lost + more.lost,
        };
        self.tasks.join_all().await.into_iter().fold(Answers::default(), add)
    }
}

async fn visit(http: http::Client, stop: Arc<AtomicBool>) -> Answers {
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let mut answers = Answers::default();
    let mut every = interval(Duration::from_millis(20));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        match http.post_json("/api/contact", &contact).await {
            Ok(answer) if answer.status.is_server_error() => answers.failed += 1,
            Ok(_) => answers.accepted += 1,
            Err(_) => answers.lost += 1,
        }
    }
    answers
}

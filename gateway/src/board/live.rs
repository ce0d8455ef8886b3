//! What is new on the board, as it happens: parts of the page, rendered once for all who look at it.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use askama::Template;
use axum::response::sse::Event;
use chrono::Utc;
use futures::{Stream, StreamExt as _, stream};
use service::shutdown::Shutdown;
use tokio::{
    sync::broadcast,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    pages::{
        BuildHead, FiguresSection, LiveRow, RolloutSection, SummaryStrip, TargetCard, parts::Frame,
        target::Summary,
    },
    present,
};
use crate::rollouts::{Rollouts, Watched};

/// How often something is sent where nothing happens, so that a browser knows that it is connected.
const BEAT: Duration = Duration::from_secs(15);

/// What happens within so long is told at once.
const PAUSE: Duration = Duration::from_millis(150);

/// How often the board is looked at where nothing happens: freezes end by themselves.
const LOOK: Duration = Duration::from_secs(5);

/// How many changes a browser may be behind. One that is further behind has to connect again.
const BEHIND: usize = 32;

/// What everybody who looks at the board is told.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    changes: broadcast::Sender<Arc<Change>>,
}

/// Some parts of the board, for those who may act and for those who may not.
#[derive(Debug)]
struct Change {
    operators: String,
    others: String,
}

/// The parts of the board as they were last told, by their names.
type Parts = HashMap<String, String>;

impl Live {
    pub(crate) fn new() -> Self {
        Self { changes: broadcast::Sender::new(BEHIND) }
    }

    /// Tells what is new, until the shutdown begins. Where nobody looks, nothing is rendered.
    pub(crate) async fn run(self, rollouts: Rollouts, shutdown: Shutdown) {
        let [mut builds, mut changes, mut targets] = rollouts.news();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = [Parts::new(), Parts::new()];
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = builds.changed() => {}
                _ = changes.changed() => {}
                _ = targets.changed() => {}
                _ = look.tick() => {}
            }
            if self.changes.receiver_count() == 0 {
                told = [Parts::new(), Parts::new()];
            } else {
                let [operators, others] = [true, false].map(|operator| parts(&rollouts, operator));
                let change = Change {
                    operators: difference(&told[0], &operators),
                    others: difference(&told[1], &others),
                };
                told = [operators, others].map(|parts| parts.into_iter().collect());
                if !change.operators.is_empty() || !change.others.is_empty() {
                    // Nobody may be listening any more.
                    let _ = self.changes.send(Arc::new(change));
                }
            }
            sleep_until(Instant::now() + PAUSE).await;
        }
    }

    /// The whole board, and then what is new of it.
    pub(super) fn board(
        &self,
        rollouts: &Rollouts,
        operator: bool,
    ) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        // First to listen and then to look: what happens in between is told twice, and not lost.
        let changes = self.changes.subscribe();
        let whole = difference(&Parts::new(), &parts(rollouts, operator));
        let first = stream::once(async move { Ok(Event::default().data(whole)) });
        first.chain(stream::unfold(changes, move |mut changes| async move {
            let event = match tokio::time::timeout(BEAT, changes.recv()).await {
                Ok(Ok(change)) => {
                    Event::default().data(if operator { &change.operators } else { &change.others })
                }
                // It was too slow, or we end.
                Ok(Err(_)) => return None,
                Err(_) => beat(),
            };
            Some((Ok(event), changes))
        }))
    }
}

/// A build's page, and then what is new of it.
pub(super) fn build(
    build: Watched,
    operator: bool,
    trace: Option<Arc<str>>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let frame = frame(operator);
    stream::unfold((build, true), move |(mut build, first)| {
        let (frame, trace) = (frame.clone(), trace.clone());
        async move {
            if !first {
                match tokio::time::timeout(BEAT, build.changed()).await {
                    Ok(true) => {}
                    // Nothing more will happen to it.
                    Ok(false) => tokio::time::sleep(BEAT).await,
                    Err(_) => return Some((Ok(beat()), (build, false))),
                }
            }
            let (page, rollouts) =
                present::build(&build.state(), super::trace(trace.as_deref(), &build.state()));
            let mut html = render(&BuildHead { build: &page });
            for rollout in &rollouts {
                html.push_str(&render(&RolloutSection { frame: &frame, build: &page, rollout }));
            }
            Some((Ok(Event::default().data(html)), (build, false)))
        }
    })
}

fn beat() -> Event {
    Event::default().event("beat").data("")
}

/// All parts of the board by their names, in the order of the page; rows with the oldest first, as they are put on top.
fn parts(rollouts: &Rollouts, operator: bool) -> Vec<(String, String)> {
    let frame = frame(operator);
    let now = Utc::now();
    let (targets, (figures, chart), rows) = rollouts.read(|model| {
        (present::targets(model, now), present::figures(model, now), present::newest_rows(model))
    });
    let mut parts =
        vec![("summary".to_owned(), render(&SummaryStrip { summary: &Summary::of(&targets) }))];
    for target in &targets {
        parts.push((
            format!("target {}", target.name),
            render(&TargetCard { frame: &frame, target }),
        ));
    }
    parts
        .push(("figures".to_owned(), render(&FiguresSection { figures: &figures, chart: &chart })));
    parts.extend(
        rows.iter().rev().map(|row| (format!("row {}", row.key), render(&LiveRow { row }))),
    );
    parts
}

/// The parts that were told otherwise, or not at all.
fn difference(told: &Parts, parts: &[(String, String)]) -> String {
    let new = parts.iter().filter(|(name, html)| told.get(name) != Some(html));
    new.map(|(_, html)| html.as_str()).collect()
}

/// Parts are the same for all of a role: no name of a visitor is in them.
fn frame(operator: bool) -> Frame {
    let visitor = super::pages::parts::Visitor { name: String::new(), operator };
    Frame { visitor: Some(visitor), now: String::new(), live: None }
}

fn render(template: &impl Template) -> String {
    // Templates are checked when they are compiled; only memory can run out.
    template.render().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let part = |name: &str, html: &str| (name.to_owned(), html.to_owned());
        let before: Parts = [part("a", "1"), part("b", "2"), part("c", "3")].into();
        assert_eq!(difference(&before, &[part("a", "1"), part("b", "4"), part("d", "5")]), "45");
        assert_eq!(difference(&before, &[part("c", "3")]), "");
    }
}

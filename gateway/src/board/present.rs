//! The read model, as the pages show it. Pure.

use chrono::{DateTime, SecondsFormat, Utc};
use events::{BuildId, RolloutChanged, RolloutState, TargetName};
use planning::{Standing, open_window};

use super::{
    figures::{self, Ended},
    pages::{
        build,
        chart::Chart,
        history::{Choice, Figures, History, Row},
        parts::{BuildRef, Image, Moment, Progress},
        state::State,
        target::{Current, Freeze, Pods, Quarantined, Runs, Target, Verdict, Waiting},
    },
};
use crate::{
    decisions,
    rollouts::{BuildState, Model, Overall, Rollout, Transition},
};

/// How many rollouts a page of the history has.
const ROWS: usize = 50;

/// Which rollouts the history shows.
#[derive(Clone, Debug, Default)]
pub(super) struct HistoryQuery {
    pub(super) target: Option<TargetName>,
    pub(super) state: Option<RolloutState>,
    /// Those of builds before this one.
    pub(super) before: Option<BuildId>,
}

/// A time.
pub(super) fn moment(at: DateTime<Utc>) -> Moment {
    let text = at.format("%-d %b, %H:%M:%S UTC").to_string();
    Moment { iso: at.to_rfc3339_opts(SecondsFormat::Millis, true), text }
}

/// All targets, in the order of their names.
pub(super) fn targets(model: &Model, now: DateTime<Utc>) -> Vec<Target> {
    model.standings.iter().map(|(name, standing)| target(model, name, standing, now)).collect()
}

fn target(model: &Model, name: &TargetName, standing: &Standing, now: DateTime<Utc>) -> Target {
    let state = standing.state.as_ref();
    let verdict = model.last_verdicts.get(name);
    let open = |waiting: bool| {
        let rollouts = standing.rollouts.open();
        let wanted =
            rollouts.filter(move |(_, open)| (open.state == RolloutState::Accepted) == waiting);
        wanted.filter_map(|(build, _)| model.rollout(build, name))
    };
    let running = state.and_then(|state| state.running.as_deref());
    let since = verdict.filter(|verdict| {
        verdict.state == RolloutState::Succeeded && Some(&*verdict.image) == running
    });
    Target {
        name: name.to_string(),
        namespace: state.map(|state| state.namespace.clone()).unwrap_or_default(),
        deployment: state.map(|state| state.deployment.clone()).unwrap_or_default(),
        runs: running.map(|running| Runs {
            image: Image::of(running),
            since: since.map(|verdict| moment(verdict.at)),
            pods: state.and_then(|state| state.progress).map(|progress| Pods {
                ready: progress.ready,
                desired: progress.desired,
                updated: progress.updated,
            }),
        }),
        current: open(false).next().map(|(build, rollout)| current(&build, &rollout)),
        verdict: verdict.map(|verdict| Verdict {
            state: state_of(verdict.state),
            build: build_ref(model, verdict.build_id),
            image: Image::of(&verdict.image),
            at: moment(verdict.at),
            cause: cause(verdict),
        }),
        waiting: open(true)
            .map(|(build, rollout)| Waiting {
                build: reference(&build),
                image: Image::of(&rollout.last.image),
                since: moment(rollout.last.started_at),
            })
            .collect(),
        freezes: freezes(standing, now),
        quarantined: standing
            .rollouts
            .quarantined()
            .map(|(image, build)| Quarantined {
                image: Image::of(image),
                build: build_ref(model, build),
                cause: word(model, build, name),
            })
            .collect(),
        back: decisions::way_back(standing).map(|image| Image::of(&image)),
    }
}

fn current(build: &BuildState, rollout: &Rollout) -> Current {
    let last = &rollout.last;
    Current {
        state: state_of(last.state),
        build: reference(build),
        image: Image::of(&last.image),
        progress: progress(last),
        since: moment(last.started_at),
        trouble: last
            .diagnosis
            .as_ref()
            .map(|diagnosis| format!("{}: {}", diagnosis.cause, diagnosis.summary)),
    }
}

fn freezes(standing: &Standing, now: DateTime<Utc>) -> Vec<Freeze> {
    let by_hand = standing.frozen(now).map(|freeze| Freeze::ByHand {
        reason: freeze.reason.clone(),
        by: freeze.by.clone(),
        since: moment(standing.frozen_at.unwrap_or(now)),
        until: freeze.until.map(moment),
    });
    let windows =
        standing.state.as_ref().map(|state| state.freeze_windows.as_slice()).unwrap_or_default();
    let window = open_window(windows, now).map(|open| Freeze::Window {
        until: moment(open.until),
        local: open.local,
        zone: open.zone,
    });
    by_hand.into_iter().chain(window).collect()
}

/// Figures and chart of all rollouts that are kept.
pub(super) fn figures(model: &Model, now: DateTime<Utc>) -> (Figures, Chart) {
    let mut ended = Vec::new();
    for (_, build) in model.newest_first(None) {
        ended.extend(build.rollouts.values().filter_map(|rollout| Ended::of(&build, rollout)));
    }
    (figures::figures(&ended, now), figures::chart(&ended, now))
}

/// One page of the history.
pub(super) fn history(model: &Model, query: &HistoryQuery) -> History {
    let chosen = query.target.as_ref().map(TargetName::as_str);
    let choice = |name: &TargetName| Choice {
        value: name.to_string(),
        label: name.to_string(),
        selected: chosen == Some(name.as_str()),
    };
    let mut rows = Vec::new();
    let mut last = None;
    let mut more = false;
    for (id, build) in model.newest_first(query.before) {
        let fitting: Vec<_> =
            build.rollouts.values().filter(|rollout| fits(rollout, query)).collect();
        if fitting.is_empty() {
            continue;
        }
        if rows.len() >= ROWS {
            more = true;
            break;
        }
        rows.extend(fitting.into_iter().map(|rollout| row(&build, rollout)));
        last = Some(id);
    }
    History {
        targets: model.standings.iter().map(|(name, _)| choice(name)).collect(),
        states: History::states(query.state.map_or("", RolloutState::as_str)),
        rows,
        older: last.filter(|_| more).map(|last| older(query, last)),
        newest: query.before.is_none(),
    }
}

fn fits(rollout: &Rollout, query: &HistoryQuery) -> bool {
    let target = query.target.as_ref();
    target.is_none_or(|target| rollout.last.target.as_ref() == Some(target))
        && query.state.is_none_or(|state| rollout.last.state == state)
}

fn older(query: &HistoryQuery, last: BuildId) -> String {
    let target = query.target.as_ref().map_or("", |target| target.as_str());
    let state = query.state.map_or("", RolloutState::as_str);
    // None of these needs to be escaped: names, words and digits.
    format!("/rollouts?target={target}&state={state}&before={last}#history-title")
}

/// The newest rollouts, whatever they are.
pub(super) fn newest_rows(model: &Model) -> Vec<Row> {
    history(model, &HistoryQuery::default()).rows
}

fn row(build: &BuildState, rollout: &Rollout) -> Row {
    let last = &rollout.last;
    let target = last.target.as_ref().map(ToString::to_string);
    Row {
        key: format!("{}-{}", last.build_id, target.as_deref().unwrap_or("_")),
        build: reference(build),
        target,
        image: Image::of(&last.image),
        state: state_of(last.state),
        started: moment(last.started_at),
        duration: last.state.is_verdict().then(|| figures::duration(last.at - last.started_at)),
        cause: cause(last),
    }
}

/// A build's page.
pub(super) fn build(
    state: &BuildState,
    trace: Option<build::Trace>,
) -> (build::Build, Vec<build::Rollout>) {
    let posted = state.build.as_ref();
    let image = posted.map(|build| build.image.clone());
    let image =
        image.or_else(|| state.rollouts.values().next().map(|rollout| rollout.last.image.clone()));
    let name = reference(state);
    let forced = posted.and_then(|build| Some((build.forced.as_ref()?, build.received_at)));
    let build = build::Build {
        id: name.id,
        name: name.name,
        state: overall(state.overall()),
        image: image.map(|image| Image::of(&image)),
        digest: posted.and_then(|build| build.digest.as_ref()).map(ToString::to_string),
        commit: posted.and_then(|build| build.commit.clone()),
        branch: posted.and_then(|build| build.branch.clone()),
        received: posted.map(|build| moment(build.received_at)),
        ci: posted.and_then(|build| build.url.as_deref()).and_then(build::Link::to),
        trace,
        forced: forced.map(|(forced, at)| build::Forced {
            by: forced.by.clone(),
            reason: forced.reason.clone(),
            at: moment(at),
        }),
    };
    (build, state.rollouts.values().map(rollout).collect())
}

fn rollout(rollout: &Rollout) -> build::Rollout {
    let last = &rollout.last;
    let over = last.state.is_terminal();
    build::Rollout {
        target: last.target.as_ref().map(ToString::to_string),
        state: state_of(last.state),
        reason: last.reason.clone(),
        previous: last.previous_image.as_deref().map(Image::of),
        progress: progress(last),
        started: moment(last.started_at),
        deadline: last.deadline_at.filter(|_| !over).map(moment),
        duration: over.then(|| figures::duration(last.at - last.started_at)),
        steps: steps(&rollout.transitions),
        diagnosis: last.diagnosis.as_ref().map(diagnosis),
        back: last.rollback.as_ref().map(|back| build::Back {
            image: Image::of(&back.image),
            diagnosis: back.diagnosis.as_ref().map(diagnosis),
        }),
    }
}

fn steps(transitions: &[Transition]) -> Vec<build::Step> {
    let before = std::iter::once(None).chain(transitions.iter().map(Some));
    let step = |(step, before): (&Transition, Option<&Transition>)| build::Step {
        state: state_of(step.state),
        at: moment(step.at),
        after: before.map(|before| figures::duration(step.at - before.at)),
        detail: step.detail.clone(),
    };
    transitions.iter().zip(before).map(step).collect()
}

fn diagnosis(diagnosis: &events::Diagnosis) -> build::Diagnosis {
    let pod = |pod: &events::PodDiagnosis| build::Pod {
        name: pod.pod.clone(),
        container: pod.container.clone(),
        reason: pod.reason.clone(),
        message: pod.message.clone(),
        exit_code: pod.exit_code,
        restarts: pod.restarts,
        log: pod.log_tail.clone(),
    };
    build::Diagnosis {
        cause: diagnosis.cause.clone(),
        summary: diagnosis.summary.clone(),
        pods: diagnosis.pods.iter().map(pod).collect(),
        events: diagnosis.events.clone(),
    }
}

/// Why a build failed on a target, in one word.
fn word(model: &Model, build: BuildId, target: &TargetName) -> String {
    let rollout = model.rollout(build, target);
    rollout
        .and_then(|(_, rollout)| rollout.last.diagnosis)
        .map(|diagnosis| diagnosis.cause)
        .unwrap_or_default()
}

/// Why it ended so, or what is wrong so far, in one sentence.
fn cause(last: &RolloutChanged) -> Option<String> {
    let diagnosed = last
        .diagnosis
        .as_ref()
        .map(|diagnosis| format!("{}: {}", diagnosis.cause, diagnosis.summary));
    diagnosed.or_else(|| last.reason.clone())
}

fn progress(last: &RolloutChanged) -> Option<Progress> {
    let counts = last.progress.filter(|_| !last.state.is_terminal())?;
    Some(Progress { desired: counts.desired, updated: counts.updated, ready: counts.ready })
}

/// A build by its name; by its id where nothing more is known.
fn reference(state: &BuildState) -> BuildRef {
    let id = state.id().map(|id| id.to_string()).unwrap_or_default();
    let name = state.build.as_ref().map(|build| format!("{} #{}", build.job, build.number));
    BuildRef { name: name.unwrap_or_else(|| id.clone()), id }
}

fn build_ref(model: &Model, id: BuildId) -> BuildRef {
    let known = model.find(id).map(|state| reference(&state));
    known.unwrap_or_else(|| BuildRef { id: id.to_string(), name: id.to_string() })
}

fn overall(state: Overall) -> State {
    match state {
        Overall::Pending => State::Pending,
        Overall::Running => State::Running,
        Overall::Succeeded => State::Succeeded,
        Overall::Superseded => State::Superseded,
        Overall::Rejected => State::Rejected,
        Overall::Failed => State::Failed,
    }
}

fn state_of(state: RolloutState) -> State {
    match state {
        RolloutState::Accepted => State::Accepted,
        RolloutState::Rejected => State::Rejected,
        RolloutState::Superseded => State::Superseded,
        RolloutState::Patching => State::Patching,
        RolloutState::Progressing => State::Progressing,
        RolloutState::SmokeTesting => State::SmokeTesting,
        RolloutState::AwaitingArgocd => State::AwaitingArgocd,
        RolloutState::RollingBack => State::RollingBack,
        RolloutState::Succeeded => State::Succeeded,
        RolloutState::Failed => State::Failed,
        RolloutState::RolledBack => State::RolledBack,
        RolloutState::Reverted => State::Reverted,
    }
}

/// Reads a state's word.
pub(super) fn rollout_state(word: &str) -> Option<RolloutState> {
    serde_json::from_value(word.into()).ok()
}

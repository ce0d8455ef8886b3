//! What would become of a build, by the same rules as the deployer's. Nothing is stored.

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use events::{BuildFinished, BuildId, TargetName};
use planning::{Decision, Judgement, Policy, Question, Standings, plan};
use serde::Serialize;
use utoipa::ToSchema;

use super::text;
use crate::{app::App, decisions, formats::Message, problem::Problem};

/// What each target would decide.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DryRun {
    pub(super) decisions: Vec<DecisionView>,
}

/// What one target would decide; without a target, what becomes of a build that no target takes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Decision)]
pub(super) struct DecisionView {
    pub(super) target: Option<TargetName>,
    /// `accept` or `reject`.
    pub(super) decision: &'static str,
    pub(super) image: Option<String>,
    pub(super) reason: Option<String>,
}

/// Answers what would be decided by what is known now.
pub(super) async fn answer(
    app: &App,
    headers: &HeaderMap,
    message: Message,
) -> Result<Response, Problem> {
    let standings =
        app.rollouts.standings().await.map_err(|error| decisions::unreadable(&error))?;
    let builds = match message {
        Message::One(build, _) => vec![build],
        Message::Batch(batch) => batch.into_iter().map(|(build, _)| build).collect(),
        Message::Ignored(_) => Vec::new(),
    };
    let decide = |build: crate::formats::Build| {
        decide(&build.received(BuildId::new(), Utc::now()), &standings)
    };
    let decided: Result<Vec<_>, Problem> = builds.into_iter().map(decide).collect();
    let dry_run =
        DryRun { decisions: decided?.into_iter().flatten().map(DecisionView::of).collect() };
    if text::wanted(headers) {
        return Ok(text::of_dry_run(&dry_run).into_response());
    }
    Ok(Json(dry_run).into_response())
}

fn decide(build: &BuildFinished, standings: &Standings) -> Result<Vec<Decision>, Problem> {
    let told = |(name, standing): (&TargetName, &planning::Standing)| {
        Policy::of(name, standing.state.as_ref()?)
    };
    let policies: Vec<_> = standings.iter().filter_map(told).collect();
    if policies.is_empty() {
        return Err(Problem::unavailable("no deployer has told of its targets yet", 5));
    }
    let objection = |policy: &Policy, image: &str| {
        let standing = standings.of(&policy.name)?;
        standing.objection(&Question {
            build: build.id,
            image,
            running: standing.state.as_ref().and_then(|state| state.running.as_deref()),
            freeze_windows: &policy.freeze_windows,
            forced: false,
            rollback: false,
            now: build.received_at,
        })
    };
    Ok(plan(build, &policies, objection))
}

impl DecisionView {
    fn of(decision: Decision) -> Self {
        let (word, image, reason) = match decision.verdict {
            Judgement::Accept { image } => ("accept", Some(image), None),
            Judgement::Reject { reason } => ("reject", None, Some(reason)),
        };
        Self { target: decision.target, decision: word, image, reason }
    }
}

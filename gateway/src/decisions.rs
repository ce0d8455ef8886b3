//! What people decide: to freeze a target and to resume it, to deploy a build in spite of what speaks against it, to go back. Each
//! is an event with the person's name, on disk before it is answered.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use events::{
    BuildFinished, BuildId, BuildStatus, BuildTag, Forced, Freeze, ImageReference, JobName,
    TargetChange, TargetChanged, TargetName, V1,
};
use planning::Standing;
use service::propagation;

use crate::{
    app::App,
    auth::Caller,
    fields::Fields,
    problem::Problem,
    rollouts::{BuildState, Unknown},
};

/// The longest reason, in characters.
pub(crate) const MAX_REASON: usize = 500;

/// Reads the reason for a decision. Whoever reads it later may know nothing else.
pub(crate) fn reason(fields: &mut Fields) -> Option<String> {
    let reason = fields.text_to("reason", MAX_REASON)?;
    if reason.chars().any(char::is_control) {
        fields.reject("reason", "not one line");
        return None;
    }
    Some(reason)
}

/// Reads until when a freeze holds; none for good.
pub(crate) fn until(fields: &mut Fields, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = fields.optional_text("until")?;
    match DateTime::parse_from_rfc3339(&text) {
        Ok(until) if until > now => Some(until.with_timezone(&Utc)),
        Ok(_) => {
            fields.reject("until", "in the past");
            None
        }
        Err(_) => {
            fields.reject("until", "not a time such as 2026-12-24T18:00:00Z");
            None
        }
    }
}

/// Nothing is deployed to the target any more.
pub(crate) async fn freeze(
    app: &App,
    caller: &Caller,
    target: TargetName,
    reason: String,
    until: Option<DateTime<Utc>>,
) -> Result<(), Problem> {
    let freeze = Freeze { by: caller.name.clone(), reason, until };
    decide(app, caller, target, TargetChange::Frozen(freeze)).await
}

/// The freeze is over.
pub(crate) async fn resume(app: &App, caller: &Caller, target: TargetName) -> Result<(), Problem> {
    let by = caller.name.clone();
    decide(app, caller, target, TargetChange::Resumed { by }).await
}

async fn decide(
    app: &App,
    caller: &Caller,
    target: TargetName,
    change: TargetChange,
) -> Result<(), Problem> {
    let what = match &change {
        TargetChange::Frozen(_) => "frozen",
        TargetChange::Resumed { .. } => "resumed",
        TargetChange::Observed(_) => "observed",
    };
    let changed = TargetChanged::new(target, change, Utc::now());
    app.publisher.target(&changed).await?;
    tracing::info!(target = %changed.target, caller = caller.name, "target {what}");
    Ok(())
}

/// Goes back to the last other version that succeeded. `expected` is the image that the person was shown.
pub(crate) async fn roll_back(
    app: &App,
    caller: &Caller,
    target: &TargetName,
    standing: &Standing,
    reason: String,
    expected: Option<&str>,
) -> Result<BuildId, Problem> {
    let conflict = |detail: String| Problem::new(StatusCode::CONFLICT, detail);
    let image = way_back(standing).ok_or_else(|| {
        conflict(format!("there is no other version that has succeeded on {target}: there is nothing to go back to"))
    })?;
    if expected.is_some_and(|expected| expected != image) {
        return Err(conflict(format!("the way back leads to {image} by now; nothing was done")));
    }
    let forced = Forced { by: caller.name.clone(), reason, rollback: true };
    let known = app.rollouts.build_of(&image);
    let build = rollback_build(known, image, target, forced).ok_or_else(|| {
        conflict(format!(
            "the version before has no tag like v42-abc1234; {target} can only be set back by hand"
        ))
    })?;
    submit(app, caller, build).await
}

/// The image that a target goes back to when a person says so.
pub(crate) fn way_back(standing: &Standing) -> Option<String> {
    let running = standing.state.as_ref()?.running.as_deref()?;
    standing.rollouts.last_good_before(running)
}

/// The build that goes back: the one that made the image, as far as it is known. Pure.
fn rollback_build(
    known: Option<BuildFinished>,
    image: String,
    target: &TargetName,
    forced: Forced,
) -> Option<BuildFinished> {
    let tag: BuildTag = image.parse::<ImageReference>().ok()?.tag()?.parse().ok()?;
    let job: JobName = target.as_str().parse().ok()?;
    let base = known.unwrap_or_else(|| BuildFinished {
        v: V1,
        id: BuildId::new(),
        job,
        number: tag.number,
        status: BuildStatus::Success,
        image: String::new(),
        digest: None,
        commit: None,
        branch: None,
        url: None,
        forced: None,
        target: None,
        trace_id: None,
        received_at: Utc::now(),
    });
    // The image names its digest if it has one.
    Some(BuildFinished {
        image,
        digest: None,
        target: Some(target.clone()),
        forced: Some(forced),
        ..base
    })
}

/// Deploys a build in spite of its age, or of its quarantine.
pub(crate) async fn force(
    app: &App,
    caller: &Caller,
    state: &BuildState,
    target: Option<TargetName>,
    reason: String,
) -> Result<BuildId, Problem> {
    let conflict = |detail: &'static str| Problem::new(StatusCode::CONFLICT, detail);
    if !state.is_terminal() {
        return Err(conflict("the build is under way; it can be forced once it has ended"));
    }
    let build = state
        .build
        .clone()
        .ok_or_else(|| conflict("of this build too little is known to deploy it again"))?;
    let forced = Forced { by: caller.name.clone(), reason, rollback: false };
    submit(app, caller, BuildFinished { forced: Some(forced), target, ..build }).await
}

/// Says it as CI would, under a new id.
async fn submit(app: &App, caller: &Caller, build: BuildFinished) -> Result<BuildId, Problem> {
    let trace_id = propagation::trace_name(&tracing::Span::current());
    let build = BuildFinished { id: BuildId::new(), received_at: Utc::now(), trace_id, ..build };
    app.publisher.build(&build).await?;
    tracing::info!(build.id = %build.id, build.image = %build.image, caller = caller.name, "build forced");
    Ok(build.id)
}

/// What is known of a target, or why it cannot be told.
pub(crate) async fn known(app: &App, name: &str) -> Result<(TargetName, Standing), Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such target");
    let name: TargetName = name.parse().map_err(|_| missing())?;
    let found = app.rollouts.target(&name).await.map_err(|error| unreadable(&error))?;
    let (standing, _) = found.ok_or_else(missing)?;
    Ok((name, standing))
}

/// The read model is behind.
pub(crate) fn unreadable(error: &Unknown) -> Problem {
    tracing::warn!("{error}");
    Problem::unavailable("the state of builds cannot be read now, try again", 2)
}

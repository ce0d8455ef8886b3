//! `GET /api/builds`: all of them, or those that somebody asks for.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use events::{BuildId, TargetName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::Shared,
    auth::Role,
    decisions,
    problem::Problem,
    rollouts::{BuildView, Filter, Overall},
};

/// How many builds a page has at most, and unless somebody asks for less.
const PAGE: usize = 100;

/// Which builds are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only builds for this target.
    #[param(value_type = TargetName, required = false)]
    target: Option<String>,
    /// Only builds that stand so.
    #[param(value_type = Overall, required = false)]
    state: Option<String>,
    /// How many at most.
    #[param(value_type = u64, required = false, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(value_type = BuildId, required = false)]
    cursor: Option<String>,
}

/// Some builds, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Builds {
    builds: Vec<BuildView>,
    /// To be sent as `cursor` for those before; none if there are none.
    next_cursor: Option<BuildId>,
}

/// Builds, the newest first.
#[utoipa::path(
    get,
    path = "/api/builds",
    operation_id = "listBuilds",
    tag = "builds",
    params(ListQuery),
    responses((status = OK, description = "A page of them", body = Builds)),
    security(("ci" = []), ("operator" = []))
)]
pub(crate) async fn list(
    State(app): State<Shared>,
    query: Result<Query<ListQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.auth.authorize(&headers, &[Role::Ci, Role::Operator])?;
    let Query(query) = query.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "each of target, state, limit, cursor comes once")
    })?;
    let page =
        app.rollouts.list(&query.filter()?).await.map_err(|error| decisions::unreadable(&error))?;
    let builds = page.builds.iter().map(|state| BuildView::of(state)).collect();
    Ok(Json(Builds { builds, next_cursor: page.next }).into_response())
}

impl ListQuery {
    /// What it means. What is empty, as in a form, does not count.
    pub(crate) fn filter(self) -> Result<Filter, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let target = given(self.target).map(|text| text.parse::<TargetName>()).transpose();
        let target = target.map_err(|error| bad(format!("`target`: {error}")))?;
        let state = given(self.state).map(|text| {
            Overall::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
                bad(format!("`state` is one of {}", Overall::ALL.map(Overall::as_str).join(", ")))
            })
        });
        let limit = given(self.limit).map(|text| {
            let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
            limit.ok_or_else(|| bad(format!("`limit` is a number from 1 to {PAGE}")))
        });
        let before = given(self.cursor).map(|text| {
            text.parse()
                .map_err(|_| bad("`cursor` is the next_cursor of the page before".to_owned()))
        });
        Ok(Filter {
            target,
            state: state.transpose()?,
            before: before.transpose()?,
            limit: limit.transpose()?.unwrap_or(PAGE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_list_is_checked() {
        let filter = |query: &str| serde_urlencoded::from_str::<ListQuery>(query).unwrap().filter();
        assert_eq!(filter("").unwrap().limit, PAGE);
        assert_eq!(
            filter("limit=1&state=failed&target=&cursor=").unwrap().state,
            Some(Overall::Failed)
        );
        for bad in ["limit=0", "limit=101", "limit=x", "state=green", "target=A", "cursor=1"] {
            assert_eq!(filter(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}

//! What the templates promise, whatever the data is.

use askama::Template;

use super::{
    BoardPage, BuildPage, ErrorPage, LiveRow, RolloutSection, SignInPage, TargetCard,
    build::{Build, Diagnosis, Link, Pod, Rollout, Step},
    chart::{Chart, Day},
    history::{Figures, History, Row},
    parts::{BuildRef, Frame, Image, Moment, Visitor},
    state::State,
    target::{Freeze, Summary, Target, Verdict},
};

const HOSTILE: &str = "\"><script>alert(1)</script>";

fn frame(operator: bool) -> Frame {
    let visitor = Some(Visitor { name: HOSTILE.to_owned(), operator });
    Frame { visitor, now: moment().iso, live: Some("/rollouts/live?a=1&b=2".to_owned()) }
}

fn moment() -> Moment {
    Moment { iso: "2026-11-24T18:12:31.000Z".to_owned(), text: "24 Nov, 18:12:31 UTC".to_owned() }
}

fn build_ref() -> BuildRef {
    BuildRef { id: "01980000-0000-7000-8000-000000000001".to_owned(), name: HOSTILE.to_owned() }
}

/// A target of which the last rollout failed, with hostile words wherever there are words.
fn target() -> Target {
    let cause = Some(HOSTILE.to_owned());
    let verdict = Verdict {
        state: State::Failed,
        build: build_ref(),
        image: Image::of(HOSTILE),
        at: moment(),
        cause,
    };
    Target {
        name: "search".to_owned(),
        namespace: HOSTILE.to_owned(),
        deployment: HOSTILE.to_owned(),
        runs: None,
        current: None,
        verdict: Some(verdict),
        waiting: Vec::new(),
        freezes: Vec::new(),
        quarantined: Vec::new(),
        back: Some(Image::of(HOSTILE)),
    }
}

fn by_hand() -> Freeze {
    Freeze::ByHand {
        reason: HOSTILE.to_owned(),
        by: HOSTILE.to_owned(),
        since: moment(),
        until: None,
    }
}

fn window() -> Freeze {
    Freeze::Window { until: moment(), local: "Wed 06:00".to_owned(), zone: HOSTILE.to_owned() }
}

fn row() -> Row {
    Row {
        key: "01980000-search".to_owned(),
        build: build_ref(),
        target: None,
        image: Image::of(HOSTILE),
        state: State::Rejected,
        started: moment(),
        duration: None,
        cause: Some(HOSTILE.to_owned()),
    }
}

fn board(operator: bool, state: &str) -> BoardPage {
    let targets = vec![
        target(),
        Target { name: "shop".to_owned(), freezes: vec![by_hand(), window()], ..target() },
    ];
    let states = History::states(state);
    BoardPage {
        frame: frame(operator),
        notice: Some(HOSTILE.to_owned()),
        summary: Summary::of(&targets),
        targets,
        figures: Figures { frequency: Some(HOSTILE.to_owned()), ..Figures::default() },
        chart: Chart::of(vec![Day { name: HOSTILE.to_owned(), succeeded: 1, failed: 1 }]),
        history: History {
            targets: Vec::new(),
            states,
            rows: vec![row()],
            older: None,
            newest: true,
        },
    }
}

fn build() -> Build {
    let text = || Some(HOSTILE.to_owned());
    Build {
        id: build_ref().id,
        name: HOSTILE.to_owned(),
        state: State::Rejected,
        image: Some(Image::of(HOSTILE)),
        digest: text(),
        commit: text(),
        branch: text(),
        received: Some(moment()),
        ci: Link::to(&format!("https://{HOSTILE}")),
        trace: None,
        forced: None,
    }
}

fn rollout() -> Rollout {
    let text = || HOSTILE.to_owned();
    let log = vec![text()];
    let pod = Pod {
        name: text(),
        container: text(),
        reason: text(),
        message: text(),
        exit_code: None,
        restarts: 1,
        log,
    };
    Rollout {
        target: Some("search".to_owned()),
        state: State::Rejected,
        reason: Some(text()),
        previous: Some(Image::of(HOSTILE)),
        progress: None,
        started: moment(),
        deadline: None,
        duration: None,
        steps: vec![Step {
            state: State::Rejected,
            at: moment(),
            after: None,
            detail: Some(text()),
        }],
        diagnosis: Some(Diagnosis {
            cause: text(),
            summary: text(),
            pods: vec![pod],
            events: vec![text()],
        }),
        back: None,
    }
}

fn build_page(operator: bool) -> BuildPage {
    BuildPage { frame: frame(operator), notice: None, build: build(), rollouts: vec![rollout()] }
}

fn pages() -> [String; 4] {
    let text = || HOSTILE.to_owned();
    let sign_in = SignInPage { frame: frame(false), next: text(), error: Some(text()) };
    let error = ErrorPage {
        frame: frame(true),
        title: text(),
        detail: text(),
        back: text(),
        back_label: text(),
    };
    [board(true, "").render(), build_page(true).render(), sign_in.render(), error.render()]
        .map(Result::unwrap)
}

#[test]
fn what_others_wrote_is_text() {
    for html in pages() {
        assert!(html.contains("&#60;script&#62;"), "{html}");
        assert!(!html.contains("<script>"), "{html}");
    }
}

#[test]
fn no_page_has_what_the_policy_forbids() {
    for html in pages() {
        assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
        assert_eq!(
            html.matches("<script").count(),
            html.matches("<script src=\"/assets/board.js\" defer>").count()
        );
    }
}

#[test]
fn who_may_not_act_sees_no_actions() {
    let card =
        |operator| TargetCard { frame: &frame(operator), target: &target() }.render().unwrap();
    assert!(card(true).contains("/freeze\"") && card(true).contains("/rollback\""));
    let html = card(false);
    assert!(
        !html.contains("<form") && !html.contains("<details") && !html.contains("class=\"acts\""),
        "{html}"
    );
    let force = "action=\"/rollouts/builds/01980000-0000-7000-8000-000000000001/force\"";
    assert!(build_page(true).render().unwrap().contains(force));
    assert!(!build_page(false).render().unwrap().contains("/force"));
}

#[test]
fn only_what_was_rejected_for_a_target_can_be_forced() {
    for (state, target, may) in [
        (State::Rejected, Some("a"), true),
        (State::Rejected, None, false),
        (State::RolledBack, Some("a"), false),
    ] {
        let rollout = Rollout { state, target: target.map(str::to_owned), ..rollout() };
        let html = RolloutSection { frame: &frame(true), build: &build(), rollout: &rollout }
            .render()
            .unwrap();
        assert_eq!(html.contains("/force\""), may, "{html}");
    }
}

#[test]
fn a_freeze_by_hand_can_be_resumed_and_a_window_cannot() {
    for (freezes, frozen) in
        [(vec![], false), (vec![window()], false), (vec![window(), by_hand()], true)]
    {
        let target = Target { freezes, ..target() };
        let html = TargetCard { frame: &frame(true), target: &target }.render().unwrap();
        assert_eq!(html.contains("/resume\""), frozen, "{html}");
        assert_eq!(html.contains("/freeze\""), !frozen, "{html}");
        assert_eq!(target.acts_state().starts_with("frozen "), frozen);
    }
}

#[test]
fn a_live_row_is_the_row_of_the_page() {
    let live = LiveRow { row: &row() }.render().unwrap();
    let row = live
        .strip_prefix("<table><tbody>")
        .and_then(|row| row.strip_suffix("</tbody></table>"))
        .unwrap();
    let page = board(false, "").render().unwrap();
    assert!(page.contains(row.trim()), "{row}");
    assert!(page.contains("id=\"history\""), "it takes new ones");
    assert!(
        !board(false, "failed").render().unwrap().contains("id=\"history\""),
        "a filtered one takes no new ones"
    );
}

#[test]
fn an_image_is_taken_apart() {
    for (reference, repository, tag) in [
        ("docker.io/a/b:v1", "docker.io/a/b", "v1"),
        ("localhost:5000/b", "localhost:5000/b", "latest"),
        ("localhost:5000/b:v1", "localhost:5000/b", "v1"),
        ("a/b:v1@sha256:0123456789abcdef", "a/b", "v1"),
        ("a/b@sha256:0123456789abcdef", "a/b", "sha256:0123456789ab"),
        ("", "", "latest"),
    ] {
        let image = Image::of(reference);
        assert_eq!((&*image.repository, &*image.tag), (repository, tag), "{reference}");
    }
}

#[test]
fn only_the_web_is_linked() {
    for url in [
        "javascript:alert(1)",
        "javascript://a/%0Aalert(1)",
        "data:text/html,a",
        "ftp://a",
        "//a",
        "",
    ] {
        assert_eq!(Link::to(url), None, "{url}");
    }
    assert_eq!(
        Link::to("HTTPS://ci.example.org:8443/job/1").unwrap().host(),
        "ci.example.org:8443"
    );
    assert_eq!(
        Link::to("https://ci.example.org@evil.example/job/1").unwrap().host(),
        "evil.example"
    );
}

#[test]
fn states_are_told_apart_without_colour() {
    let mut labels = State::OF_ROLLOUTS.map(State::label).to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), State::OF_ROLLOUTS.len());
    let chosen: Vec<_> =
        History::states("failed").into_iter().filter(|choice| choice.selected).collect();
    assert_eq!(chosen.len(), 1);
}

#[test]
fn the_summary_counts_what_needs_a_look() {
    let targets =
        [target(), Target { name: "shop".to_owned(), freezes: vec![by_hand()], ..target() }];
    let summary = Summary::of(&targets);
    assert_eq!(summary.title, "2 failed – Rollouts");
    assert_eq!(
        summary.chips.iter().map(|chip| &*chip.text).collect::<Vec<_>>(),
        ["2 failed", "1 frozen"]
    );
    assert_eq!(
        Summary::of(&[]),
        Summary { chips: Vec::new(), total: 0, title: "Rollouts".to_owned() }
    );
}

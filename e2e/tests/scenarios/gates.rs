//! What is asked of a version whose pods serve.

use testbed::Fate;

use crate::{
    scene::{Case, Scene, Verdict},
    smoke::Answers,
};

const SMOKE: &str = "deadline: 30s, failure_grace: 3s, rollback: true, \
    smoke: { url: SMOKE, version_pointer: /version, successes: 3, timeout: 3s }";

async fn answers(scene: &Scene, answers: Answers) {
    scene.world.shared().await.smoke.answer(scene.case.name, answers);
}

/// The new version's pods serve, and the smoke test fails.
async fn fails(scene: &Scene, part: &str) -> Verdict {
    let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
    verdict.is("rolled_back", "SmokeTestFailed", 15.0).says(part);
    assert_eq!(scene.image().await, scene.image_of(&Fate::Ready.tag(1)));
    verdict
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, title, with: fn() -> Answers, part: &'static str| {
        Case::new(name, title, move |scene| async move {
            answers(&scene, with()).await;
            fails(&scene, part).await;
        })
        .settings(SMOKE)
    };
    vec![
        Case::new("smoke-passes", "the smoke test passes", |scene| async move {
            answers(&scene, Answers::Version(Fate::Ready.tag(2))).await;
            let verdict = scene.roll_out(&Fate::Ready.tag(2)).await;
            verdict.succeeded(15.0);
            assert!(verdict.states().contains(&"smoke_testing".to_owned()));
            assert_eq!(scene.world.shared().await.smoke.asked(scene.case.name), 3);
        })
        .settings(SMOKE),
        case(
            "smoke-500",
            "the smoke test gets a 500",
            || Answers::Status(500),
            "500 Internal Server Error",
        ),
        case(
            "smoke-old",
            "the smoke test reaches the old version",
            || Answers::Version(Fate::Ready.tag(1)),
            "not \"v2-",
        ),
        case("smoke-silent", "the smoke test gets no answer", || Answers::Never, "no answer"),
        case(
            "smoke-flaps",
            "the smoke test passes twice and fails, again and again",
            || Answers::Flapping(Fate::Ready.tag(2)),
            "never 3 in a row",
        ),
    ]
}

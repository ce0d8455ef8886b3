//! Every act, tried as every user: `matrix.txt`.

use async_nats::ConnectErrorKind;
use serde_json::Value;
use testbed::{Access, Nats, Scratch};

use crate::user::{User, try_to_sign_in};

/// What is done with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Publish on it.
    Say,
    /// Listen on it.
    Hear,
    /// Ask JetStream, below the subject under which the user asks it.
    Ask,
}

/// An act, and who may do it.
struct Row {
    act: Act,
    subject: &'static str,
    allowed: Vec<bool>,
}

/// The users, and the acts.
fn matrix() -> (Vec<&'static str>, Vec<Row>) {
    let mut lines = include_str!("matrix.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let users: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let rows = lines.map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [act, subject, marks @ ..] = words.as_slice() else { panic!("not a row: {line}") };
        assert_eq!(marks.len(), users.len(), "{line}");
        let act = match *act {
            "say" => Act::Say,
            "hear" => Act::Hear,
            "ask" => Act::Ask,
            other => panic!("no act: {other}"),
        };
        let allowed = marks.iter().map(|mark| match *mark {
            "yes" => true,
            "-" => false,
            other => panic!("no mark: {other} in {line}"),
        });
        Row { act, subject, allowed: allowed.collect() }
    });
    let rows = rows.collect();
    (users, rows)
}

#[tokio::test]
async fn each_user_may_do_its_own_acts_and_is_refused_all_others() {
    let scratch = Scratch::new().unwrap();
    // Without streams, nothing that is allowed has an effect.
    let (nats, access) = Nats::start_secured(scratch.path()).await.unwrap();
    let (users, rows) = matrix();
    let mut wrong = Vec::new();
    for (column, name) in users.into_iter().enumerate() {
        let mut user = User::sign_in(&nats, &access, name).await;
        for row in &rows {
            let may = match row.act {
                Act::Say => user.may_say(row.subject).await,
                Act::Hear => user.may_hear(row.subject).await,
                Act::Ask => user.may_say(&format!("{}.{}", Access::api(name), row.subject)).await,
            };
            if may != row.allowed[column] {
                wrong.push(format!(
                    "{name} {} {:?} {}",
                    if may { "may" } else { "may not" },
                    row.act,
                    row.subject
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn whoever_may_ask_jetstream_gets_an_answer() {
    let scratch = Scratch::new().unwrap();
    let (nats, access) = Nats::start_secured(scratch.path()).await.unwrap();
    let (users, rows) = matrix();
    for (column, name) in users.into_iter().enumerate() {
        let user = User::sign_in(&nats, &access, name).await;
        for row in rows.iter().filter(|row| row.act == Act::Ask && row.allowed[column]) {
            // These are asked of a consumer, and there is none.
            if !["CONSUMER.MSG.NEXT.", "CONSUMER.RESET."]
                .iter()
                .any(|asked| row.subject.starts_with(asked))
            {
                let answer = user.ask(row.subject, &Value::Null).await;
                assert!(
                    answer["type"].as_str().is_some_and(|kind| kind.contains("jetstream")),
                    "{name}: {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn nobody_comes_in_without_the_right_password_and_none_is_sent_to_another_server() {
    let scratch = Scratch::new().unwrap();
    let (nats, access) = Nats::start_secured(scratch.path()).await.unwrap();
    for (user, password) in [
        ("gateway", "wrong".to_owned()),
        ("gateway", Access::password("deployer")),
        ("nobody", Access::password("gateway")),
        ("", String::new()),
    ] {
        let error = try_to_sign_in(&nats, &access, user, &password).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::AuthorizationViolation, "{user}: {error}");
    }
    assert!(async_nats::connect(nats.url()).await.is_err(), "without the authority");
    // Another authority than that of the certificate that the server has: no password is sent.
    access.change_certificate().unwrap();
    let error = try_to_sign_in(&nats, &access, "gateway", "wrong").await.unwrap_err();
    assert_ne!(error.kind(), ConnectErrorKind::AuthorizationViolation, "{error}");
}

//! Passwords and certificates change while everything runs.

use async_nats::ConnectErrorKind;
use serde_json::json;
use testbed::{Access, eventually};

use crate::{services::World, user::try_to_sign_in};

#[tokio::test]
async fn a_new_password_and_a_new_certificate_are_taken_without_a_restart() {
    let mut world = World::start().await;
    let (gateway, worker) = (world.gateway.server.pid(), world.worker.server.pid());
    world.contact("before").await;

    world.access.change_password("gateway").unwrap();
    world.nats.reload().unwrap();
    // Whoever signed in with the old password is cut off, and signs in with the new one.
    eventually("the end of the old password", || async {
        let refused =
            try_to_sign_in(&world.nats, &world.access, "gateway", &Access::password("gateway"))
                .await;
        refused
            .is_err_and(|error| error.kind() == ConnectErrorKind::AuthorizationViolation)
            .then_some(())
    })
    .await;
    connected_again(&world, 1.0).await;
    world.contact("with-the-new-password").await;

    world.access.change_certificate().unwrap();
    world.nats.reload().unwrap();
    eventually("the new certificate", || async {
        try_to_sign_in(&world.nats, &world.access, "operator", &Access::password("operator"))
            .await
            .ok()
    })
    .await;
    // Those who are connected stay so; whoever connects anew checks the new one.
    world.nats.server.kill();
    world.nats.start_again().await.unwrap();
    connected_again(&world, 2.0).await;
    world.contact("with-the-new-certificate").await;
    assert_eq!((world.gateway.server.pid(), world.worker.server.pid()), (gateway, worker));
}

#[tokio::test]
async fn a_gateway_that_may_no_longer_publish_contacts_accepts_none_and_says_why() {
    const ALLOWED: &str =
        "\"contacts.submitted\"\n              \"pipeline.build.*\"\n              \"target";
    const TAKEN: &str = "\"pipeline.build.*\"\n              \"target";
    let world = World::start().await;
    world.contact("before").await;
    world.access.change_users(|users| users.replacen(ALLOWED, TAKEN, 1)).unwrap();
    world.nats.reload().unwrap();
    let contact = json!({"name": "Ada", "email": "ada@example.org", "message": "Hello"});
    let post = || world.gateway.http.post_json("/api/contact", &contact);
    let refused = eventually("a refusal", || async {
        let answer = post().await.ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(refused.text().contains("does not take the request; nothing was accepted"));
    assert!(!refused.header("retry-after").is_empty());
    let log = world.gateway.server.log();
    let violation = "Permissions Violation for Publish to \\\"contacts.submitted\\\"";
    assert!(log.contains(violation), "{log}");
    world.access.change_users(|users| users.replacen(TAKEN, ALLOWED, 1)).unwrap();
    world.nats.reload().unwrap();
    eventually("a contact that is accepted again", || async {
        (post().await.ok()?.status == 202).then_some(())
    })
    .await;
}

async fn connected_again(world: &World, losses: f64) {
    eventually("a gateway that is connected again", || async {
        let cut_off = world.gateway.metric("nats_disconnects_total").await.ok()?;
        let ready = world.gateway.admin.get("/readyz").await.ok()?;
        (cut_off >= losses && ready.status.is_success()).then_some(())
    })
    .await;
}

//! What operators see of parts that do not work: through readiness, the health report and the metrics.

use std::time::Duration;

use doorward::settings::Settings;
use doorward_actors::MailKind;
use doorward_actors::ports::SendError;
use doorward_actors::testing::Fault;
use serde_json::{Value, json};

use crate::support::{TestApp, within};

fn actor<'a>(inside: &'a Value, name: &str) -> &'a Value {
    inside["actors"].as_array().unwrap().iter().find(|actor| actor["name"] == name).unwrap()
}

fn problem(check: &str, actor: Option<&str>, blocks: bool) -> Value {
    json!({"check": check, "actor": actor, "blocks": blocks})
}

/// Asserts whether the service says that it is ready, without the reason.
async fn assert_ready(app: &TestApp, ready: bool) {
    let answer = within(app.get("/health/ready")).await;
    if ready {
        answer.assert_body(200, &json!({"status": "ready"}));
    } else {
        answer.assert_body(503, &json!({"status": "not_ready"}));
    }
}

/// Makes an actor fail this often, each time after it is back.
pub(crate) async fn crash(app: &TestApp, name: &str, times: u64) {
    for n in 1..=times {
        app.fail(name, Fault::Error).await;
        app.restarted(name, n).await;
    }
}

#[tokio::test]
async fn r19_s72_a_frozen_actor_is_seen_and_named_to_insiders_alone() {
    let app = TestApp::spawn().await;
    assert_ready(&app, true).await;
    app.handles.inject("rate_limiter", Fault::Hang(Duration::from_mins(10))).await.unwrap();
    app.pass(Duration::from_secs(1));
    assert_ready(&app, false).await;
    // Nothing was asked of it for three seconds before, so it was idle until now.
    let seen = app.inside().await;
    assert_eq!(seen["problems"], json!([problem("actor", Some("rate_limiter"), true)]));
    app.pass(Duration::from_secs(4));
    let seen = app.inside().await;
    assert_eq!(seen["status"], "degraded");
    let expected = ["stuck_actor", "actor"].map(|check| problem(check, Some("rate_limiter"), true));
    assert_eq!(seen["problems"], json!(expected));
    let frozen = actor(&seen, "rate_limiter");
    assert_eq!(frozen["state"], "running", "{frozen}");
    assert_eq!(frozen["oldest_message_seconds"], 4, "{frozen}");
    assert!(frozen["mailbox"].as_u64().unwrap() >= 2, "{frozen}");
    assert_eq!(actor(&seen, "user")["mailbox"], 0);
    assert_ready(&app, false).await;
}

#[tokio::test]
async fn r09_an_actor_that_is_restarted_again_and_again_makes_the_service_not_ready_for_a_minute() {
    let app = TestApp::spawn().await;
    crash(&app, "mailer", 4).await;
    assert_ready(&app, true).await;
    crash(&app, "keys", 5).await;
    app.pass(Duration::from_secs(2));
    assert_ready(&app, false).await;
    let seen = app.inside().await;
    assert_eq!(seen["problems"], json!([problem("restart_storm", Some("keys"), true)]));
    let keys = actor(&seen, "keys");
    assert_eq!((&keys["restarts"], &keys["recent_restarts"]), (&json!(5), &json!(5)));
    assert!(keys["last_restart_cause"].as_str().unwrap().contains("injected error"), "{keys}");
    assert_eq!(keys["last_restart"], "2025-01-01T00:00:00.000Z");
    app.pass(Duration::from_mins(1));
    assert_ready(&app, true).await;
    let seen = app.inside().await;
    assert_eq!((&seen["status"], &actor(&seen, "keys")["recent_restarts"]), (&json!("ok"), &json!(0)));
}

#[tokio::test]
async fn r03_a_nearly_full_disk_is_told_and_stops_nothing() {
    let all_of_it = |settings: &mut Settings| settings.storage.min_free = u64::MAX;
    let app = TestApp::builder().with(all_of_it).spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    assert_ready(&app, true).await;
    assert!(app.is_live(&token).await);
    let seen = app.inside().await;
    assert_eq!((&seen["status"], &seen["problems"]), (&json!("degraded"), &json!([problem("disk_low", None, false)])));
}

#[tokio::test]
async fn r11_a_service_that_stops_is_not_ready() {
    let app = TestApp::spawn().await;
    assert_ready(&app, true).await;
    app.handles.health.begin_stop();
    assert_ready(&app, false).await;
    assert_eq!(app.inside().await["problems"], json!([problem("stopping", None, true)]));
    assert_eq!(app.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn the_outbox_is_shown_without_the_addresses_that_a_mail_server_quotes() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.mails_to(&ann.email).await;
    app.mail.refuse(Some(SendError::Transient(format!("451 <{}>: try again later", ann.email))));
    app.pass(Duration::from_secs(10));
    assert_eq!(app.post("/recovery/request", &json!({"email": ann.email})).await.status, 202);
    app.handles.tend_mail().await.unwrap();
    let seen = app.inside().await;
    let expected = json!({
        "waiting": 1,
        "dead": 0,
        "oldest": "2025-01-01T00:00:10.000Z",
        "last_error": "451 (address) try again later",
        "last_error_at": "2025-01-01T00:00:10.000Z",
    });
    assert_eq!(seen["outbox"], expected);
    app.mail.refuse(Some(SendError::Permanent("550 no".to_owned())));
    app.pass(Duration::from_mins(1));
    app.handles.tend_mail().await.unwrap();
    let seen = app.inside().await;
    assert_eq!((&seen["outbox"]["waiting"], &seen["outbox"]["dead"]), (&json!(0), &json!(1)), "{seen}");
    assert_eq!((&seen["outbox"]["oldest"], &seen["outbox"]["last_error"]), (&Value::Null, &json!("550 no")));
    app.mail.refuse(None);
    assert_eq!(app.mails_to(&ann.email).await.iter().filter(|mail| mail.kind == MailKind::ResetPassword).count(), 0);
}

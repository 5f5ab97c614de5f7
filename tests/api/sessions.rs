//! The list of sessions, for owners and administrators.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestApp, members};

const MINE: &str = "/my_account/sessions";

async fn list(app: &TestApp, path: &str, token: &str) -> Vec<Value> {
    let answer = app.call(Method::GET, path, token, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.members(), ["next", "sessions"]);
    answer.body["sessions"].as_array().unwrap().clone()
}

async fn end(app: &TestApp, path: &str, token: &str) -> u16 {
    app.call(Method::DELETE, path, token, &Value::Null).await.status
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

#[tokio::test]
async fn s41_an_owner_lists_names_and_ends_sessions() {
    let app = TestApp::spawn().await;
    let (ann, first) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(1));
    let second = app.login(&ann).await;
    app.pass(Duration::from_mins(1));
    assert!(app.is_live(&second).await);
    app.pass(Duration::from_mins(1));
    let sessions = list(&app, MINE, &first).await;
    assert_eq!(
        members(&sessions[0]),
        ["address", "created_at", "current", "id", "label", "last_active_at", "user_agent"]
    );
    assert_eq!(sessions.iter().map(|session| session["current"].as_bool().unwrap()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(sessions[0]["created_at"], "2025-01-01T00:01:00.000Z");
    assert_eq!(sessions[0]["last_active_at"], "2025-01-01T00:02:00.000Z", "the use that is in memory alone");
    assert_eq!(sessions[1]["last_active_at"], "2025-01-01T00:03:00.000Z");
    assert_eq!(sessions[0]["address"], "127.0.0.1");

    let path = format!("{MINE}/{}", id(&sessions[0]));
    let named = app.call(Method::PATCH, &path, &first, &json!({"label": " Phone "})).await;
    assert_eq!((named.status, &named.body["label"], &named.body["current"]), (200, &json!("Phone"), &json!(false)));
    for bad in [
        json!({"label": ""}),
        json!({"label": "a\nb"}),
        json!({"label": "x".repeat(65)}),
        json!({"label": 1}),
        json!({}),
    ] {
        assert_eq!(app.call(Method::PATCH, &path, &first, &bad).await.pointers(), ["/label"]);
    }
    let app = app.restart().await;
    assert_eq!(list(&app, MINE, &first).await[0]["label"], "Phone");
    assert_eq!(app.call(Method::PATCH, &path, &first, &json!({"label": null})).await.body["label"], Value::Null);

    let third = app.login(&ann).await;
    assert_eq!(end(&app, &path, &first).await, 204);
    assert!(!app.is_live(&second).await);
    assert_eq!(end(&app, &path, &first).await, 404);
    let fourth = app.login(&ann).await;
    assert_eq!(end(&app, MINE, &first).await, 204);
    assert_eq!(end(&app, MINE, &first).await, 204, "there are no others, which is what was asked for");
    for dead in [&second, &third, &fourth] {
        assert!(!app.is_live(dead).await);
    }
    assert_eq!(list(&app, MINE, &first).await.len(), 1);
    let events = app.call(Method::GET, "/my_account/events?event=session.ended", &first, &Value::Null).await;
    assert_eq!(events.body["events"].as_array().unwrap().len(), 3);
    let app = app.restart().await;
    for dead in [&second, &third, &fourth] {
        assert!(!app.is_live(dead).await, "an ended session came back");
    }
    assert!(app.is_live(&first).await);
    let own = format!("{MINE}/{}", id(&list(&app, MINE, &first).await[0]));
    assert_eq!(end(&app, &own, &first).await, 204);
    assert!(!app.is_live(&first).await);
}

#[tokio::test]
async fn s41_administrators_list_and_end_anyones_sessions() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, first) = app.register_and_login("ann").await;
    let second = app.login(&ann).await;
    let path = format!("/accounts_management/{}/sessions", ann.id);
    let sessions = list(&app, &path, &admin).await;
    assert!(sessions.iter().all(|session| session["current"] == false));
    let one = sessions.iter().find(|session| session["last_active_at"].is_string()).unwrap();
    assert_eq!(end(&app, &format!("{path}/{}", id(one)), &admin).await, 204);
    assert_eq!(end(&app, &format!("{path}/{}", id(one)), &admin).await, 404);
    assert!(app.is_live(&first).await != app.is_live(&second).await);
    assert_eq!(end(&app, &path, &admin).await, 204);
    assert!(!app.is_live(&first).await && !app.is_live(&second).await);
    assert_eq!(list(&app, &path, &admin).await.len(), 0);
    let seen = app.call(Method::GET, "/audit/?event=session.ended", &admin, &Value::Null).await;
    assert!(seen.body["events"].as_array().unwrap().iter().all(|event| event["actor"] == "admin:1"), "{seen:?}");
    for unknown in ["/accounts_management/99/sessions", "/accounts_management/99/sessions/x"] {
        assert_eq!(end(&app, unknown, &admin).await, 404);
    }
    assert_eq!(end(&app, "/accounts_management/x/sessions", &admin).await, 422);
    // On the caller's own account, this ends all sessions except the calling one.
    assert_eq!(end(&app, "/accounts_management/1/sessions", &admin).await, 204);
    assert!(app.is_live(&admin).await);
}

#[tokio::test]
async fn s55_nobody_gets_at_a_session_of_another_account() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, anns) = app.register_and_login("ann").await;
    let (bob, bobs) = app.register_and_login("bob").await;
    let session = list(&app, MINE, &anns).await;
    let (number, sid) = (ann.id, id(&session[0]));
    let path = format!("{MINE}/{sid}");
    app.call(Method::DELETE, &path, &bobs, &Value::Null).await.assert_problem(404, "Session not found");
    let label = json!({"label": "mine"});
    app.call(Method::PATCH, &path, &bobs, &label).await.assert_problem(404, "Session not found");
    for path in
        [format!("/accounts_management/{number}/sessions"), format!("/accounts_management/{number}/sessions/{sid}")]
    {
        assert_eq!(end(&app, &path, &bobs).await, 403);
    }
    let through_bob = format!("/accounts_management/{}/sessions/{sid}", bob.id);
    assert_eq!(end(&app, &through_bob, &admin).await, 404, "the session is not of the account in the path");
    for odd in ["x", &"A".repeat(22), &"a".repeat(3000)] {
        assert_eq!(end(&app, &format!("{MINE}/{odd}"), &bobs).await, 404, "{odd}");
    }
    assert!(app.is_live(&anns).await && app.is_live(&bobs).await);
    assert_eq!(list(&app, MINE, &anns).await[0]["label"], Value::Null);
}

#[tokio::test]
async fn s42_the_session_idle_for_longest_makes_room() {
    let app = TestApp::builder().with(|settings| settings.sessions.max_per_account = 3).spawn().await;
    let ann = app.register("ann").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(app.login(&ann).await);
        app.pass(Duration::from_secs(1));
    }
    assert!(app.is_live(&tokens[0]).await);
    app.pass(Duration::from_secs(1));
    tokens.push(app.login(&ann).await);
    assert_eq!(list(&app, MINE, &tokens[3]).await.len(), 3);
    assert!(!app.is_live(&tokens[1]).await);
    assert!(app.is_live(&tokens[0]).await);
}

#[tokio::test]
async fn r05_sessions_that_were_ended_while_the_clock_was_ahead_stay_ended() {
    let app = TestApp::spawn().await;
    let admin_person = app.register("admin").await;
    let ann = app.register("ann").await;
    let all = format!("/accounts_management/{}/sessions", ann.id);
    let ahead = Duration::from_hours(24 * 31);
    let mut dead = Vec::new();
    for (ends_all, status) in [(false, 404), (true, 204)] {
        let token = app.login(&ann).await;
        let one = format!("{all}/{}", id(&list(&app, MINE, &token).await[0]));
        app.clock.set_forward(ahead);
        let admin = app.login(&admin_person).await;
        assert_eq!(end(&app, if ends_all { &all } else { &one }, &admin).await, status, "it was over by that clock");
        app.clock.set_back(ahead);
        assert!(!app.is_live(&token).await);
        dead.push(token);
    }
    let admin = app.login(&admin_person).await;
    let seen = app.call(Method::GET, "/audit/?event=session.expired", &admin, &Value::Null).await;
    assert_eq!(seen.body["events"].as_array().unwrap().len(), 2, "{seen:?}");
    let app = app.restart().await;
    for token in &dead {
        assert!(!app.is_live(token).await);
    }
}

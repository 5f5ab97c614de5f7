//! `/forward_auth`: the answers for a proxy that asks before it forwards a request.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestApp};

async fn ask(app: &TestApp, token: &str, query: &str) -> Answer {
    app.send(app.request(Method::GET, &format!("/forward_auth{query}")).bearer_auth(token)).await
}

const NAMES: [&str; 5] = ["x-auth-user-id", "x-auth-email", "x-auth-nickname", "x-auth-role", "x-auth-session"];

#[tokio::test]
async fn a_proxy_learns_whose_a_request_is() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let session = app.handles.sessions.look(&token).await.unwrap().session.to_string();
    for method in [Method::GET, Method::HEAD] {
        // Headers that a proxy copies from its client's request have no effect.
        let request = app.request(method, "/forward_auth").bearer_auth(&token).header("X-Forwarded-Method", "POST");
        let answer = app.send(request.header("X-Auth-Role", "user").header("Cookie", "a=b")).await;
        assert_eq!((answer.status, &*answer.text), (200, ""), "{answer:?}");
        let told = NAMES.map(|name| answer.header(name).unwrap());
        assert_eq!(told, [&*ann.id.to_string(), "ann@example.com", "ann", "admin", &*session]);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("ratelimit"), None, "it is not counted");
    }
}

#[tokio::test]
async fn a_name_of_any_letters_is_one_line_of_ascii() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let change = json!({"nickname": "Änn 100% 漢"});
    assert_eq!(app.change_own(&token, &change).await.status, 200);
    let answer = ask(&app, &token, "").await;
    assert_eq!(answer.header("x-auth-nickname"), Some("%C3%84nn 100%25 %E6%BC%A2"));
}

#[tokio::test]
async fn s51_without_a_live_token_nothing_passes_and_nobody_learns_why() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let (_, gone) = app.register_and_login("bob").await;
    assert_eq!(app.logout(&gone).await.status, 200);
    app.lock(&admin, ann.id).await;
    for dead in ["garbage", &token, &gone] {
        let answer = ask(&app, dead, "?role=admin").await;
        answer.assert_unauthorized("Bearer error=\"invalid_token\"");
        assert!(NAMES.iter().all(|name| answer.header(name).is_none()), "{answer:?}");
    }
    app.get("/forward_auth").await.assert_unauthorized("Bearer");
    // A token is accepted only in the header.
    app.get(&format!("/forward_auth?access_token={admin}")).await.assert_unauthorized("Bearer");
}

#[tokio::test]
async fn a_role_is_asked_for_and_counts_as_it_is_now() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    for (query, status) in [
        ("", 200),
        ("?role=user", 200),
        ("?role=admin", 403),
        ("?role=root", 422),
        ("?rolle=admin", 422),
        ("?role=user&x=1", 422),
        // An unset variable or a misplaced name must not open the gate.
        ("?role=", 422),
        ("?role", 422),
        ("?admin", 422),
        ("?admin=", 422),
        ("?rolle=", 422),
        ("?role=user&admin", 422),
        ("?=", 422),
        ("?=admin", 422),
        ("?role=user&role=", 400),
        ("?", 200),
        ("?&", 200),
    ] {
        assert_eq!(ask(&app, &token, query).await.status, status, "{query}");
    }
    app.must_change(&admin, ann.id, &json!({"role": "admin"})).await;
    assert_eq!(ask(&app, &token, "?role=admin").await.header("x-auth-role"), Some("admin"));
    app.must_change(&admin, ann.id, &json!({"role": "user"})).await;
    let refused = ask(&app, &token, "?role=admin").await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (403, Some("Bearer error=\"insufficient_scope\""))
    );
}

#[tokio::test]
async fn s39_a_request_that_passes_is_a_use_of_the_session() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.sessions.idle_timeout = Duration::from_mins(10);
            settings.tokens.access_token_lifetime = Duration::from_hours(1);
        })
        .spawn()
        .await;
    let (_, token) = app.register_and_login("ann").await;
    for _ in 0..3 {
        app.pass(Duration::from_mins(9));
        assert_eq!(ask(&app, &token, "").await.status, 200);
    }
    app.pass(Duration::from_mins(11));
    assert_eq!(ask(&app, &token, "").await.status, 401);
}

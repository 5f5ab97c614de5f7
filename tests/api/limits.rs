//! Rate limits on requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, SERVICE_TOKEN, TestApp};

/// Starts an application with these quotas per minute. With three per minute, one more request is allowed every twenty
/// seconds.
async fn limited(public: u32, private: u32) -> TestApp {
    TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = public.try_into().unwrap();
            settings.limits.public.per = Duration::from_mins(1);
            settings.limits.private.permits = private.try_into().unwrap();
            settings.limits.private.per = Duration::from_mins(1);
        })
        .spawn()
        .await
}

#[track_caller]
fn assert_limited(answer: &Answer, retry_after: &str) {
    answer.assert_problem(429, "Too many requests, try again later");
    assert_eq!(answer.header("retry-after"), Some(retry_after));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn s21_public_routes_are_limited_by_address_together_and_recover() {
    let app = limited(3, 1_000_000).await;
    let nobody = json!({"email": "nobody@example.com", "password": "x", "passphrase": "x", "new_password": "x"});
    assert_eq!(app.post("/login", &nobody).await.status, 422);
    assert_eq!(app.post("/register", &json!({})).await.status, 422);
    assert_eq!(app.recover("nobody@example.com", "x", "x").await.status, 400);
    for path in ["/login", "/register", "/recovery"] {
        assert_limited(&app.post(path, &nobody).await, "20");
    }
    app.pass(Duration::from_millis(19_999));
    assert_limited(&app.post("/login", &nobody).await, "1");
    app.pass(Duration::from_millis(1));
    assert_eq!(app.post("/login", &nobody).await.status, 422);
    assert_limited(&app.post("/login", &nobody).await, "20");
    app.pass(Duration::from_mins(2));
    for _ in 0..3 {
        assert_eq!(app.post("/login", &nobody).await.status, 422);
    }
    assert_limited(&app.post("/login", &nobody).await, "20");
}

#[tokio::test]
async fn s13_limits_count_the_same_for_unknown_accounts_and_come_before_the_hash() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = 4.try_into().unwrap();
            settings.passwords.hash_threads = 1;
        })
        .spawn()
        .await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    for (email, status) in [("nobody@example.com", 401), (&ann.email, 401), ("nobody@example.com", 401)] {
        assert_eq!(app.login_under_one_id(email, "Wrong-lamp-7-tree").await.status, status);
    }
    let known = app.login_under_one_id(&ann.email, &ann.password).await;
    let unknown = app.login_under_one_id("nobody@example.com", "x").await;
    assert_eq!(known.status, 429);
    assert_eq!(known.whole(), unknown.whole());
    assert_eq!(app.hashes().await - before, 3);
}

#[tokio::test]
async fn s21_private_routes_are_limited_by_account_and_recover() {
    let app = limited(1_000_000, 3).await;
    let admin = app.admin().await;
    let (ann, one) = app.register_and_login("ann").await;
    let two = app.login(&ann).await;
    let mine = async |token: &str| app.call(Method::GET, "/my_account/", token, &Value::Null).await;
    for token in [&one, &two, &one] {
        assert_eq!(mine(token).await.status, 200);
    }
    assert_limited(&mine(&two).await, "20");
    assert_limited(&app.change_own(&one, &json!({"nickname": "anna"})).await, "20");
    assert_limited(&app.delete_own(&one, &Value::Null).await, "20");
    assert!(app.is_live(&one).await);
    assert_eq!(mine(&admin).await.status, 200, "another account is limited too");
    // A client that has used up its quota can still end the session.
    assert_eq!(app.logout(&one).await.status, 200);
    app.pass(Duration::from_secs(20));
    assert_eq!(mine(&two).await.status, 200);
}

#[tokio::test]
async fn s09_the_suite_is_watched_for_secrets_in_the_log() {
    let app = TestApp::spawn().await;
    let before = crate::support::leaks::searched();
    app.register_and_login("ann").await;
    assert!(crate::support::leaks::searched() > before);
}

#[tokio::test]
async fn administrators_services_and_probes_are_not_limited() {
    let app = limited(2, 1).await;
    let admin = app.admin().await;
    for _ in 0..10 {
        assert_eq!(app.call(Method::GET, "/accounts_management/", &admin, &Value::Null).await.status, 200);
        assert_eq!(app.call(Method::PUT, "/accounts_management/1", &admin, &json!({})).await.status, 200);
        assert_eq!(app.call(Method::GET, "/health/actors", &admin, &Value::Null).await.status, 200);
        assert!(app.is_live(&admin).await);
        assert_eq!(app.get("/health/live").await.status, 200);
        assert_eq!(app.get("/health/ready").await.status, 200);
    }
}

#[tokio::test]
async fn s22_guessing_the_service_token_is_limited_and_the_right_one_still_works() {
    let app = limited(4, 1_000_000).await;
    let token = app.admin().await;
    let guess = || app.request(Method::POST, "/verify").header("X-Service-Token", "wrong").bearer_auth(&token);
    app.send(guess()).await.assert_problem(404, "Not found");
    let inside = || app.request(Method::GET, "/health/actors").header("X-Service-Token", "wrong");
    app.send(inside()).await.assert_problem(404, "Not found");
    assert_limited(&app.send(guess()).await, "15");
    assert_limited(&app.send(inside()).await, "15");
    assert!(app.is_live(&token).await);
    let request = app.request(Method::GET, "/health/actors").header("X-Service-Token", SERVICE_TOKEN);
    assert_eq!(app.send(request).await.status, 200);
}

#[tokio::test]
async fn s18_a_forwarded_address_from_a_stranger_counts_for_nothing() {
    let app = limited(3, 1_000_000).await;
    let guess = async |forwarded: &str| {
        let request = app.request(Method::POST, "/login").header("X-Forwarded-For", forwarded);
        app.send(request.header("Forwarded", format!("for={forwarded}")).json(&json!({}))).await
    };
    for n in 1..=3 {
        assert_eq!(guess(&format!("192.0.2.{n}")).await.status, 422);
    }
    assert_limited(&guess("192.0.2.9").await, "20");
}

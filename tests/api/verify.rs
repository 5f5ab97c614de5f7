//! `POST /verify`: the answers for services.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, NEW_PASSWORD, SERVICE_TOKEN, TestApp};

async fn verify_under_one_id(app: &TestApp, token: &str) -> Answer {
    let request = app.request(Method::POST, "/verify").header("X-Request-Id", "the-same");
    app.send(request.header("X-Service-Token", SERVICE_TOKEN).bearer_auth(token)).await
}

#[tokio::test]
async fn a_service_learns_whom_a_live_token_speaks_for() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let session = app.handles.sessions.look(&token).await.unwrap().session.to_string();
    let expected = json!({"id": ann.id, "email": "ann@example.com", "nickname": "ann", "role": "admin", "valid": true,
        "lock": false, "customer_account": "none", "password_compromised": false, "session_id": session,
        "expires_at": "2025-01-01T00:30:00.000Z", "idle_expires_at": "2025-01-01T00:30:00.000Z"});
    for path in ["/verify", "/verify/"] {
        let request = app.request(Method::POST, path).header("X-Service-Token", SERVICE_TOKEN);
        app.send(request.bearer_auth(&token)).await.assert_body(200, &expected);
    }
    // A body is not required and is ignored.
    let request = app.request(Method::POST, "/verify").header("X-Service-Token", SERVICE_TOKEN);
    app.send(request.bearer_auth(&token).body("whatever")).await.assert_body(200, &expected);
}

#[tokio::test]
async fn s50_without_the_service_token_there_is_nothing_here() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let almost = &SERVICE_TOKEN[1..];
    for service_token in [None, Some(""), Some("wrong"), Some(almost), Some(&token)] {
        for bearer in [None, Some("garbage"), Some(&*token)] {
            let mut request = app.request(Method::POST, "/verify");
            if let Some(service_token) = service_token {
                request = request.header("X-Service-Token", service_token);
            }
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            app.send(request).await.assert_problem(404, "Not found");
        }
    }
    let twice = app.request(Method::POST, "/verify").bearer_auth(&token);
    let twice = twice.header("X-Service-Token", SERVICE_TOKEN).header("X-Service-Token", "wrong");
    app.send(twice).await.assert_problem(404, "Not found");
}

#[tokio::test]
async fn s50_a_service_without_a_users_token_is_401() {
    let app = TestApp::spawn().await;
    let request = app.request(Method::POST, "/verify").header("X-Service-Token", SERVICE_TOKEN);
    app.send(request).await.assert_unauthorized("Bearer");
    // The service's own token is not a user's token.
    app.verify(SERVICE_TOKEN).await.assert_unauthorized("Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn s51_dead_tokens_answer_alike_whatever_they_died_of() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.sessions.idle_timeout = Duration::from_mins(10);
            settings.tokens.access_token_lifetime = Duration::from_hours(1);
            settings.sessions.max_per_account = 1;
        })
        .spawn()
        .await;
    let (_, idle) = app.register_and_login("idle").await;
    app.pass(Duration::from_mins(11));
    let (admin_person, evicted) = app.register_and_login("admin").await;
    let admin = app.login(&admin_person).await;
    // The first account is the administrator.
    let first = crate::support::Person::named("idle");
    let root = app.login(&first).await;
    let mut dead = vec![("idle", idle), ("evicted", evicted), ("logged out", admin)];
    assert_eq!(app.logout(&dead[2].1).await.status, 200);
    for cause in ["locked", "deleted", "changed", "recovered"] {
        let (person, token) = app.register_and_login(cause).await;
        match cause {
            "locked" => app.lock(&root, person.id).await,
            "deleted" => assert_eq!(app.delete(&root, person.id).await.status, 200),
            "changed" => app.must_change(&root, person.id, &json!({"password": NEW_PASSWORD})).await,
            _ => assert_eq!(app.recover(&person.email, &person.passphrase, NEW_PASSWORD).await.status, 200),
        }
        dead.push((cause, token));
    }
    let garbage = verify_under_one_id(&app, "garbage").await;
    garbage.assert_unauthorized("Bearer error=\"invalid_token\"");
    for (cause, token) in &dead {
        assert_eq!(verify_under_one_id(&app, token).await.whole(), garbage.whole(), "{cause}");
    }
    // This token comes last, because it needs the most time.
    let (_, expired) = app.register_and_login("expired").await;
    for _ in 0..7 {
        app.pass(Duration::from_mins(9));
        verify_under_one_id(&app, &expired).await;
    }
    assert_eq!(verify_under_one_id(&app, &expired).await.whole(), garbage.whole(), "expired");
}

#[tokio::test]
async fn s39_being_verified_is_a_use_of_the_session() {
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
        assert!(app.is_live(&token).await);
    }
}

#[tokio::test]
async fn s38_a_service_is_told_the_account_as_the_last_change_left_it() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    for n in 0..5 {
        let change = json!({"nickname": format!("ann{n}"), "email": format!("ann{n}@example.com"),
            "customer_account": format!("plan{n}"), "role": if n % 2 == 0 { "admin" } else { "user" }});
        app.must_change(&admin, ann.id, &change).await;
        let told = app.verify(&token).await.body;
        for (member, value) in change.as_object().unwrap() {
            assert_eq!(&told[member], value);
        }
    }
}

#[tokio::test]
async fn s52_an_answer_is_good_for_no_longer_than_its_token_and_its_session() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.tokens.verify_cache = Duration::from_mins(5);
            settings.sessions.idle_timeout = Duration::from_mins(10);
            settings.tokens.access_token_lifetime = Duration::from_mins(20);
        })
        .spawn()
        .await;
    let (_, token) = app.register_and_login("ann").await;
    let told = async |expected: &str| {
        let answer = app.verify(&token).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some(expected)), "{answer:?}");
        answer.body
    };
    app.pass(Duration::from_mins(8));
    let body = told("private, max-age=300").await;
    assert_eq!(body["idle_expires_at"], "2025-01-01T00:18:00.000Z", "being verified is a use");
    assert_eq!(body["expires_at"], "2025-01-01T00:20:00.000Z");
    app.pass(Duration::from_mins(8));
    told("private, max-age=240").await;
    app.pass(Duration::from_millis(239_500));
    told("no-store").await;
    let dead = app.verify("garbage").await;
    assert_eq!(dead.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn s52_unless_the_operator_allows_it_no_answer_is_kept() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    assert_eq!(app.verify(&token).await.header("cache-control"), Some("no-store"));
}

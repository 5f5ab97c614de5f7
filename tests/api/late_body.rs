//! Requests whose head arrives before a revocation and whose body arrives after it.

use std::time::Duration;

use doorward::settings::Algorithm;
use doorward_actors::{
    CreateTokenError, Origin, RevokeTokenError, RotateError, RotateTokenError, ServiceName, ServiceScopes,
    ServiceTokenId,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::TestApp;

/// Sends a request without the last byte of its body.
async fn all_but_one_byte(app: &TestApp, method: &str, path: &str, token: &str, body: &Value) -> (TcpStream, u8) {
    let body = body.to_string();
    let (last, first) = body.as_bytes().split_last().unwrap();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(first).await.unwrap();
    // A later request on another connection is answered. By then the server has processed this head, or it will do so
    // even later.
    app.get("/health/live").await;
    (stream, *last)
}

async fn status(mut stream: TcpStream, last: u8) -> String {
    stream.write_all(&[last]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn s37_a_request_that_is_complete_only_after_the_logout_does_nothing() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let change = json!({"password": "Stolen-quiet-lamp-9"});
    let (stream, last) = all_but_one_byte(&app, "PUT", "/my_account/", &token, &change).await;
    assert_eq!(app.call(Method::POST, "/logout", &token, &Value::Null).await.status, 200);
    assert_eq!(status(stream, last).await, "401");
    app.login(&ann).await;
}

#[tokio::test]
async fn s38_a_locked_or_demoted_administrator_completes_nothing() {
    let app = TestApp::spawn().await;
    let (_, root) = app.register_and_login("root").await;
    let (other, token) = app.register_and_login("other").await;
    let path = format!("/accounts_management/{}", other.id);
    for (revocation, expected) in [(json!({"role": "user"}), "403"), (json!({"lock": true}), "401")] {
        assert_eq!(app.call(Method::PUT, &path, &root, &json!({"role": "admin"})).await.status, 200);
        let (stream, last) = all_but_one_byte(&app, "PUT", &path, &token, &json!({"nickname": "still here"})).await;
        assert_eq!(app.call(Method::PUT, &path, &root, &revocation).await.status, 200);
        assert_eq!(status(stream, last).await, expected, "{revocation}");
    }
}

#[tokio::test]
async fn s38_a_locked_or_demoted_administrator_rotates_no_key_and_makes_no_service_token() {
    let app = TestApp::builder().with(|settings| settings.tokens.algorithm = Algorithm::EdDsa).spawn().await;
    let (_, root) = app.register_and_login("root").await;
    let (other, token) = app.register_and_login("other").await;
    let before = app.get("/.well-known/jwks.json").await.text;
    for (revocation, expected) in [(json!({"role": "user"}), "403"), (json!({"lock": true}), "401")] {
        app.must_change(&root, other.id, &json!({"role": "admin"})).await;
        let rotation = all_but_one_byte(&app, "POST", "/keys/rotate", &token, &json!({"compromised": true})).await;
        let service = json!({"name": "late", "scopes": ["verify"]});
        let service = all_but_one_byte(&app, "POST", "/service_tokens/", &token, &service).await;
        // This call has its body already and waits for its turn.
        let acting = app.handles.sessions.look(&token).await.unwrap();
        app.must_change(&root, other.id, &revocation).await;
        assert_eq!(status(rotation.0, rotation.1).await, expected, "{revocation}");
        assert_eq!(status(service.0, service.1).await, expected, "{revocation}");
        let rotated = app.handles.keys.rotate(&acting, true, Origin::default()).await;
        assert!(matches!(rotated, Err(RotateError::Revoked)), "{rotated:?}");
        let (name, scopes) = (ServiceName::parse("late").unwrap(), ServiceScopes::BUILT_IN);
        let services = &app.handles.services;
        let made = services.create(&acting, name, scopes, None, Origin::default()).await;
        assert!(matches!(made, Err(CreateTokenError::Revoked)), "{made:?}");
        let (id, _) = app.service_token(&root, expected, &["verify"]).await;
        let id = ServiceTokenId::new(id);
        let rotated = services.rotate(&acting, id, Duration::ZERO, Origin::default()).await;
        assert!(matches!(rotated, Err(RotateTokenError::Revoked)), "{rotated:?}");
        let revoked = services.revoke(&acting, id, Origin::default()).await;
        assert!(matches!(revoked, Err(RevokeTokenError::Revoked)), "{revoked:?}");
        assert!(services.list().await.unwrap().iter().any(|token| token.id == id && token.replaced.is_none()));
    }
    assert_eq!(app.get("/.well-known/jwks.json").await.text, before);
    assert_eq!(app.handles.services.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn r06_bodies_that_do_not_come_keep_nobody_out() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let mut waiting = Vec::new();
    // More than the number of places for logins.
    for _ in 0..300 {
        let body = json!({"email": ann.email, "password": ann.password});
        waiting.push(all_but_one_byte(&app, "POST", "/login", &token, &body).await);
    }
    app.login(&ann).await;
    let (stream, last) = waiting.pop().unwrap();
    assert_eq!(status(stream, last).await, "200", "who comes late is served all the same");
}

#[tokio::test]
async fn d15_r06_bodies_that_do_not_come_hold_no_more_than_the_places_of_their_class() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let body = json!({"email": ann.email, "password": "x".repeat(60 * 1024)});
    let mut waiting = Vec::new();
    // 24 MB in total. The 256 places of logins hold 16 MiB.
    for _ in 0..400 {
        waiting.push(all_but_one_byte(&app, "POST", "/login", &token, &body).await);
    }
    // The oldest incomplete requests were dropped.
    for (mut stream, _) in waiting.drain(..100) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    app.login(&ann).await;
    let (stream, last) = waiting.pop().unwrap();
    assert_eq!(status(stream, last).await, "422", "the newest is served");
}

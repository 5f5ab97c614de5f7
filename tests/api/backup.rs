//! `POST /backup`: who may take one, and how many at once.

use std::time::Duration;

use doorward::backup::check::{Checked, Nowhere, pass};
use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal, Origin, Timestamp};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{SERVICE_TOKEN, TestApp};

/// Asks for a backup as a service.
async fn ask_as(app: &TestApp, secret: &str) -> Response {
    app.request(Method::POST, "/backup").header("X-Service-Token", secret).send().await.unwrap()
}

async fn checked(response: Response) -> Checked {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    let bytes = response.bytes().await.unwrap();
    pass(&bytes[..], [7; 32], &mut Nowhere).unwrap()
}

async fn made(app: &TestApp, admin: &str) -> Vec<Value> {
    app.handles.audit.settle().await;
    let log = app.call(Method::GET, "/audit/?event=backup.made", admin, &Value::Null).await;
    log.body["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_service_with_the_scope_gets_a_whole_backup_without_secrets_and_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    app.register("ann").await;
    let (_, secret) = app.service_token(&admin, "safe", &["backup"]).await;
    let response = ask_as(&app, &secret).await;
    let name = response.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(name, "attachment; filename=\"doorward-2025-01-01T000000.000Z.backup\"");
    let backup = checked(response).await;
    assert_eq!((backup.contents.accounts, backup.files, backup.header.with_secrets), (2, 0, false));
    let record = &made(&app, &admin).await[0];
    assert_eq!((&record["actor"], &record["address"]), (&json!("service:safe"), &json!("127.0.0.1")));
    // Each other scope, a wrong token and a user are refused.
    let (_, other) = app.service_token(&admin, "other", &["audit", "metrics", "verify"]).await;
    assert_eq!(ask_as(&app, &other).await.status(), 403);
    assert_eq!(ask_as(&app, SERVICE_TOKEN).await.status(), 403);
    assert_eq!(ask_as(&app, "dws_wrong").await.status(), 401);
    let (_, user) = app.register_and_login("bob").await;
    app.call(Method::POST, "/backup", &user, &Value::Null).await.assert_status_problem(403);
    app.send(app.request(Method::POST, "/backup")).await.assert_unauthorized("Bearer");
    assert_eq!(made(&app, &admin).await.len(), 1);
}

#[tokio::test]
async fn s77_an_administrator_needs_a_recent_login_or_the_password_for_a_backup() {
    let app = TestApp::spawn().await;
    let (person, admin) = app.register_and_login("admin").await;
    let ask = async |body: &Value| {
        let request = app.request(Method::POST, "/backup").bearer_auth(&admin);
        if body.is_null() { request } else { request.json(body) }.send().await.unwrap()
    };
    checked(ask(&Value::Null).await).await;
    app.pass(Duration::from_mins(16));
    for body in [Value::Null, json!({}), json!({"current_password": "Wrong-lamp-7-tree"})] {
        let refused = ask(&body).await;
        assert_eq!(refused.status(), 403);
        assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("max_age=900"));
    }
    checked(ask(&json!({"current_password": person.password})).await).await;
    assert_eq!(ask(&json!({"with_secrets": true})).await.status(), 422);
    let outcomes: Vec<_> = made(&app, &admin).await.iter().map(|event| event["reason"].clone()).collect();
    let no_login = json!("reauthentication_needed");
    assert!(outcomes.contains(&no_login) && outcomes.contains(&json!("wrong_password")), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|reason| reason.is_null()).count(), 2);
}

/// The number of records, of which a backup fits into no buffer between the server and a client that does not read.
const MANY: i64 = 60_000;

/// Fills a data directory with records that cannot be compressed.
async fn much(data_dir: &std::path::Path) {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    let mut random = fastrand::Rng::with_seed(7);
    let mut record = |number: i64| AuditRecord {
        actor: AuditActorKind::Anonymous,
        origin: Origin::new(None, Some(&(0..256).map(|_| random.alphanumeric()).collect::<String>()), None),
        refusal: Some(AuditRefusal::UnknownAccount),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(number))
    };
    for first in (1..=MANY).step_by(1000) {
        store.append_audit((first..first + 1000).map(&mut record).collect()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_two_backups_are_made_at_once_and_one_that_nobody_takes_ends() {
    let directory = TempDir::new().unwrap();
    much(directory.path()).await;
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let admin = app.admin().await;
    let (_, secret) = app.service_token(&admin, "safe", &["backup"]).await;
    let (first, second) = (ask_as(&app, &secret).await, ask_as(&app, &secret).await);
    assert_eq!((first.status(), second.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
    let third = ask_as(&app, &secret).await;
    assert_eq!((third.status().as_u16(), &third.headers()["retry-after"]), (503, &"60".try_into().unwrap()));
    assert_eq!(app.call(Method::GET, "/accounts_management/", &admin, &Value::Null).await.status, 200);
    // What is written meanwhile is in neither.
    app.register("late").await;
    drop(second);
    // The place is free once the server has noticed.
    let next = loop {
        let next = ask_as(&app, &secret).await;
        if next.status() == 200 {
            break next;
        }
        tokio::task::yield_now().await;
    };
    let (first, next) = tokio::join!(checked(first), checked(next));
    assert_eq!((first.contents.accounts, next.contents.accounts), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn s38_a_backup_breaks_off_when_its_service_token_is_revoked() {
    let directory = TempDir::new().unwrap();
    much(directory.path()).await;
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let admin = app.admin().await;
    let (id, secret) = app.service_token(&admin, "safe", &["backup"]).await;
    let mut response = ask_as(&app, &secret).await;
    let revoked = app.call(Method::DELETE, &format!("/service_tokens/{id}"), &admin, &Value::Null).await;
    assert_eq!(revoked.status, 204);
    // The buffered part arrives, and then an error, so that the file does not look complete.
    while response.chunk().await.map(|chunk| assert!(chunk.is_some(), "it ended as if it were whole")).is_ok() {}
}

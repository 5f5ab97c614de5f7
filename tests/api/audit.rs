//! What is put on record, read from the data directory after the application has stopped.

use std::path::Path;

use doorward::store::{SledStore, StoreOptions};
use doorward_actors::ports::Store as _;
use doorward_actors::{AuditActorKind, AuditRecord};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Person, TestApp};

/// The records of a data directory that nobody uses, the oldest first.
async fn records(data_dir: &Path) -> Vec<AuditRecord> {
    let store = SledStore::open(data_dir, StoreOptions::default()).unwrap();
    let mut records: Vec<_> = store.recent_audit(100).await.unwrap().into_iter().map(|(_, record)| record).collect();
    records.reverse();
    records
}

#[tokio::test]
async fn s70_what_is_done_and_what_is_refused_is_on_record_with_who_whom_and_from_where() {
    let directory = TempDir::new().unwrap();
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let (root, admin) = app.register_and_login("root").await;
    let (ann, token) = app.register_and_login("ann").await;
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann.clone() }).await;
    app.try_login(&Person::named("nobody")).await;
    app.call(Method::PUT, "/my_account/", &token, &json!({"nickname": "anna"})).await;
    app.call(Method::POST, "/logout", &token, &Value::Null).await;
    let path = format!("/accounts_management/{}", ann.id);
    app.call(Method::PUT, &path, &admin, &json!({"lock": true})).await;
    app.try_login(&ann).await;
    app.call(Method::DELETE, &path, &admin, &Value::Null).await;

    app.stop().await.unwrap();
    let records = records(directory.path()).await;
    let told = |record: &AuditRecord| {
        let actor = match record.actor {
            AuditActorKind::Anonymous => "anonymous".to_owned(),
            AuditActorKind::Account(id) => format!("account {id}"),
            AuditActorKind::Admin(id) => format!("admin {id}"),
            AuditActorKind::System => "system".to_owned(),
        };
        let subject = record.subject.map(doorward_actors::AccountId::get);
        (record.event.as_str(), actor, subject, record.refusal.map(doorward_actors::AuditRefusal::as_str))
    };
    let mut seen: Vec<_> = records.iter().map(told).collect();
    let mut expected = vec![
        ("account.registered", "anonymous".to_owned(), Some(root.id), None),
        ("session.login", format!("account {}", root.id), Some(root.id), None),
        ("account.registered", "anonymous".to_owned(), Some(ann.id), None),
        ("session.login", format!("account {}", ann.id), Some(ann.id), None),
        ("session.login", "anonymous".to_owned(), Some(ann.id), Some("wrong_password")),
        ("session.login", "anonymous".to_owned(), None, Some("unknown_account")),
        ("account.updated", format!("account {}", ann.id), Some(ann.id), None),
        ("session.logout", format!("account {}", ann.id), Some(ann.id), None),
        ("account.updated", format!("admin {}", root.id), Some(ann.id), None),
        ("session.login", "anonymous".to_owned(), Some(ann.id), Some("locked")),
        ("account.deleted", format!("admin {}", root.id), Some(ann.id), None),
    ];
    // A refusal goes with no change, so it may be recorded a little after what came next.
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    for record in &records {
        assert!(record.origin.address.is_some_and(|address| address.is_loopback()), "{record:?}");
        assert!(record.origin.request_id.as_ref().is_some_and(|id| !id.is_empty()), "{record:?}");
    }
}

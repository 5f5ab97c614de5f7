//! No client can fill the audit log or displace the records of others.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp};

const WRONG: &str = "Wrong-lamp-7-tree";

/// Returns the whole audit log, the oldest record first.
async fn events(app: &TestApp, admin: &str) -> Vec<Value> {
    app.handles.audit.settle().await;
    let export = app.call(Method::GET, "/audit/export", admin, &Value::Null).await;
    assert_eq!(export.status, 200, "{export:?}");
    export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the number of records.
async fn recorded(app: &TestApp) -> u64 {
    app.handles.audit.settle().await;
    *app.handles.audit.head().borrow()
}

fn refused(events: &[Value]) -> u64 {
    u64::try_from(events.iter().filter(|event| event["outcome"] == "refused").count()).unwrap()
}

/// Returns the numbers of refusals that were counted instead of recorded.
fn counted(events: &[Value]) -> Vec<u64> {
    let counted = events.iter().filter(|event| event["event"] == "audit.refusals_counted");
    counted.map(|event| event["details"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn d13_a_refusal_that_costs_no_hash_is_on_record_once_in_a_while() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.pass(Duration::from_mins(6));
    let before = recorded(&app).await;
    let mut others = 0;
    for _ in 0..30 {
        // Each round uses another session.
        let token = app.login(&ann).await;
        others += 1;
        for change in [json!({"nickname": "admin"}), json!({"customer_account": "gold"}), json!({"password": "weak"})] {
            app.change_own(&token, &change).await;
        }
        app.call(Method::POST, "/service_tokens/", &admin, &json!({"name": "default", "scopes": ["verify"]})).await;
        app.call(Method::POST, "/service_tokens/999/rotate", &admin, &json!({})).await;
        app.call(Method::DELETE, "/service_tokens/999", &admin, &Value::Null).await;
        app.call(Method::POST, "/keys/rotate", &admin, &json!({})).await;
        app.change(&admin, 1, &json!({"role": "user"})).await;
        app.delete(&admin, 1).await;
        app.post("/register", &Person::named("ann").registration()).await;
        app.post(
            "/register",
            &json!({"email": "x@example.com", "nickname": "x", "password": "weak", "passphrase": "p"}),
        )
        .await;
        app.post("/email/verify", &json!({"token": "x".repeat(43)})).await;
        app.post("/refresh", &json!({"refresh_token": "x".repeat(43)})).await;
    }
    let kinds = recorded(&app).await - before - others;
    let seen = events(&app, &admin).await;
    // Sessions above the cap of the account were evicted.
    let evicted = seen.iter().filter(|event| event["event"] == "session.evicted").count();
    let kinds = kinds - u64::try_from(evicted).unwrap();
    assert!((8..=16).contains(&kinds), "{kinds}: {seen:?}");
}

#[tokio::test]
async fn d13_every_refusal_that_cost_a_hash_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    for _ in 0..3 {
        app.try_login(&Person { password: WRONG.to_owned(), ..ann.clone() }).await;
        app.post("/login", &json!({"email": "nobody@example.com", "password": WRONG})).await;
        app.recover(&ann.email, "not my phrase", NEW_PASSWORD).await;
        app.recover("nobody@example.com", "not my phrase", NEW_PASSWORD).await;
    }
    assert_eq!(refused(&events(&app, &admin).await), 12);
}

#[tokio::test]
async fn d13_s75_refusals_fill_half_of_the_log_and_are_counted_beyond_it() {
    let max_bytes = 64 * 1024;
    let app = TestApp::builder()
        .with(|settings| {
            settings.audit.max_bytes = max_bytes;
            settings.limits.address_failures = 10_000;
        })
        .spawn()
        .await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let attempts = 600;
    for n in 0..attempts {
        let guess = json!({"email": format!("nobody{n}@example.com"), "password": WRONG});
        assert_eq!(app.post("/login", &guess).await.status, 401);
    }
    let seen = events(&app, &admin).await;
    let kept = refused(&seen);
    let status = app.handles.audit.status().await.unwrap();
    assert!(status.bytes <= max_bytes * 3 / 4, "{status:?}");
    assert!((200..500).contains(&kept), "{kept}");
    assert!(seen.iter().any(|event| event["event"] == "account.registered" && event["subject"] == ann.id));
    assert_eq!(counted(&seen), Vec::<u64>::new(), "not within the minute");
    app.pass(Duration::from_mins(1));
    for n in 0..10 {
        app.post("/login", &json!({"email": format!("other{n}@example.com"), "password": WRONG})).await;
        app.handles.audit.settle().await;
    }
    app.pass(Duration::from_secs(59));
    app.post("/login", &json!({"email": "last@example.com", "password": WRONG})).await;
    let seen = events(&app, &admin).await;
    assert_eq!(counted(&seen).len(), 1, "{:?}", counted(&seen));
    app.pass(Duration::from_secs(1));
    app.handles.tend_audit().await.unwrap();
    let seen = events(&app, &admin).await;
    assert_eq!(counted(&seen).len(), 2);
    assert_eq!(refused(&seen) + counted(&seen).iter().sum::<u64>(), attempts + 11);
    // Successful actions are still recorded.
    let token = app.login(&ann).await;
    app.change_own(&token, &json!({"nickname": "anna"})).await;
    assert!(events(&app, &admin).await.iter().any(|event| event["event"] == "account.updated"));
    // The limit survives a restart, so an attacker gains nothing from one.
    let before = refused(&events(&app, &admin).await);
    let app = app.restart().await;
    let admin = app.login(&Person::named("admin")).await;
    app.post("/login", &json!({"email": "again@example.com", "password": WRONG})).await;
    assert_eq!(refused(&events(&app, &admin).await), before);
}

#[tokio::test]
async fn d13_the_bound_on_the_size_holds_at_once() {
    let max_bytes = 48 * 1024;
    let app = TestApp::builder().with(|settings| settings.audit.max_bytes = max_bytes).spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    for n in 0..600 {
        assert_eq!(app.change_own(&token, &json!({"nickname": format!("ann{n}")})).await.status, 200);
        let status = app.handles.audit.status().await.unwrap();
        assert!(status.bytes <= max_bytes, "{n}: {status:?}");
    }
    let status = app.handles.audit.status().await.unwrap();
    assert!(status.checkpoint.first > 1 && status.bytes > max_bytes / 2, "{status:?}");
}

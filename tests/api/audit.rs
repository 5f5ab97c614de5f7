//! `/audit/` and `/my_account/events`: filters, pages and the retention of records.

use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::chain::verify::AuditFinding;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit_records::events;
use crate::support::{Answer, Person, TestApp};

const DAY: Duration = Duration::from_hours(24);

async fn list(app: &TestApp, token: &str, query: &str) -> Answer {
    app.handles.audit.settle().await;
    app.call(Method::GET, &format!("/audit/?{query}"), token, &Value::Null).await
}

fn sequences(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

/// Starts an application with 8 audit records. The comments give their sequence numbers.
async fn history() -> (TestApp, String) {
    let app = TestApp::spawn().await;
    let admin = app.admin().await; // 1, 2
    let ann = app.register("ann").await; // 3
    app.pass(Duration::from_secs(10));
    let token = app.login(&ann).await; // 4
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann.clone() }).await; // 5
    app.handles.audit.settle().await;
    app.change_own(&token, &json!({"nickname": "anna"})).await; // 6
    app.pass(Duration::from_secs(10));
    app.must_change(&admin, ann.id, &json!({"customer_account": "gold"})).await; // 7
    app.logout(&token).await; // 8
    (app, admin)
}

#[tokio::test]
async fn each_filter_finds_what_it_names() {
    let (app, admin) = history().await;
    for (query, expected) in [
        ("event=session.login", &[5, 4, 2][..]),
        ("event=session.login&outcome=success", &[4, 2]),
        ("outcome=refused", &[5]),
        ("actor=account:2", &[8, 6, 4]),
        ("actor=anonymous", &[5, 3, 1]),
        ("actor=admin&event=account.updated", &[7]),
        ("actor=account", &[8, 6, 4, 2]),
        ("actor=service", &[]),
        ("subject=2", &[8, 7, 6, 5, 4, 3]),
        ("subject=2&actor=admin:1", &[7]),
        ("subject=99", &[]),
        ("address=127.0.0.1&to=2025-01-01T00:00:10Z", &[3, 2, 1]),
        ("address=192.0.2.1", &[]),
        ("from=2025-01-01T00:00:10Z&to=2025-01-01T00:00:20Z", &[6, 5, 4]),
        ("from=2025-01-01T00:00:20Z&subject=2", &[8, 7]),
        ("to=2024-12-01T00:00:00Z", &[]),
    ] {
        let answer = list(&app, &admin, query).await;
        assert_eq!(sequences(&answer), expected, "{query}");
        assert_eq!(answer.body["next"], Value::Null, "{query}");
    }
}

#[tokio::test]
async fn pages_lead_through_the_whole_log_and_end() {
    let (app, admin) = history().await;
    // The first read is recorded. Further reads within ten minutes are not.
    list(&app, &admin, "").await;
    let whole = sequences(&list(&app, &admin, "limit=1000").await);
    assert_eq!(whole, (1..=9).rev().collect::<Vec<_>>());
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = list(&app, &admin, &format!("to=2026-01-01T00:00:00Z&limit=3&{cursor}")).await;
        found.extend(sequences(&answer));
        match answer.body["next"].as_str() {
            Some(next) => cursor = format!("cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, (1..=9).rev().collect::<Vec<_>>());
    assert_eq!(list(&app, &admin, "limit=9").await.body["next"], Value::Null, "no page after the last");
    for bad in ["limit=0", "limit=1001", "cursor=x", "event=nothing", "actor=x", "subject=x", "address=x", "outcome=x"]
    {
        let answer = list(&app, &admin, bad).await;
        answer.assert_status_problem(422);
        assert_eq!(answer.pointers(), [format!("?{}", bad.split('=').next().unwrap())]);
    }
    list(&app, &admin, "limit=1&limit=2").await.assert_status_problem(400);
}

#[tokio::test]
async fn s55_owners_see_what_happened_to_their_own_account_and_not_where_administrators_sit() {
    let (app, admin) = history().await;
    let ann = Person::named("ann");
    let token = app.login(&ann).await;
    let own = async |query: &str| {
        app.handles.audit.settle().await;
        app.call(Method::GET, &format!("/my_account/events?{query}"), &token, &Value::Null).await
    };
    let answer = own("").await;
    assert_eq!(sequences(&answer), [9, 8, 7, 6, 5, 4, 3]);
    assert_eq!(answer.body["next"], Value::Null);
    let events = answer.body["events"].as_array().unwrap();
    let by_admin = &events[2];
    assert_eq!((&by_admin["event"], &by_admin["actor"]), (&json!("account.updated"), &json!("admin")));
    for hidden in ["address", "user_agent", "session_id", "request_id"] {
        assert_eq!(by_admin[hidden], Value::Null, "{hidden}");
    }
    let failed = &events[4];
    assert_eq!((&failed["actor"], &failed["reason"]), (&json!("anonymous"), &json!("wrong_password")));
    assert_eq!(failed["address"], "127.0.0.1", "owners learn from where somebody tried");
    assert_eq!(sequences(&own("event=session.login&outcome=success").await), [9, 4]);
    assert_eq!(sequences(&own("from=2025-01-01T00:00:20Z").await), [9, 8, 7]);
    // A user cannot choose whose events to read: these filters have no effect.
    assert_eq!(sequences(&own("subject=1&actor=admin:1&address=192.0.2.1").await), [9, 8, 7, 6, 5, 4, 3]);
    let first = own("limit=2").await;
    let next = first.body["next"].as_str().unwrap();
    assert_eq!(sequences(&own(&format!("limit=2&cursor={next}")).await), [7, 6]);
    assert_eq!(own("limit=0").await.pointers(), ["?limit"]);
    let of_admin = app.call(Method::GET, "/my_account/events", &admin, &Value::Null).await;
    assert_eq!(sequences(&of_admin), [2, 1]);
}

#[tokio::test]
async fn s70_a_record_of_a_changed_account_says_what_changed_and_never_to_what() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    for change in [
        json!({"nickname": ann.nickname, "email": ann.email}),
        json!({"nickname": "anna", "locale": "fr"}),
        json!({"email": "new-address@example.com", "current_password": ann.password}),
        json!({"password": "quiet-river-over-old-bricks", "current_password": ann.password, "passphrase": "Another phrase"}),
    ] {
        let answer = app.change_own(&token, &change).await;
        assert_eq!(answer.status, 200, "{change}: {answer:?}");
    }
    let all = json!({"email": "third@example.com", "nickname": "third", "password": "quiet-bricks-over-old-river",
        "customer_account": "gold", "role": "admin", "lock": true});
    app.must_change(&admin, ann.id, &all).await;
    app.must_change(&admin, ann.id, &all).await;
    let events = events(&app, &admin).await;
    let of_changes = events.iter().filter(|event| event["event"] == "account.updated");
    let details: Vec<_> = of_changes.map(|event| event["details"].as_str()).collect();
    assert_eq!(
        details,
        [
            None,
            Some("nickname locale"),
            Some("pending_email"),
            Some("pending_email password passphrase"),
            Some("email nickname password passphrase customer_account role lock"),
            Some("password passphrase"),
        ]
    );
    assert!(events.iter().filter(|event| event["event"] != "account.updated").all(|event| event["details"].is_null()));
    let csv = app.call(Method::GET, "/audit/export?format=csv&event=account.updated", &admin, &Value::Null).await;
    assert!(csv.text.contains("success,,nickname locale\r\n"), "{}", csv.text);
}

#[tokio::test]
async fn old_records_go_and_the_rest_stays_verifiable() {
    let directory = TempDir::new().unwrap();
    let app = TestApp::builder()
        .data_dir(directory.path())
        .with(|settings| settings.audit.retention = DAY * 30)
        .spawn()
        .await;
    let root = app.register("root").await; // 1
    app.login(&root).await; // 2
    let head = app.handles.audit.status().await.unwrap().head;
    app.pass(DAY * 20);
    app.handles.tend_audit().await.unwrap();
    app.login(&root).await;
    app.pass(DAY * 10 + Duration::from_millis(1));
    app.handles.tend_audit().await.unwrap();
    let token = app.login(&root).await;
    let left = events(&app, &token).await;
    assert!(left.iter().all(|event| event["at"].as_str() > Some("2025-01-20")), "{left:?}");
    let pruned = left.iter().find(|event| event["event"] == "audit.pruned" && event["actor"] == "system").unwrap();
    let start = app.handles.audit.status().await.unwrap().checkpoint.start();
    assert_eq!(pruned["details"], start.to_string());
    assert_eq!(left[0]["sequence"], 3, "nothing but what was too old");
    app.stop().await.unwrap();
    let report = SledEngine::verify_audit(directory.path(), SledOptions::default(), Some(head)).unwrap();
    assert!(matches!(report.finding, AuditFinding::Whole(_)), "{report:?}");
    assert_eq!(report.checkpoint.first, 3);
    assert!(report.start_is_on_record);
}

#[tokio::test]
async fn r05_a_clock_that_is_a_day_ahead_removes_nothing_before_its_time() {
    let app = TestApp::builder().with(|settings| settings.audit.retention = DAY).spawn().await;
    let root = app.register("root").await;
    app.handles.tend_audit().await.unwrap();
    let first = || async { app.handles.audit.status().await.unwrap().checkpoint.first };
    app.clock.set_forward(DAY + Duration::from_hours(1));
    app.handles.tend_audit().await.unwrap();
    app.login(&root).await;
    app.pass(Duration::from_hours(2));
    app.handles.tend_audit().await.unwrap();
    assert_eq!(first().await, 1, "ahead by a step");
    app.clock.set_back(DAY + Duration::from_hours(1));
    app.handles.tend_audit().await.unwrap();
    assert_eq!(first().await, 1, "put right");
    app.pass(Duration::from_hours(23));
    app.handles.tend_audit().await.unwrap();
    assert_eq!(first().await, 2, "a day has really passed, and the login in the wrong day stays for now");
}

#[tokio::test]
async fn a_log_that_is_too_large_loses_its_oldest_records() {
    let directory = TempDir::new().unwrap();
    let many = |settings: &mut doorward::settings::Settings| settings.limits.address_failures = 10_000;
    let builder = || TestApp::builder().data_dir(directory.path()).with(many);
    let large = builder().spawn().await;
    let admin = large.register("admin").await;
    for n in 0..100 {
        large.try_login(&Person::named(&format!("nobody{n}"))).await;
    }
    large.handles.audit.settle().await;
    // The restart lowers the size limit.
    let app = builder().with(|settings| settings.audit.max_bytes = 8000).continuing(large).await;
    let before = app.handles.audit.status().await.unwrap();
    assert!(before.bytes > 8000);
    app.handles.tend_audit().await.unwrap();
    let after = app.handles.audit.status().await.unwrap();
    assert!(after.bytes <= 8000 && after.bytes > 7500, "{after:?}");
    assert_eq!(after.head.sequence, before.head.sequence + 1);
    // With a larger limit, nothing more is removed while the test reads.
    let app = builder().continuing(app).await;
    let admin = app.login(&admin).await;
    let kept = events(&app, &admin).await;
    assert_eq!(kept[0]["sequence"], after.checkpoint.first);
    assert!(kept.iter().any(|event| event["event"] == "audit.pruned"));
}

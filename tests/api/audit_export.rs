//! `/audit/export`: the log as a file for other programs.

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal, Origin, Timestamp};
use reqwest::Method;
use reqwest::header::USER_AGENT;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, Person, TestApp};

async fn export(app: &TestApp, token: &str, query: &str) -> Answer {
    app.handles.audit.settle().await;
    app.call(Method::GET, &format!("/audit/export?{query}"), token, &Value::Null).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"), "{answer:?}");
    assert!(answer.text.ends_with('\n'));
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_file_of_json_lines_is_the_log_from_the_oldest_record_on() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann }).await;
    let answer = export(&app, &admin, "").await;
    assert_eq!(answer.status, 200);
    let disposition = answer.header("content-disposition");
    assert_eq!(disposition, Some("attachment; filename=\"doorward-audit-5.ndjson\""));
    let lines = lines(&answer);
    let sequences: Vec<u64> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert_eq!(lines[4]["event"], "audit.exported", "it ends with the record of itself");
    let mut listed =
        app.call(Method::GET, "/audit/", &admin, &Value::Null).await.body["events"].as_array().unwrap().clone();
    listed.reverse();
    assert_eq!(lines, listed[..5], "the same events as in a list");
    let refused = export(&app, &admin, "outcome=refused&subject=2&format=ndjson").await;
    assert_eq!(self::lines(&refused).len(), 1);
    let none = export(&app, &admin, "subject=99").await;
    assert_eq!((none.status, &*none.text), (200, ""));
    assert_eq!(export(&app, &admin, "format=xml").await.pointers(), ["?format"]);
    assert_eq!(export(&app, &admin, "from=x&format=csv").await.pointers(), ["?from"]);
}

#[tokio::test]
async fn a_file_of_csv_reads_back_and_holds_no_formula() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    for agent in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "quoted \"agent\", with a comma", "plain"] {
        let login = app.request(Method::POST, "/login").header(USER_AGENT, agent);
        let body = json!({"email": ann.email, "password": ann.password});
        assert_eq!(app.send(login.json(&body)).await.status, 200);
    }
    let ndjson = lines(&export(&app, &admin, "event=session.login").await);
    let answer = export(&app, &admin, "event=session.login&format=csv").await;
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(answer.header("content-disposition").unwrap().ends_with(".csv\""));
    assert!(answer.text.ends_with("\r\n"), "lines end as RFC 4180 says");
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), ndjson.len());
    let mut agents = Vec::new();
    for (row, line) in rows.iter().zip(&ndjson) {
        assert_eq!(names.len(), line.as_object().unwrap().len());
        for (name, cell) in names.iter().zip(row) {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
            let expected = match &line[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert!(cell == expected || cell == format!("'{expected}"), "{name}: {cell} for {expected}");
            if name == "user_agent" {
                agents.push(cell.to_owned());
            }
        }
    }
    let expected = ["", "'=cmd|' /C calc'!A0", "'+1", "'-1", "'@SUM(1)", "quoted \"agent\", with a comma", "plain"];
    assert_eq!(agents, expected);
}

#[tokio::test]
async fn a_long_log_is_exported_whole_and_what_comes_meanwhile_is_not_in_it() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 10_000).spawn().await;
    let admin = app.admin().await;
    for round in 0..15 {
        // Many records at once share a commit.
        let people: Vec<_> = (0..60).map(|n| Person::named(&format!("nobody{round}-{n}"))).collect();
        futures_util::future::join_all(people.iter().map(|person| app.try_login(person))).await;
    }
    app.handles.audit.settle().await;
    let (export, ()) = tokio::join!(export(&app, &admin, ""), async {
        for n in 0..20 {
            app.try_login(&Person::named(&format!("somebody{n}"))).await;
        }
    });
    let lines = lines(&export);
    assert!(lines.len() > 900, "more than one piece: {}", lines.len());
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(line["sequence"], number);
    }
    let of_itself: Vec<_> = lines.iter().filter(|line| line["event"] == "audit.exported").collect();
    assert_eq!(of_itself.len(), 1);
}

/// The number of records. Their export of 18 MB fits into no buffer between the server and a client that does not read.
const MANY: i64 = 30_000;

async fn many_records(data_dir: &std::path::Path) {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    let record = |number: i64| AuditRecord {
        actor: AuditActorKind::Anonymous,
        origin: Origin::new(None, Some(&"x".repeat(256)), Some("y".repeat(64))),
        refusal: Some(AuditRefusal::UnknownAccount),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(number))
    };
    for first in (1..=MANY).step_by(500) {
        store.append_audit((first..first + 500).map(record).collect()).await.unwrap();
    }
    drop(store);
}

#[tokio::test]
async fn r10_exports_that_nobody_reads_are_bounded_wait_and_keep_no_administrator_out() {
    let directory = TempDir::new().unwrap();
    many_records(directory.path()).await;
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let admin = app.admin().await;
    let mut held = Vec::new();
    for format in ["csv", "ndjson", "csv", "ndjson"] {
        let path = format!("/audit/export?format={format}");
        held.push(app.request(Method::GET, &path).bearer_auth(&admin).send().await.unwrap());
    }
    assert!(held.iter().all(|answer| answer.status() == 200));
    // No export has ended yet, because each is larger than the buffers between server and client.
    let refused = export(&app, &admin, "").await;
    refused.assert_status_problem(503);
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(app.call(Method::GET, "/accounts_management/", &admin, &Value::Null).await.status, 200);
    assert_eq!(app.call(Method::GET, "/audit/", &admin, &Value::Null).await.status, 200);
    // A client that reads late still gets the whole export.
    let late = Answer::read(held.pop().unwrap()).await;
    assert!(i64::try_from(lines(&late).len()).unwrap() > MANY);
}

#[tokio::test]
async fn s38_an_export_breaks_off_when_its_reader_is_no_administrator_any_more() {
    let directory = TempDir::new().unwrap();
    many_records(directory.path()).await;
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let admin = app.admin().await;
    let mut answer = app.request(Method::GET, "/audit/export").bearer_auth(&admin).send().await.unwrap();
    app.logout(&admin).await;
    // The buffered part arrives, and then an error, so that the export does not look complete.
    while answer.chunk().await.map(|chunk| assert!(chunk.is_some(), "the export ended as if it were whole")).is_ok() {}
}

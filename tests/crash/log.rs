//! The log of the built program.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::server::{Server, doorward};

/// Returns the log lines about answers of a route.
fn answers<'a>(log: &'a str, route: &'a str) -> Vec<Value> {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["message"] == "answered" && event["route"] == route).collect()
}

#[tokio::test]
async fn a_request_is_one_line_that_says_who_from_where_and_how_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = doorward(directory.path());
    command.env("LOG_VERIFY_SAMPLE", "2");
    let server = Server::start_with(command);
    let ann = json!({"email": "ann@example.com", "nickname": "ann", "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    let (_, registered) = server.call(Method::POST, "/register", None, Some(ann)).await.unwrap();
    let login = |password: &str| json!({"email": "ann@example.com", "password": password});
    let (_, session) = server.call(Method::POST, "/login", None, Some(login("Quiet-lamp-7-tree"))).await.unwrap();
    let token = session["access_token"].as_str().unwrap();
    let wrong = server.call(Method::POST, "/login", None, Some(login("Wrong-lamp-7-tree"))).await.unwrap();
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    for _ in 0..6 {
        assert_eq!(server.call(Method::POST, "/verify", Some(token), None).await.unwrap().0, StatusCode::OK);
    }
    server.call(Method::GET, "/no/such%0d%0apath\u{1b}", None, None).await.unwrap();
    server.terminate();
    let (_, log) = server.wait();

    let logins = answers(&log, "/login");
    assert_eq!(logins.len(), 2, "{log}");
    let line = &logins[0];
    assert_eq!((&line["method"], &line["status"]), (&json!("POST"), &json!(200)), "{line}");
    assert_eq!((&line["account"], &line["address"]), (&registered["id"], &json!("127.0.0.1")), "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{line}");
    assert!(line["request_id"].as_str().is_some_and(|id| id.len() == 32), "{line}");
    assert_eq!((&logins[1]["status"], &logins[1]["account"]), (&json!(401), &Value::Null));
    let checks = answers(&log, "/verify");
    assert_eq!(checks.len(), 3, "one in two: {log}");
    assert!(checks.iter().all(|line| line["one_in"] == 2 && line["account"] == registered["id"]), "{checks:?}");
    assert_eq!(answers(&log, "unmatched").len(), 1, "a path that does not exist is not written out");
}

#[tokio::test]
async fn addresses_of_people_are_not_in_the_log_unless_the_operator_wants_them() {
    for (pii, shown) in [("false", false), ("true", true)] {
        let directory = tempfile::tempdir().unwrap();
        // The path of the data directory is logged, and it contains an address. Without a mail server every mail becomes a file, and its
        // subject line is logged. The settings contain the sender's address.
        let mut command = doorward(&directory.path().join("carl@example.net"));
        command.envs([("LOG_LEVEL", "trace"), ("LOG_PII", pii)]);
        let server = Server::start_with(command);
        let forger =
            json!({"email": "ann@example.com", "nickname": "ann", "password": "bob@example.org", "passphrase": "x"});
        server.call(Method::POST, "/register", None, Some(forger)).await.unwrap();
        server.call(Method::GET, "/accounts_management/dora@example.net", None, None).await.unwrap();
        server.terminate();
        let (_, log) = server.wait();
        assert!(log.contains("TRACE"), "{log}");
        assert_eq!(log.contains("carl@example.net"), shown, "{log}");
        for never in ["ann@example.com", "bob@example.org", "dora@example.net"] {
            assert!(!log.contains(never), "{never}: {log}");
        }
    }
}

#[tokio::test]
async fn b05_refusals_are_sampled_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = doorward(directory.path());
    command.env("RATE_LIMITS_PUBLIC_ROUTES", "100");
    let server = Server::start_with(command);
    let times = 300;
    let mut taken = 0;
    for _ in 0..times {
        for (method, path, token, expected) in [
            (Method::GET, "/no/such/path", None, 404),
            (Method::DELETE, "/login", None, 405),
            (Method::GET, "/my_account/", Some("x"), 401),
            (Method::GET, "/", None, 200),
        ] {
            assert_eq!(server.call(method, path, token, None).await.unwrap().0, expected, "{path}");
        }
        let (status, _) = server.call(Method::POST, "/login", None, Some(json!({}))).await.unwrap();
        assert!(matches!(status.as_u16(), 422 | 429), "{status}");
        // The quota refills meanwhile.
        taken += u64::from(status == 422);
    }
    server.terminate();
    let (_, log) = server.wait();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (status, sent) in [(404, times), (405, times), (401, times), (200, times), (422, taken), (429, times - taken)] {
        let of = |line: &&Value| line["status"] == status && line["address"] == "127.0.0.1";
        let single = lines.iter().filter(of).filter(|line| line["message"] == "answered").count();
        let left_out: u64 = lines.iter().filter(of).filter_map(|line| line["left_out"].as_u64()).sum();
        assert_eq!(single as u64 + left_out, sent, "{status}: every one is in the log or counted");
        // A new minute may have begun in between.
        assert!((10..=30).contains(&single), "{status}: {single}");
    }
}

/// Returns the type of this JSON value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[tokio::test]
async fn f22_a_field_has_one_type_and_no_line_names_where_the_source_lay() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = doorward(directory.path());
    command.env("LOG_LEVEL", "trace");
    let server = Server::start_with(command);
    let ann = json!({"email": "ann@example.com", "nickname": "ann", "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    server.call(Method::POST, "/register", None, Some(ann)).await.unwrap();
    let (_, session) = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap();
    let token = session["access_token"].as_str();
    server.call(Method::GET, "/my_account/", token, None).await.unwrap();
    let made = json!({"name": "billing", "scopes": ["verify"]});
    server.call(Method::POST, "/service_tokens/", token, Some(made)).await.unwrap();
    server.terminate();
    let (_, log) = server.wait();
    let mut kinds = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        for (name, value) in event.as_object().unwrap() {
            let first = *kinds.entry(name.clone()).or_insert(kind(value));
            assert_eq!(first, kind(value), "{name}: {line}");
        }
    }
    assert_eq!(kinds["account"], "number", "it was logged");
    for place in ["/.cargo/", "/registry/", "/rustc/", env!("CARGO_MANIFEST_DIR")] {
        assert!(!log.contains(place), "{place}");
    }
}

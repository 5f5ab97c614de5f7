//! What the built program writes to its log.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::server::{Server, doorward};

/// The lines that tell of answers on a route.
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
        let mut command = doorward(directory.path());
        // Without a mail server every mail is a file, whose subject line is logged; the sender's address is in the settings.
        command.envs([("LOG_LEVEL", "trace"), ("LOG_PII", pii)]);
        let server = Server::start_with(command);
        let forger =
            json!({"email": "ann@example.com", "nickname": "ann", "password": "bob@example.org", "passphrase": "x"});
        server.call(Method::POST, "/register", None, Some(forger)).await.unwrap();
        server.call(Method::GET, "/accounts_management/carl@example.net", None, None).await.unwrap();
        server.terminate();
        let (_, log) = server.wait();
        assert!(log.contains("TRACE"), "{log}");
        assert_eq!(log.contains("carl@example.net"), shown, "{log}");
        for never in ["ann@example.com", "bob@example.org"] {
            assert!(!log.contains(never), "{never}: {log}");
        }
    }
}

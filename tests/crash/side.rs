//! Output besides the store, such as the log, that cannot be written. It delays no request, no start and no stop.

use std::fs::{self, File, OpenOptions};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{PATIENCE, Server, doorward, run};

const REQUESTS: usize = 1000;

/// A device that is always full.
fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn ann() -> Value {
    json!({"email": "ann@example.com", "nickname": "ann", "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"})
}

/// Registers the administrator and returns a token.
async fn begin(server: &Server) -> String {
    let (status, body) = server.call(Method::POST, "/register", None, Some(ann())).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (status, session) = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{session}");
    session["access_token"].as_str().unwrap().to_owned()
}

/// Makes many requests and returns the number of log lines lost by then.
async fn use_it(server: &Server, token: &str) -> u64 {
    for n in 0..REQUESTS {
        let change = json!({"nickname": format!("ann{n}")});
        let body = (n % 4 == 0).then_some(change);
        let method = if body.is_some() { Method::PUT } else { Method::GET };
        let (status, body) = server.call(method, "/my_account/", Some(token), body).await.unwrap();
        assert!(status.is_success(), "request {n}: {status} {body}");
    }
    let (status, health) = server.call(Method::GET, "/health/actors", None, None).await.unwrap();
    assert_eq!((status, &health["status"]), (StatusCode::OK, &json!("ok")), "{health}");
    health["log"]["dropped"].as_u64().unwrap()
}

/// Makes requests until more was logged than may wait, at most 20,000.
async fn use_it_until_lines_are_lost(server: &Server) {
    let token = begin(server).await;
    for _ in 0..20 {
        if use_it(server, &token).await > 0 {
            return;
        }
    }
    panic!("no line was lost");
}

fn stop(server: Server) {
    server.terminate();
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn b04_a_log_on_a_full_disk_fails_no_request_and_no_stop() {
    let directory = TempDir::new().unwrap();
    let server = Server::start_unheard(doorward(directory.path()), full_disk()).await;
    let token = begin(&server).await;
    let dropped = use_it(&server, &token).await;
    assert!(dropped > REQUESTS as u64 / 2, "{dropped}; the newest ones may still wait to be written");
    stop(server);
}

#[tokio::test]
async fn b04_a_log_whose_reader_is_gone_fails_no_request_and_no_stop() {
    let directory = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::start_unheard(doorward(directory.path()), writer).await;
    let token = begin(&server).await;
    let dropped = use_it(&server, &token).await;
    assert!(dropped > REQUESTS as u64 / 2, "{dropped}; the newest ones may still wait to be written");
    stop(server);
}

#[tokio::test]
async fn b04_a_log_that_nobody_reads_holds_up_no_request_and_no_stop() {
    let directory = TempDir::new().unwrap();
    // The reader stays open and never reads.
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut command = doorward(directory.path());
    command.env("LOG_LEVEL", "trace");
    let server = Server::start_unheard(command, writer).await;
    use_it_until_lines_are_lost(&server).await;
    stop(server);
}

#[tokio::test]
async fn b04_the_log_says_what_it_lost_once_it_can_be_written_again() {
    let directory = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = doorward(directory.path());
    command.env("LOG_LEVEL", "trace");
    let server = Server::start_unheard(command, writer).await;
    use_it_until_lines_are_lost(&server).await;
    let reading = tokio::task::spawn_blocking(move || std::io::read_to_string(reader).unwrap());
    let (_, health) = server.call(Method::GET, "/health/actors", None, None).await.unwrap();
    stop(server);
    let log = reading.await.unwrap();
    let told = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let told: u64 = told.filter_map(|line| line["dropped"].as_u64()).sum();
    assert!(told >= health["log"]["dropped"].as_u64().unwrap(), "{told} {health}");
}

#[tokio::test]
async fn b04_mails_wait_while_their_files_cannot_be_written() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let spool = directory.path().join("mail");
    fs::remove_dir_all(&spool).unwrap();
    fs::write(&spool, "in the way").unwrap();
    let (status, _) = server.call(Method::POST, "/register", None, Some(ann())).await.unwrap();
    assert_eq!(status, StatusCode::CREATED);
    let (_, session) = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap();
    let token = session["access_token"].as_str();
    let mail = until(async || {
        let (_, body) = server.call(Method::GET, "/outbox/", token, None).await.unwrap();
        let tried = |mail: &&Value| mail["attempts"].as_u64() > Some(0);
        body["mails"].as_array().unwrap().iter().find(tried).cloned()
    });
    let mail = mail.await;
    assert_eq!(mail["state"], "queued", "{mail}");
    assert!(mail["last_error"].as_str().unwrap().starts_with("the mail cannot be written to a file"), "{mail}");

    fs::remove_file(&spool).unwrap();
    fs::create_dir(&spool).unwrap();
    let (status, body) =
        server.call(Method::POST, &format!("/outbox/{}/retry", mail["id"]), token, None).await.unwrap();
    assert!(status.is_success(), "{status} {body}");
    until(async || fs::read_dir(&spool).unwrap().next()).await.unwrap();
    stop(server);
}

/// Repeats the call until it returns a value.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

#[test]
fn b04_commands_end_as_they_would_when_nobody_can_read_what_they_say() {
    let directory = TempDir::new().unwrap();
    let command = |arguments: &[&str], setting: (&str, &str)| {
        let mut command: Command = doorward(directory.path());
        command.args(arguments).env(setting.0, setting.1);
        command
    };
    let usual = ("LOG_LEVEL", "info");
    let create = ["admin", "create", "--email", "ann@example.com", "--nickname", "ann"];
    for (arguments, setting, code) in [
        (&["--help"][..], usual, 0),
        (&["--version"], usual, 0),
        (&["dance"], usual, 2),
        (&["check-config"], usual, 0),
        (&["check-config"], ("PORT", "x"), 2),
        (&["serve"], ("PORT", "x"), 2),
        (&["serve"], ("TLS_CERT", "/gone.pem"), 2),
        (&["mail", "test", "ann@example.com"], usual, 0),
        (&["mail", "test", "ann"], usual, 1),
        (&["keys", "list"], usual, 1),
        (&["audit", "verify"], usual, 2),
        (&["health", "--url", "http://127.0.0.1:1/"], usual, 1),
        (&create, usual, 1),
    ] {
        let (status, said) = run(command(arguments, setting));
        assert_eq!(status.code(), Some(code), "{arguments:?} {setting:?}: {said}");
        let gone = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Stdio::from(writer)
        };
        for (out, err) in [
            (full_disk().into(), full_disk().into()),
            (gone(), gone()),
            (full_disk().into(), Stdio::null()),
            (Stdio::null(), full_disk().into()),
        ] {
            let mut deaf = command(arguments, setting);
            let status = deaf.stdout(out).stderr(err).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?} {setting:?}");
        }
    }
}

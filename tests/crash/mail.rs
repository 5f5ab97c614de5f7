//! Mails across kills: the mail server answers, does not answer, or is not running.

#[path = "../support_smtp/mod.rs"]
#[expect(dead_code, reason = "encryption, logins and most steps are tested beside the transport")]
mod smtp_sink;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use self::smtp_sink::{Act, Script, Sink, Step};
use crate::server::{PATIENCE, Server, doorward};

const PASSWORD: &str = "Quiet-lamp-7-tree";
/// The interval at which a test polls a state that it cannot wait for.
const LOOK: Duration = Duration::from_millis(5);
/// Longer than any test runs, in seconds.
const ENDLESS: &str = "600";

/// Starts the program with this mail server. A send attempt times out after this number of seconds.
fn start(directory: &Path, smtp_url: &str, send_timeout: &str) -> Server {
    let mut command = doorward(directory);
    command.envs([
        ("SMTP_URL", smtp_url),
        ("MAIL_SEND_TIMEOUT_SECONDS", send_timeout),
        ("PUBLIC_URL", "https://auth.example.com"),
    ]);
    Server::start_with(command)
}

fn address(name: &str) -> String {
    format!("{name}@example.com")
}

/// Returns whether there was an answer. An answer must say that the account was created.
async fn register(server: &Server, name: &str) -> bool {
    let body = json!({"email": address(name), "nickname": name, "password": PASSWORD,
        "passphrase": "blue heron over water"});
    let answer = server.call(Method::POST, "/register", None, Some(body)).await;
    if let Some((status, body)) = &answer {
        assert_eq!(*status, StatusCode::CREATED, "{body}");
    }
    answer.is_some()
}

async fn login(server: &Server, name: &str) -> Option<String> {
    let (status, body) = server.login(&address(name), PASSWORD).await.unwrap();
    assert!(matches!(status.as_u16(), 200 | 401), "{status} {body}");
    body["access_token"].as_str().map(str::to_owned)
}

/// Waits until the condition holds and fails if it never does.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(LOOK).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "it did not come to this: {what}");
}

async fn outbox(server: &Server, admin: &str) -> Vec<Value> {
    let (status, mut body) = server.call(Method::GET, "/outbox/?limit=1000", Some(admin), None).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_value(body["mails"].take()).unwrap()
}

async fn until_all_is_sent(server: &Server, admin: &str) {
    until("the outbox is empty", async || outbox(server, admin).await.is_empty()).await;
}

fn message_id(data: &str) -> String {
    let ids: Vec<_> = data.lines().filter_map(|line| line.strip_prefix("Message-ID: ")).collect();
    assert_eq!(ids.len(), 1, "{data}");
    ids[0].to_owned()
}

/// Returns the token of the link in the text of a mail.
fn token(data: &str) -> String {
    let data = data.replace("=\r\n", "").replace("=3D", "=");
    let (_, rest) = data.split_once("/email/verify?token=").unwrap();
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)).collect()
}

async fn follow_link(server: &Server, data: &str) {
    let body = json!({"token": token(data)});
    let (status, body) = server.call(Method::POST, "/email/verify", None, Some(body)).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
}

/// Returns the mails that arrived complete, by recipient.
fn by_recipient(sink: &Sink) -> BTreeMap<String, Vec<String>> {
    let mut mails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in sink.received() {
        let [to] = received.mail.to.as_slice() else { panic!("one recipient, and not {:?}", received.mail.to) };
        let to = to.strip_prefix("TO:<").unwrap().strip_suffix('>').unwrap();
        mails.entry(to.to_owned()).or_default().push(received.mail.data);
    }
    mails
}

#[tokio::test]
async fn r04_a_kill_before_the_mail_server_answers_loses_no_mail() {
    let directory = TempDir::new().unwrap();
    let sink = Sink::start(Script::but(Step::Body, Act::Stall)).await;
    let server = start(directory.path(), &sink.url("smtp"), ENDLESS);
    assert!(register(&server, "ann").await);
    until("the mail server has all of the mail", async || !sink.received().is_empty()).await;
    server.kill();
    assert!(sink.taken().is_empty());

    sink.follow(Script::default());
    let server = start(directory.path(), &sink.url("smtp"), ENDLESS);
    // Only the start of the process triggers the mail.
    until("the mail is taken", async || !sink.taken().is_empty()).await;
    let admin = login(&server, "ann").await.unwrap();
    until_all_is_sent(&server, &admin).await;
    let received = sink.received();
    assert_eq!(received.iter().map(|received| received.answered).collect::<Vec<_>>(), [false, true]);
    let [first, second] = [&received[0].mail.data, &received[1].mail.data];
    assert_eq!(message_id(first), message_id(second));
    assert_eq!(first, second, "the two are one mail, with one link");
    follow_link(&server, second).await;
    server.kill();
}

#[tokio::test]
async fn r04_a_kill_after_the_mail_server_answered_sends_at_most_a_duplicate() {
    const KILLS: usize = 12;
    const TOGETHER: usize = 3;
    let directory = TempDir::new().unwrap();
    // Each run of the process has a mail server of its own, which shows the mails of this run.
    let mut sinks = vec![Sink::start(Script::default()).await];
    let mut server = start(directory.path(), &sinks[0].url("smtp"), ENDLESS);
    assert!(register(&server, "root").await);
    let admin = login(&server, "root").await.unwrap();
    until_all_is_sent(&server, &admin).await;

    // The registered people and the runs in which a mail to them may have been sent.
    let mut expected = vec![("root".to_owned(), vec![0])];
    for kill in 0..KILLS {
        let sink = &sinks[kill];
        let acknowledged = RefCell::new(Vec::new());
        let names: Vec<String> = (0..TOGETHER).map(|n| format!("user{kill}x{n}")).collect();
        let already = sink.received().len();
        let killed = already + 1 + kill % TOGETHER;
        {
            let load = join_all(names.iter().map(async |name| {
                if register(&server, name).await {
                    acknowledged.borrow_mut().push(name.clone());
                }
            }));
            // Polls without a pause, so that the kill follows immediately after the answer.
            let answered = async {
                while sink.received().iter().filter(|received| received.answered).count() < killed {
                    tokio::task::yield_now().await;
                }
            };
            let load = async { tokio::join!(load, std::future::pending::<()>()) };
            let first = async { timeout(PATIENCE, answered).await.unwrap() };
            tokio::select! { biased; () = first => {}, _ = load => {} }
        }
        server.kill();

        sinks.push(Sink::start(Script::default()).await);
        server = start(directory.path(), &sinks[kill + 1].url("smtp"), ENDLESS);
        // A new mail makes the process check at once which mails are due.
        let after = format!("after{kill}");
        assert!(register(&server, &after).await);
        until_all_is_sent(&server, &admin).await;
        expected.push((after, vec![kill + 1]));
        for name in names {
            let is_there = login(&server, &name).await.is_some();
            assert!(is_there || !acknowledged.borrow().contains(&name), "the account of {name} was lost");
            // An account whose registration had no answer exists with its mail, or not at all.
            expected.push((name, if is_there { vec![kill, kill + 1] } else { Vec::new() }));
        }
    }
    server.kill();

    let sent: Vec<_> = sinks.iter().map(by_recipient).collect();
    for (name, lives) in expected {
        let address = address(&name);
        let mut copies = Vec::new();
        for (life, mails) in sent.iter().enumerate() {
            let here = mails.get(&address).map_or(&[][..], Vec::as_slice);
            assert!(here.len() <= usize::from(lives.contains(&life)), "{} to {name} in life {life}", here.len());
            copies.extend(here);
        }
        assert!(lives.is_empty() || !copies.is_empty(), "the mail to {name} was lost");
        for copy in &copies {
            assert_eq!(message_id(copy), message_id(copies[0]), "{name}");
            assert_eq!(token(copy), token(copies[0]), "{name}");
        }
    }
}

#[tokio::test]
async fn r04_registrations_do_not_wait_for_a_mail_server_that_stalls_or_is_not_there() {
    let names = ["root", "ann", "bob", "cleo", "dora"];
    let sink = Sink::start(Script::but(Step::Greeting, Act::Stall)).await;
    // Bound but not listening: the port refuses connections, and no other process gets it meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let closed = held.local_addr().unwrap();
    for url in [sink.url("smtp"), format!("smtp://{closed}")] {
        let directory = TempDir::new().unwrap();
        // An attempt takes longer than the registering client waits.
        let server = start(directory.path(), &url, ENDLESS);
        for name in names {
            assert!(register(&server, name).await, "{url}");
        }
        let admin = login(&server, "root").await.unwrap();
        assert_eq!(outbox(&server, &admin).await.len(), names.len(), "{url}");
        server.kill();

        let server = start(directory.path(), &url, "1");
        until("each mail was tried", async || {
            let mails = outbox(&server, &admin).await;
            assert_eq!(mails.len(), names.len(), "{url}");
            assert!(mails.iter().all(|mail| mail["state"] == "queued"), "{url}: {mails:?}");
            if url.ends_with(&closed.to_string()) {
                let refused = |mail: &Value| mail["last_error"].as_str().is_none_or(|error| error.contains("refused"));
                assert!(mails.iter().all(refused), "{mails:?}");
            }
            mails.iter().all(|mail| mail["attempts"].as_u64().unwrap() >= 1 && mail["last_error"].is_string())
        })
        .await;
        server.kill();

        let well = Sink::start(Script::default()).await;
        let server = start(directory.path(), &well.url("smtp"), ENDLESS);
        for mail in outbox(&server, &admin).await {
            let path = format!("/outbox/{}/retry", mail["id"]);
            let (status, body) = server.call(Method::POST, &path, Some(&admin), None).await.unwrap();
            // 404 if the mail was already sent when it was due.
            assert!(matches!(status.as_u16(), 200 | 404), "{url}: {status} {body}");
        }
        until_all_is_sent(&server, &admin).await;
        let sent = by_recipient(&well);
        assert_eq!(sent.len(), names.len(), "{url}: {:?}", sent.keys());
        for name in names {
            let [mail] = sent[&address(name)].as_slice() else { panic!("{url}: one mail to {name}") };
            follow_link(&server, mail).await;
        }
        server.kill();
    }
}

//! Peers that violate the protocol or send slowly.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{TestApp, within};

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const POST: &str = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

#[track_caller]
fn assert_one_problem(answer: &str, status: u16, why: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{why:?}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{why:?}: {answer}");
    for part in [
        "content-type: application/problem+json\r\n",
        "x-request-id: ",
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
        "cache-control: no-store\r\n",
        &format!("\"status\":{status},"),
    ] {
        assert_eq!(answer.matches(part).count(), 1, "{why:?}: {part}: {answer}");
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
}

#[tokio::test]
async fn s68_what_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_answered() {
    let app = TestApp::spawn().await;
    for bad in [
        format!("{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        format!("{POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 0\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 2, 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: -2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 0x2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 99999999999999999999\r\n\r\n{{}}"),
        format!("{POST}Content-Length : 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length\t: 2\r\n\r\n{{}}"),
        format!("{POST} Content-Length: 2\r\n\r\n{{}}"),
        format!("{POST}X: a\r\n folded\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 2\n\r\n{{}}"),
        format!("{POST}Content-Length: 2\r\n\n{{}}"),
        format!("{POST}X: a\rContent-Length: 2\r\n\r\n{{}}"),
        format!("{POST}X: a\0b\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Transfer-Encoding: identity\r\n\r\n{{}}"),
        format!("{POST}Transfer-Encoding: gzip, chunked, x\r\n\r\n0\r\n\r\n"),
        format!("{POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        "GET  /health/live HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1 \r\nHost: x\r\n\r\n".to_owned(),
        "GET /health/live\r\n\r\n".to_owned(),
        "GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
    ] {
        let answer = app.exchange(format!("{bad}{LIVE}")).await;
        assert_one_problem(&answer, 400, &bad);
    }
    // HTTP/2 needs prior agreement. A client cannot start it by itself.
    assert_eq!(app.exchange(format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{LIVE}")).await, "");
}

#[tokio::test]
async fn s68_a_request_names_exactly_one_host() {
    let app = TestApp::spawn().await;
    for bad in
        ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a, b\r\n", "Host: a@b\r\n"]
    {
        let answer = app.exchange(format!("GET /health/live HTTP/1.1\r\n{bad}Connection: close\r\n\r\n")).await;
        assert_one_problem(&answer, 400, bad);
        assert!(answer.contains("A request names exactly one host"), "{answer}");
    }
    for good in [
        "GET /health/live HTTP/1.0\r\n\r\n",
        "GET http://a/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let answer = app.exchange(good).await;
        assert!(answer.split(' ').nth(1) == Some("200"), "{good}: {answer}");
    }
}

#[tokio::test]
async fn s68_abused_chunks_are_refused() {
    let app = TestApp::spawn().await;
    let filler = "x".repeat(20_000);
    for bad in [
        format!("2;{filler}\r\n{{}}\r\n0\r\n\r\n"),
        "2;a=b\nx\r\n{}\r\n0\r\n\r\n".to_owned(),
        "2\n{}\n0\n\n".to_owned(),
        "-2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "0x2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "2 2\r\n{}\r\n0\r\n\r\n".to_owned(),
        "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n".to_owned(),
        "2\r\n{}x\r\n0\r\n\r\n".to_owned(),
    ] {
        let answer = app.exchange(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{bad}{LIVE}")).await;
        assert_one_problem(&answer, 400, &bad);
    }
    // A correct body is answered, and its connection then closes.
    let fine = "2;a=\"b\"\r\n{}\r\n0\r\nX: trailer\r\n\r\n";
    let answer = app.exchange(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{fine}{LIVE}")).await;
    assert_one_problem(&answer, 422, fine);
}

#[tokio::test]
async fn s66_a_head_that_is_too_large_is_refused_like_anything_else() {
    let app = TestApp::spawn().await;
    let many = "X: y\r\n".repeat(200);
    for bad in [
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(20_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
    ] {
        let answer = app.exchange(&bad).await;
        assert_one_problem(&answer, 431, &bad[..40]);
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_refusals_that_leave_no_doubt() {
    let app = TestApp::spawn().await;
    let body = json!({"email": "nobody@example.com", "password": "x"}).to_string();
    let requests = [
        "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /health/live HTTP/1.1\r\n\r\n".to_owned(),
        format!("{POST}Content-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 1\r\n\r\n{{"),
        format!("{POST}Content-Length: {}\r\n\r\n{body}", body.len()),
        "GET /my_account/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "BREW / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        LIVE.to_owned(),
        LAST.to_owned(),
    ];
    let answer = app.exchange(requests.concat()).await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|one| one.split(' ').next().unwrap()).collect();
    assert_eq!(statuses, ["404", "400", "422", "400", "401", "401", "405", "200", "200"], "{answer}");
}

/// Opens connections that begin a request and never end it. Healthy peers are served meanwhile, and then all slow peers
/// are dropped.
async fn slow_peers(each: usize) {
    let deadline = Duration::from_secs(2);
    let app = TestApp::builder()
        .with(|settings| {
            settings.http.header_timeout = deadline;
            settings.http.request_timeout = deadline;
            // Slow peers take all places but one. Healthy peers must share it until the slow ones are dropped.
            settings.http.max_connections = 2 * each + 1;
            settings.http.max_connections_per_address = 2 * each + 1;
        })
        .spawn()
        .await;
    let mut slow = Vec::new();
    for _ in 0..each {
        for begun in ["GET / HTTP/1.1\r\nHost: x\r\nX:", &format!("{POST}Content-Length: 50\r\n\r\n{{")] {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    for _ in 0..20 {
        let answer = app.exchange(LAST).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let mut ends = (0, 0);
    for mut stream in slow {
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        match String::from_utf8_lossy(&answer).split(' ').nth(1) {
            None => ends.0 += 1,
            Some("408") => ends.1 += 1,
            Some(other) => panic!("{other}"),
        }
    }
    assert_eq!(ends, (each, each));
    assert!(app.exchange(LAST).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn r06_slow_peers_are_dropped_at_their_deadline_and_keep_nobody_out() {
    slow_peers(100).await;
}

/// This test needs 10,100 open files: `ulimit -n 16384`.
#[tokio::test]
#[ignore = "opens 5,000 connections"]
async fn r06_thousands_of_slow_peers_are_dropped_at_their_deadline_and_keep_nobody_out() {
    slow_peers(2500).await;
}

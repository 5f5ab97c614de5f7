//! The client address of a request, with and without proxies.

use std::time::Duration;

use doorward::settings::Networks;
use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, TestApp, within};

/// Starts an application with these trusted proxies. Each address has a quota of two requests at once on public routes.
async fn behind(proxies: &str) -> TestApp {
    let proxies = Networks::parse(proxies).unwrap();
    TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = 2.try_into().unwrap();
            settings.limits.public.per = Duration::from_mins(1);
            settings.http.trusted_proxies = proxies;
        })
        .spawn()
        .await
}

/// Sends a request that counts against the quota, with these proxy headers.
async fn ask(app: &TestApp, headers: &[(&str, &str)]) -> Answer {
    let mut request = app.request(Method::POST, "/login").json(&json!({}));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request).await
}

/// Returns how many requests with these headers are accepted.
async fn let_in(app: &TestApp, headers: &[(&str, &str)]) -> usize {
    for n in 0.. {
        match ask(app, headers).await.status {
            422 => assert!(n < 10, "nobody counts"),
            429 => return n,
            other => panic!("{other}"),
        }
    }
    unreachable!()
}

#[tokio::test]
async fn s18_two_clients_behind_a_proxy_have_two_allowances() {
    for (name, one, other) in [
        ("X-Forwarded-For", "192.0.2.1", "192.0.2.2"),
        ("Forwarded", "for=192.0.2.1;proto=https", "for=\"[2001:db8::1]:4711\""),
    ] {
        let app = behind("127.0.0.0/8").await;
        assert_eq!(let_in(&app, &[(name, one)]).await, 2);
        assert_eq!(let_in(&app, &[(name, other)]).await, 2);
        assert_eq!(let_in(&app, &[]).await, 2, "the proxy itself is a third");
    }
}

#[tokio::test]
async fn s18_what_a_client_puts_before_the_proxys_entry_changes_nothing() {
    let app = behind("127.0.0.1, 10.0.0.0/8").await;
    assert_eq!(let_in(&app, &[("X-Forwarded-For", "192.0.2.1")]).await, 2);
    for spoofed in [
        &[("X-Forwarded-For", "198.51.100.7, 192.0.2.1")][..],
        &[("X-Forwarded-For", "10.0.0.1, 192.0.2.1, 10.0.0.2")],
        &[("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "192.0.2.1:1234")],
        &[("X-Forwarded-For", "unknown, , x, ::ffff:192.0.2.1")],
        &[("Forwarded", "for=\", for=192.0.2.1")],
        &[("Forwarded", "for=198.51.100.7, for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.1")],
    ] {
        assert_eq!(let_in(&app, spoofed).await, 0, "{spoofed:?}");
    }
}

#[tokio::test]
async fn s17_an_ipv6_network_behind_a_proxy_is_one_client() {
    let app = behind("127.0.0.1").await;
    assert_eq!(let_in(&app, &[("X-Forwarded-For", "2001:db8:1:2::1")]).await, 2);
    assert_eq!(let_in(&app, &[("X-Forwarded-For", "2001:db8:1:2:ffff::2")]).await, 0);
    assert_eq!(let_in(&app, &[("X-Forwarded-For", "2001:db8:1:3::1")]).await, 2);
}

#[tokio::test]
async fn s18_without_trusted_proxies_forwarding_headers_count_for_nothing() {
    let app = behind("192.0.2.0/24").await;
    for n in 0..2 {
        assert_eq!(ask(&app, &[("X-Forwarded-For", &format!("198.51.100.{n}"))]).await.status, 422);
    }
    for header in ["X-Forwarded-For", "X-Real-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP"] {
        assert_eq!(let_in(&app, &[(header, "198.51.100.9")]).await, 0, "{header}");
    }
    assert_eq!(let_in(&app, &[("Forwarded", "for=198.51.100.9")]).await, 0);
    // Contradictory headers do no harm either.
    let both = [("Forwarded", "for=198.51.100.9"), ("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(ask(&app, &both).await.status, 429);
}

#[tokio::test]
async fn s18_two_headers_of_a_proxy_that_contradict_each_other_are_400() {
    let app = behind("127.0.0.1").await;
    let both = [("Forwarded", "for=198.51.100.9"), ("X-Forwarded-For", "192.0.2.1")];
    for _ in 0..3 {
        ask(&app, &both).await.assert_problem(400, "Forwarded and X-Forwarded-For name different clients");
    }
    assert_eq!(let_in(&app, &[("X-Forwarded-For", "192.0.2.1")]).await, 2);
}

#[tokio::test]
async fn s18_a_login_from_an_unknown_address_is_told_by_the_address_of_the_client() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.http.trusted_proxies = Networks::parse("127.0.0.1").unwrap();
        })
        .spawn()
        .await;
    let ann = app.register("ann").await;
    let login = async |from: &str| {
        let body = json!({"email": ann.email, "password": ann.password});
        let request = app.request(Method::POST, "/login").header("X-Forwarded-For", from).json(&body);
        assert_eq!(app.send(request).await.status, 200);
        app.mails_to(&ann.email).await.into_iter().filter(|mail| mail.kind == MailKind::NewSignIn).count()
    };
    let first = login("192.0.2.1").await;
    assert_eq!(login("192.0.2.1").await, first);
    assert_eq!(login("192.0.2.2").await, first + 1, "another client behind the same proxy");
}

async fn with_places(proxies: &str) -> TestApp {
    let proxies = Networks::parse(proxies).unwrap();
    TestApp::builder()
        .with(|settings| {
            settings.http.max_connections_per_address = 3;
            settings.http.trusted_proxies = proxies;
        })
        .spawn()
        .await
}

/// Opens a connection, gets an answer and keeps the connection. Returns `None` if the server refuses it.
async fn connected(app: &TestApp) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    // The server may close a refused connection before the request is sent.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut first = [0; 16];
    let read = within(stream.read(&mut first)).await.unwrap_or(0);
    (read > 0).then_some(stream)
}

#[tokio::test]
async fn r06_one_address_has_so_many_connections_and_no_more() {
    let app = with_places("").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connected(&app).await.unwrap());
    }
    for _ in 0..5 {
        assert!(connected(&app).await.is_none(), "served beyond the bound");
    }
    drop(held.pop());
    // The connection is free again as soon as the server has seen the other one close.
    within(async { while connected(&app).await.is_none() {} }).await;
}

#[tokio::test]
async fn r06_a_trusted_proxy_may_have_more() {
    let app = with_places("127.0.0.1").await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(connected(&app).await.unwrap());
    }
}

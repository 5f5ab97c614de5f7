//! The TLS port.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::{CertificateFiles, Pair, TestApp, TlsClient, within};

pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) struct Encrypted {
    pub(crate) app: TestApp,
    files: CertificateFiles,
    pub(crate) pair: Pair,
}

pub(crate) async fn encrypted(change: impl FnOnce(&mut doorward::settings::Settings)) -> Encrypted {
    let pair = Pair::new();
    let files = CertificateFiles::with(&pair);
    let paths = files.paths();
    let app = TestApp::builder()
        .with(|settings| {
            settings.http.tls = Some(paths);
            change(settings);
        })
        .spawn()
        .await;
    Encrypted { app, files, pair }
}

pub(crate) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Encrypted {
    /// Sends a request over HTTP/1.1 and returns the answer.
    async fn exchange(&self, request: &str) -> String {
        let client = TlsClient::trusting(&self.pair, &["http/1.1"]);
        let mut stream = client.connect(self.app.address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// Opens an HTTP/2 connection.
    pub(crate) async fn http2(&self) -> SendRequest<Body> {
        let client = TlsClient::trusting(&self.pair, &["h2", "http/1.1"]);
        let stream = client.connect(self.app.address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

pub(crate) fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(format!("https://localhost{path}"))
}

async fn read(response: Response<hyper::body::Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = within(response.into_body().collect()).await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub(crate) async fn send(sender: &mut SendRequest<Body>, request: Request<Body>) -> Response<hyper::body::Incoming> {
    within(sender.send_request(request)).await.unwrap()
}

#[tokio::test]
async fn s66_http_1_1_is_served_over_tls_and_says_to_come_back_so() {
    let server = encrypted(|_| {}).await;
    for path in ["/health/ready", "/nope", "/my_account/"] {
        let answer =
            server.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.matches("strict-transport-security: max-age=31536000\r\n").count(), 1, "{answer}");
        assert_eq!(answer.matches("x-content-type-options: nosniff\r\n").count(), 1, "{answer}");
    }
    let plain = TestApp::spawn().await;
    assert!(plain.get("/").await.header("strict-transport-security").is_none());
}

#[tokio::test]
async fn http_2_serves_many_requests_on_one_connection() {
    let server = encrypted(|_| {}).await;
    let mut sender = server.http2().await;
    let ann = crate::support::Person::named("ann");
    let register = request("POST", "/register").header("content-type", "application/json");
    let response = send(&mut sender, register.body(whole(ann.registration().to_string())).unwrap()).await;
    assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(read(response).await.0, 201);
    let login = json!({"email": ann.email, "password": ann.password}).to_string();
    let login = request("POST", "/login").header("content-type", "application/json").body(whole(login)).unwrap();
    let (status, body) = read(send(&mut sender, login).await).await;
    assert_eq!(status, 200);
    let token = body["access_token"].as_str().unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut sender = sender.clone();
        let mine = request("GET", "/my_account/").header("authorization", format!("Bearer {token}"));
        asked.spawn(async move { read(send(&mut sender, mine.body(whole("")).unwrap()).await).await });
    }
    for (status, body) in asked.join_all().await {
        assert_eq!((status.as_u16(), &body["email"]), (200, &json!(ann.email)));
    }
}

#[tokio::test]
async fn head_is_get_without_a_body_over_http_2_too() {
    let server = encrypted(|_| {}).await;
    let mut sender = server.http2().await;
    for path in ["/health/live", "/nope"] {
        let got = send(&mut sender, request("GET", path).body(whole("")).unwrap()).await;
        let length = got.into_body().collect().await.unwrap().to_bytes().len();
        let head = send(&mut sender, request("HEAD", path).body(whole("")).unwrap()).await;
        assert_eq!(head.headers()["content-length"], length.to_string(), "{path}");
        assert_eq!(head.into_body().collect().await.unwrap().to_bytes(), "", "{path}");
    }
}

#[tokio::test]
async fn s63_http_2_is_held_to_the_same_rules() {
    let server = encrypted(|_| {}).await;
    let mut sender = server.http2().await;
    let json_post = || request("POST", "/login").header("content-type", "application/json");
    // Without a declared length, in chunks.
    let pieces = futures_util::stream::iter([
        Bytes::from_static(b"{\"email\":\"a@example.com\","),
        Bytes::from_static(b"\"password\":\"x\"}"),
    ]);
    let pieces = StreamBody::new(futures_util::StreamExt::map(pieces, |piece| Ok(Frame::data(piece)))).boxed_unsync();
    for (status, request) in [
        (401, json_post().body(pieces).unwrap()),
        (413, json_post().body(whole(vec![b'x'; 64 * 1024 + 1])).unwrap()),
        (415, request("POST", "/login").body(whole("{}")).unwrap()),
        (422, json_post().body(whole("")).unwrap()),
        (
            400,
            request("GET", "/")
                .header("authorization", "Bearer a")
                .header("authorization", "Bearer b")
                .body(whole(""))
                .unwrap(),
        ),
        (400, request("GET", "/").header("host", "elsewhere.example").body(whole("")).unwrap()),
        (404, request("GET", "/nope").body(whole("")).unwrap()),
        (405, request("GET", "/login").body(whole("")).unwrap()),
    ] {
        let response = send(&mut sender, request).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("connection"));
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (_, body) = read(response).await;
        assert_eq!((&body["status"], &body["instance"]), (&json!(status), &json!(id)));
    }
    let response = send(&mut sender, request("GET", "/health/live").body(whole("")).unwrap()).await;
    assert_eq!(response.status(), 200, "the connection outlives its refusals");
}

#[tokio::test]
async fn r06_an_http_2_body_that_does_not_come_is_given_up() {
    let server = encrypted(|settings| settings.http.request_timeout = Duration::from_millis(100)).await;
    let mut sender = server.http2().await;
    let never = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
    let slow = request("POST", "/login").header("content-type", "application/json").body(never).unwrap();
    assert_eq!(send(&mut sender, slow).await.status(), 408);
    let quick = request("GET", "/health/live").body(whole("")).unwrap();
    assert_eq!(send(&mut sender, quick).await.status(), 200);
}

#[tokio::test]
async fn r06_an_http_2_connection_without_requests_is_closed() {
    let server = encrypted(|settings| settings.http.header_timeout = Duration::from_millis(100)).await;
    let client = TlsClient::trusting(&server.pair, &["h2"]);
    // One client sends nothing at all. The other completes the HTTP/2 handshake and answers every frame, but sends no
    // request.
    let mut silent = client.connect(server.app.address).await.unwrap();
    let stream = client.connect(server.app.address).await.unwrap();
    let (sender, idle) = http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let _ = within(idle).await;
    drop(sender);
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn r06_an_http_2_peer_that_does_not_read_is_cut_off() {
    let server = encrypted(|settings| settings.http.header_timeout = Duration::from_millis(100)).await;
    let stream = TlsClient::trusting(&server.pair, &["h2"]).connect(server.app.address).await.unwrap();
    let mut small = http2::Builder::new(TokioExecutor::new());
    small.initial_stream_window_size(1024).initial_connection_window_size(1024);
    let (mut sender, connection) = small.handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // Far more than the flow-control window and the server's send buffer.
    let unread = send(&mut sender, request("GET", "/docs/swagger-ui-bundle.js").body(whole("")).unwrap()).await;
    assert_eq!(unread.status(), 200);
    let _ = within(connection).await;
    drop((sender, unread));
}

#[tokio::test]
async fn r11_an_http_2_request_in_flight_is_answered_during_the_stop() {
    let server = encrypted(|_| {}).await;
    let mut sender = server.http2().await;
    let (more, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::unfold(body, async |mut body| Some((Ok(Frame::data(body.recv().await?)), body)));
    let login = request("POST", "/login").header("content-type", "application/json");
    let pending = sender.send_request(login.body(StreamBody::new(Box::pin(body)).boxed_unsync()).unwrap());
    let pending = tokio::spawn(pending);
    more.send(Bytes::from_static(b"{\"email\":\"a@example.com\",")).await.unwrap();
    // This later request on the same connection is answered, so the server has read the head of the pending one.
    assert_eq!(send(&mut sender, request("GET", "/health/live").body(whole("")).unwrap()).await.status(), 200);
    let Encrypted { app, .. } = server;
    let address = app.address;
    let stopping = tokio::spawn(app.stop());
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    more.send(Bytes::from_static(b"\"password\":\"x\"}")).await.unwrap();
    drop(more);
    assert_eq!(within(pending).await.unwrap().unwrap().status(), 401);
    within(stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_an_unknown_protocol_is_not() {
    let server = encrypted(|_| {}).await;
    let client =
        |version, protocols| TlsClient { versions: vec![version], ..TlsClient::trusting(&server.pair, protocols) };
    assert!(client(&TLS12, &["h2"]).connect(server.app.address).await.is_ok());
    assert!(client(&TLS13, &["http/1.1"]).connect(server.app.address).await.is_ok());
    let unnamed = client(&TLS13, &[]).connect(server.app.address).await.unwrap();
    assert_eq!(unnamed.get_ref().1.alpn_protocol(), None);
    assert!(client(&TLS13, &["spdy/1"]).connect(server.app.address).await.is_err());
}

/// A `ClientHello` of TLS 1.1 at most (RFC 5246 §7.4.1.2), with a cipher suite that the server supports.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    // No session, two cipher suites, no compression, and the supported signature algorithms as the only extension.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    hello.extend([0, 10, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut message = vec![1, 0, 0, length];
    message.extend(hello);
    let length = u8::try_from(message.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length];
    record.extend(message);
    record
}

#[tokio::test]
async fn older_tls_and_no_tls_at_all_are_turned_away() {
    let server = encrypted(|_| {}).await;
    let old = server.app.exchange(hello_of_tls_1_1()).await;
    // An alert (RFC 8446 §6), fatal: protocol_version.
    assert_eq!(old.as_bytes(), [21, 3, 3, 0, 2, 2, 70]);
    let plain = server.app.exchange("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("HTTP"), "{plain}");
}

#[tokio::test]
async fn r06_a_handshake_that_does_not_come_is_given_up() {
    let server = encrypted(|settings| {
        settings.http.header_timeout = Duration::from_millis(100);
        settings.http.max_connections = 1;
    })
    .await;
    assert_eq!(server.app.exchange("").await, "");
    let half = hello_of_tls_1_1();
    assert_eq!(server.app.exchange(&half[..20]).await, "");
    let answer = server.exchange("GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_a_restart() {
    let server = encrypted(|_| {}).await;
    let mut old = server.http2().await;
    let next = Pair::new();
    server.files.write(&next);
    let client = TlsClient::trusting(&next, &["http/1.1"]);
    within(async { while client.connect(server.app.address).await.is_err() {} }).await;
    assert!(TlsClient::trusting(&server.pair, &["http/1.1"]).connect(server.app.address).await.is_err());
    let kept = request("GET", "/health/live").body(whole("")).unwrap();
    assert_eq!(send(&mut old, kept).await.status(), 200, "who is connected stays so");
}

#[tokio::test]
async fn s68_the_guard_against_two_readings_works_under_tls_too() {
    let server = encrypted(|_| {}).await;
    for bad in [
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        let answer = server.exchange(bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

/// Builds an HTTP/2 frame (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the error codes of the GOAWAY frames in these bytes (RFC 9113 §6.8).
fn farewells(mut bytes: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let Some(payload) = bytes.get(9..9 + length) else { break };
        if bytes[3] == 7 {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = &bytes[9 + length..];
    }
    codes
}

#[tokio::test]
async fn r06_an_http_2_peer_that_takes_its_requests_back_at_once_is_cut_off() {
    let server = encrypted(|_| {}).await;
    let client = TlsClient::trusting(&server.pair, &["h2"]);
    let mut stream = client.connect(server.app.address).await.unwrap();
    let mut flood = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for n in 0..500 {
        // `GET /` of `https://localhost` with the static table of RFC 7541, ended and then reset (CANCEL).
        flood.extend(frame(1, 0x5, 2 * n + 1, b"\x82\x84\x87\x41\x09localhost"));
        flood.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    // The server may close the connection before it has read everything.
    let _ = stream.write_all(&flood).await;
    let mut told = Vec::new();
    let _ = within(stream.read_to_end(&mut told)).await;
    assert_eq!(farewells(&told), [11], "ENHANCE_YOUR_CALM");
    let quick = request("GET", "/health/live").body(whole("")).unwrap();
    assert_eq!(send(&mut server.http2().await, quick).await.status(), 200);
}

#[tokio::test]
async fn doorward_health_asks_over_tls() {
    let server = encrypted(|_| {}).await;
    let url = format!("https://{}/health/ready", server.app.address);
    let ask = move || {
        let mut health = std::process::Command::new(env!("CARGO_BIN_EXE_doorward"));
        health.env_clear().args(["health", "--url", &url]).status().unwrap()
    };
    assert_eq!(within(tokio::task::spawn_blocking(ask)).await.unwrap().code(), Some(0));
}

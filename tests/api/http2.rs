//! Limits on what an HTTP/2 peer may hold: answers that it does not read, and requests that it does not finish.

use std::time::Duration;

use http_body_util::{BodyExt as _, StreamBody};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;

use crate::support::{TlsClient, within};
use crate::tls::{Body, Encrypted, encrypted, frame, request, send, whole};

/// The kinds of frames that these tests read (RFC 9113 §6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

/// A connection whose frames the test writes and reads itself.
struct RawHttp2(TlsStream<tokio::net::TcpStream>);

impl RawHttp2 {
    /// Opens a connection with an initial window of 0, so that only the heads of answers arrive
    /// (`SETTINGS_INITIAL_WINDOW_SIZE`, RFC 9113 §6.5.2).
    async fn with_closed_windows(server: &Encrypted) -> Self {
        let mut stream = TlsClient::trusting(&server.pair, &["h2"]).connect(server.app.address).await.unwrap();
        let greeting =
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        stream.write_all(&greeting).await.unwrap();
        Self(stream)
    }

    /// Sends a complete request without a body.
    async fn ask(&mut self, stream: u32, method: &str, path: &str) {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        // With the static table of RFC 7541: the names `:method`, `:path` and `:authority` with literal values, and the
        // scheme `https`.
        let head = [&[0x02][..], &text(method), &[0x04], &text(path), &[0x87, 0x01], &text("localhost")].concat();
        self.0.write_all(&frame(HEADERS, 0x5, stream, &head)).await.unwrap();
    }

    /// Returns the kind, the stream and the payload of the next frame.
    async fn next(&mut self) -> (u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        within(self.0.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        within(self.0.read_exact(&mut payload)).await.unwrap();
        (head[3], u32::from_be_bytes(head[5..9].try_into().unwrap()), payload)
    }
}

#[tokio::test]
async fn r06_an_answer_that_is_not_read_is_cut_off_on_a_busy_connection() {
    let server = encrypted(|settings| settings.http.request_timeout = Duration::from_millis(200)).await;
    let mut raw = RawHttp2::with_closed_windows(&server).await;
    // A large answer, and one that fits into any window.
    raw.ask(1, "GET", "/docs/swagger-ui-bundle.js").await;
    raw.ask(3, "GET", "/health/live").await;
    raw.ask(5, "HEAD", "/health/live").await;
    let (mut asked, mut cut) = (5, Vec::new());
    within(async {
        while cut.len() < 2 {
            match raw.next().await {
                // 8 is CANCEL.
                (RST_STREAM, stream, reason) => cut.push((stream, reason)),
                // The other requests are answered all the time.
                (HEADERS, stream, _) if stream == asked => {
                    asked += 2;
                    raw.ask(asked, "HEAD", "/health/live").await;
                }
                (kind, stream, payload) => assert!(kind != 0 && kind != 7, "{kind} on {stream}: {payload:?}"),
            }
        }
    })
    .await;
    cut.sort_unstable();
    assert_eq!(cut, [(1, vec![0, 0, 0, 8]), (3, vec![0, 0, 0, 8])]);
    raw.ask(asked + 2, "HEAD", "/health/live").await;
    while !matches!(raw.next().await, (HEADERS, stream, _) if stream == asked + 2) {}
}

#[tokio::test]
async fn an_answer_comes_whole_through_a_small_window() {
    let server = encrypted(|_| {}).await;
    let stream = TlsClient::trusting(&server.pair, &["h2"]).connect(server.app.address).await.unwrap();
    let mut small = http2::Builder::new(TokioExecutor::new());
    small.initial_stream_window_size(1000).initial_connection_window_size(5000);
    let (mut sender, connection) = small.handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = "/docs/swagger-ui-bundle.js";
    let small = send(&mut sender, request("GET", path).body(whole("")).unwrap()).await;
    let small = within(small.into_body().collect()).await.unwrap().to_bytes();
    let large = send(&mut server.http2().await, request("GET", path).body(whole("")).unwrap()).await;
    assert_eq!(within(large.into_body().collect()).await.unwrap().to_bytes(), small);
    assert!(small.len() > 100_000);
}

/// Begins a login whose body never arrives, and waits until the server has its head.
async fn unfinished(sender: &mut SendRequest<Body>) -> tokio::task::JoinHandle<()> {
    let never = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
    let login = request("POST", "/login").header("content-type", "application/json").body(never).unwrap();
    let pending = sender.send_request(login);
    let pending = tokio::spawn(async move { drop(pending.await) });
    // This later request on the same connection is answered, so the server has read the head of the login.
    assert_eq!(send(sender, request("GET", "/health/live").body(whole("")).unwrap()).await.status(), 200);
    pending
}

#[tokio::test]
async fn r06_http_2_requests_have_a_bound_on_all_connections_together() {
    // The limit of all clients together, and the limit of one client.
    for (all, of_one) in [(4, 64), (64, 4)] {
        let server = encrypted(|settings| {
            settings.http.max_connections = all;
            settings.http.max_connections_per_address = of_one;
        })
        .await;
        let (mut first, mut second) = (server.http2().await, server.http2().await);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(unfinished(&mut first).await);
            held.push(unfinished(&mut second).await);
        }
        for sender in [&mut first, &mut second] {
            let ask = |path: &str| request("GET", path).body(whole("")).unwrap();
            let refused = send(sender, ask("/my_account/")).await;
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.headers()["retry-after"], "1");
            for (path, status) in [("/health/live", 200), ("/health/ready", 200), ("/nope", 404)] {
                assert_eq!(send(sender, ask(path)).await.status(), status, "{path}");
            }
        }
        // The client cancels one request, which frees its place.
        held.swap_remove(0).abort();
        let retry = || request("GET", "/my_account/").body(whole("")).unwrap();
        let again = within(async {
            loop {
                let status = send(&mut second, retry()).await.status();
                if status != 503 {
                    return status;
                }
            }
        })
        .await;
        assert_eq!(again, 401);
        held.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn r11_a_stop_waits_for_no_http_2_peer_that_does_not_read() {
    let server = encrypted(|settings| {
        settings.http.request_timeout = Duration::from_hours(1);
        settings.http.shutdown_timeout = Duration::from_hours(1);
    })
    .await;
    let mut raw = RawHttp2::with_closed_windows(&server).await;
    raw.ask(1, "GET", "/docs/swagger-ui-bundle.js").await;
    while !matches!(raw.next().await, (HEADERS, 1, _)) {}
    within(server.app.stop()).await.unwrap();
}

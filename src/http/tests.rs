//! Tests of the edge over raw sockets: what only a real connection shows. The routes are stand-ins; the families have their
//! own tests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warp::Filter as _;
use warp::reply::{Reply as _, Response};

use crate::http::ServerSettings;
use crate::http::edge::extract::RequestContext;
use crate::http::error::ApiError;
use crate::http::route_table;
use crate::http::routes::Table;
use crate::http::serve;

/// Far longer than any of these exchanges takes. It is only reached if something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn patient() -> ServerSettings {
    ServerSettings::plain(64, PATIENCE)
}

struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    drained: JoinHandle<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    name: String,
}

/// Answers for paths and methods that the stand-ins do not have.
async fn recover(rejection: warp::Rejection) -> Result<Response, Infallible> {
    let error = if rejection.is_not_found() { ApiError::NotFound } else { ApiError::MethodNotAllowed };
    Ok(error.into_response())
}

async fn start(mut settings: ServerSettings) -> Server {
    settings.edge.routes = Table(route_table());
    let hello = warp::path("login")
        .and(warp::path::end())
        .and(warp::post())
        .and(warp::ext::get::<Arc<RequestContext>>())
        .and(warp::body::stream())
        .then(|context: Arc<RequestContext>, body| async move {
            context.keep_body(body);
            match context.json::<Greeting>().await {
                Ok(greeting) => Response::new(format!("hello {}", greeting.name).into()),
                Err(error) => error.into_response(),
            }
        });
    let root = warp::path::end().and(warp::get()).then(|| async { Response::new("root".into()) });
    let panics = warp::path!("docs").and(warp::get()).then(|| async { panic!("on purpose") });
    let slow = warp::path!("docs" / "slow").and(warp::get()).then(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new("late".into())
    });
    let huge = warp::path!("docs" / "huge").and(warp::get()).then(|| async { Response::new(vec![0; 32 << 20].into()) });
    let stuck = warp::path!("docs" / "stuck").and(warp::get()).then(std::future::pending);
    let routes = hello
        .or(root)
        .unify()
        .or(panics)
        .unify()
        .or(slow)
        .unify()
        .or(huge)
        .unify()
        .or(stuck)
        .unify()
        .recover(recover)
        .unify();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = TowerToHyperService::new(warp::service(routes));
    let drained = tokio::spawn(async move {
        serve(listener, service, settings, async {
            let _ = stopped.await;
        })
        .await
    });
    Server { address, stop: Some(stop), drained }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn stop(mut self) -> bool {
        let _ = self.stop.take().unwrap().send(());
        within(self.drained).await.unwrap()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer ends it too. What was read before the reset counts.
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(end) {
        let read = within(stream.read_buf(&mut answer)).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(body: &str, headers: &str) -> String {
    format!(
        "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn assert_problem(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
    assert!(answer.contains(&format!("\"status\":{status}")), "{answer}");
    let id = answer.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(answer.contains(&format!("\"instance\":\"{id}\"")), "{answer}");
    assert_headers(answer);
}

fn assert_headers(answer: &str) {
    for header in [
        "x-request-id: ",
        "x-content-type-options: nosniff\r\n",
        "cache-control: no-store\r\n",
        "referrer-policy: no-referrer\r\n",
    ] {
        assert_eq!(answer.matches(header).count(), 1, "{header} in {answer}");
    }
}

#[tokio::test]
async fn s66_answers_and_errors_carry_the_fixed_headers() {
    let server = start(patient()).await;
    let good = server.exchange(post("{\"name\":\"Ann\"}", "X-Request-Id: mine-1\r\n")).await;
    assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with("hello Ann"), "{good}");
    assert!(good.contains("x-request-id: mine-1\r\n"), "{good}");
    assert_headers(&good);
    assert_problem(&server.exchange(post("{}", "")).await, 422);
    assert_problem(&server.exchange(post("{", "")).await, 400);
    assert_problem(&server.exchange("GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await, 404);
    let wrong_method = server.exchange("PUT /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_problem(&wrong_method, 405);
    assert!(wrong_method.contains("allow: POST\r\n"), "{wrong_method}");
    assert_problem(&server.exchange("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await, 404);
    assert_problem(&server.exchange("CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await, 404);
    assert!(server.stop().await);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = start(patient()).await;
    let answer = server.exchange("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: 4\r\n"), "{answer}");
    let answer = server.exchange("HEAD /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_panic_ends_one_request_and_says_nothing() {
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "}").await;
    assert_problem(&answer, 500);
    assert!(!answer.contains("purpose"), "{answer}");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("root"));
}

#[tokio::test]
async fn s61_media_type_and_size_are_checked() {
    let server = start(patient()).await;
    let plain = "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_problem(&server.exchange(plain).await, 415);
    let none = "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_problem(&server.exchange(none).await, 422);
    let fits = format!("{{\"name\":\"{}\"}}", "x".repeat(64 * 1024 - 11));
    assert!(server.exchange(post(&fits, "")).await.starts_with("HTTP/1.1 200 "));
    let declared = post(&"x".repeat(64 * 1024 + 1), "");
    assert_problem(&server.exchange(&declared).await, 413);
    let absurd = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n";
    assert_problem(&server.exchange(absurd).await, 413);
    let mut chunked =
        "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_owned();
    chunked.push_str(&format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(40));
    chunked.push_str("0\r\n\r\n");
    assert_problem(&server.exchange(&chunked).await, 413);
}

#[tokio::test]
async fn s68_ambiguous_framing_is_refused_and_nothing_after_it_is_read() {
    let server = start(patient()).await;
    let smuggled = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4, 4\r\n",
        "X: y\r\n Content-Length: 4\r\n",
        "X: y\r\n\tfolded\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Content-Length : 4\r\n",
        "Content-Length: 4\n",
        "X: y\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\ntransfer-encoding: chunked\r\n",
        "X: y\r\n\n",
    ] {
        let head = format!("POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}");
        let answer = server.exchange(format!("{head}\r\n0\r\n\r\n{smuggled}")).await;
        assert_problem(&answer, 400);
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing:?}: {answer}");
    }
    let bare = server.exchange("GET / HTTP/1.1\nHost: x\n\n").await;
    assert_problem(&bare, 400);
}

#[tokio::test]
async fn s68_a_chunked_request_is_the_last_of_its_connection() {
    let server = start(patient()).await;
    let chunked = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                   e\r\n{\"name\":\"Ann\"}\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = server.exchange(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello Ann"), "{answer}");
}

#[tokio::test]
async fn requests_on_one_connection_are_told_apart() {
    let server = start(patient()).await;
    let one = post("{\"name\":\"Ann\"}", "").replace("Connection: close\r\n", "");
    let two = "\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(format!("{one}{one}{two}")).await;
    assert_eq!(answer.matches("hello Ann").count(), 2, "{answer}");
    assert!(answer.ends_with("root"), "{answer}");
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let server = start(patient()).await;
    let answer = server.exchange(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000))).await;
    assert_problem(&answer, 431);
}

#[tokio::test]
async fn r06_slow_heads_and_slow_bodies_are_dropped_at_their_deadline() {
    let soon = Duration::from_millis(100);
    let server = start(ServerSettings { header_timeout: soon, request_timeout: soon, ..patient() }).await;
    assert_eq!(server.exchange("GET / HTTP/1.1\r\nHost:").await, "");
    let body = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    let answer = server.exchange(body).await;
    assert_problem(&answer, 408);
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let stuck = server.exchange("GET /docs/stuck HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_problem(&stuck, 503);
    assert!(stuck.contains("retry-after: 1\r\n"), "{stuck}");
}

#[tokio::test]
async fn r06_a_peer_that_does_not_read_is_cut_off() {
    let soon = Duration::from_millis(100);
    let server = start(ServerSettings { max_connections: 1, request_timeout: soon, ..patient() }).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /docs/huge HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The only place is free again once the peer that does not read is cut off.
    let answer = server.exchange("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("root"), "{answer}");
    drop(deaf);
}

#[tokio::test]
async fn at_the_cap_new_connections_wait_for_a_place() {
    let server = start(ServerSettings { max_connections: 1, ..patient() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut first, "root").await;
    let mut second = server.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the cap");
    drop(first);
    assert!(read_to_end(&mut second).await.ends_with("root"));
}

#[tokio::test]
async fn r11_a_request_in_flight_is_answered_during_shutdown() {
    let server = start(patient()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut idle, "root").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /docs/slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // By then the request has long reached the slow handler, which answers long after.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    assert!(read_to_end(&mut busy).await.ends_with("late"));
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(within(stopping).await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn r11_what_outlives_the_deadline_is_cut_off() {
    let server = start(ServerSettings { shutdown_timeout: Duration::from_millis(50), ..patient() }).await;
    let mut stuck = server.connect().await;
    stuck.write_all(b"GET /docs/stuck HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!server.stop().await);
    assert_eq!(read_to_end(&mut stuck).await, "");
}

#[tokio::test]
async fn r11_a_stop_waits_for_no_peer_that_does_not_read() {
    let server = start(ServerSettings { request_timeout: Duration::from_hours(1), ..patient() }).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /docs/huge HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut deaf, "HTTP/1.1 200").await;
    assert!(server.stop().await, "it took the whole time for a stop");
    drop(deaf);
}

#[test]
fn an_error_that_nobody_rendered_still_has_its_status() {
    assert_eq!(ApiError::LastAdmin.into_response().status(), 409);
}

//! The accept loop: who may connect, how long a peer may take, and how the listener stops.
//!
//! `warp::serve` gives hyper no timer and has no connection cap, so this module has its own loop (R06). A connection
//! holds one permit while it lives. At the cap nothing is accepted, and new peers wait in the kernel's backlog.
//! A client with too many connections would hold up the others if it waited, so its new connection is closed instead.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::Request;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use warp::reply::Response;

use crate::http::edge::body::{BodyProgress, TrackedBody};
use crate::http::edge::connections::ConnectionCounts;
use crate::http::edge::cors::Cors;
use crate::http::edge::forwarded::UnlistedProxies;
use crate::http::edge::linger::LingeringStream;
use crate::http::edge::refusals::Refusals;
use crate::http::edge::requests::{RequestPlace, RequestPlaces};
use crate::http::edge::streams::{Busy, Offered, StreamTasks};
use crate::http::edge::tls::{self, Tls};
use crate::http::edge::{self, Arrival, EdgeSettings, Sampling};
use crate::http::routes::Table;
use crate::settings::HttpSettings;

/// The most bytes of a request line and its headers together. More is answered with 431. Our bearer tokens have under
/// 1 KiB, and browsers and proxies add at most a few more.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The largest read buffer of a connection: one full set of headers and as much of the body again. It grows on demand.
/// With the default of 8,192 connections this is 256 MiB if each of them sends as much as it may and then waits.
const MAX_BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;
/// The shortest time between two log lines that say that a client has too many connections.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);
/// The pause after the first accept error that concerns this process (out of descriptors or memory). It doubles up to
/// [`LONGEST_ACCEPT_PAUSE`], so that a full descriptor table does not cause a busy loop.
const FIRST_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause. A client's own retry usually survives one second of refused connections.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How many requests an HTTP/2 connection may have open at once. RFC 9113 §6.5.2 recommends at least 100, for pages
/// with many parts. Our pages have few, and each open request may cost a head and a body.
const MAX_STREAMS: u32 = 32;
/// How many bytes of all bodies of an HTTP/2 connection may wait unread: four of the largest.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How many bytes of one body may wait unread: one of the largest.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How many bytes of an answer may wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How many requests a peer may reset before they are accepted (CVE-2023-44487). More end the connection.
const MAX_PENDING_RESETS: usize = 20;
/// How many invalid requests a peer may send. More end the connection.
const MAX_ERROR_RESETS: usize = 128;
/// How often an HTTP/2 peer is pinged to see whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the peer may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer of an idle HTTP/2 connection may take to close it after GOAWAY.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a peer may read nothing of an answer once the server is stopping.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How many connections may wait to be accepted. The kernel limits it to `net.core.somaxconn`. With the usual 128,
/// a burst of a few milliseconds makes the next client wait a whole second until its kernel retries.
const BACKLOG: u32 = 4096;

/// Listens at this address. A process that has just ended may have used it before.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How long peers may take and how many connections there may be.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    /// The most connections at once, and the most HTTP/2 requests at once on all connections together.
    pub(crate) max_connections: usize,
    /// The most connections of one client at once, and its most HTTP/2 requests. Does not limit trusted proxies.
    pub(crate) max_connections_per_address: usize,
    /// How many leading bits of an IPv6 address identify one client.
    pub(crate) ipv6_prefix: u8,
    /// How long a peer may take for a complete request head, and before that for the TLS handshake. An idle keep-alive
    /// connection ends after the same time, because hyper starts the clock when it begins to wait.
    pub(crate) header_timeout: Duration,
    /// How long a request may take from its head to its answer. If the body is still arriving then, the answer is 408 and
    /// the connection closes. If a handler is still busy, the answer is 503 with `Retry-After`. A peer that reads nothing
    /// of its answer for this long is cut off: over HTTP/2 only from this answer.
    pub(crate) request_timeout: Duration,
    /// How long requests in flight may take to finish once the listener has stopped.
    pub(crate) shutdown_timeout: Duration,
    /// The certificate; `None` for plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// The settings of the edge.
    pub(crate) edge: EdgeSettings,
}

impl ServerSettings {
    /// Takes the settings from the operator.
    pub(crate) fn new(http: &HttpSettings, shutdown_timeout: Duration, tls: Option<Tls>, verify_sample: u64) -> Self {
        Self {
            max_connections: http.max_connections,
            max_connections_per_address: http.max_connections_per_address,
            ipv6_prefix: http.ipv6_prefix,
            header_timeout: http.header_timeout,
            request_timeout: http.request_timeout,
            shutdown_timeout,
            tls,
            edge: EdgeSettings {
                routes: Table::default(),
                trusted_proxies: http.trusted_proxies.clone(),
                unlisted_proxies: UnlistedProxies::default(),
                cors: Arc::new(ArcSwap::from_pointee(Cors::new(&http.cors_origins))),
                sampling: Sampling::new(verify_sample),
                refusals: Refusals::new(http.ipv6_prefix),
                figures: Arc::default(),
            },
        }
    }

    /// Returns settings for plain HTTP with this many connections from any client. Every deadline is `patience`.
    pub(crate) fn plain(max_connections: usize, patience: Duration) -> Self {
        Self {
            max_connections,
            max_connections_per_address: max_connections,
            ipv6_prefix: 64,
            header_timeout: patience,
            request_timeout: patience,
            shutdown_timeout: patience,
            tls: None,
            edge: EdgeSettings::default(),
        }
    }
}

/// Serves `routes` until `shutdown` resolves, then stops accepting and lets requests in flight finish.
///
/// Returns whether all connections ended by themselves within the shutdown timeout. The others were cut off.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    routes: S,
    settings: ServerSettings,
    shutdown: impl Future<Output = ()>,
) -> bool
where
    S: Service<Request<TrackedBody>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let permits = Arc::new(Semaphore::new(settings.max_connections));
    let counts = ConnectionCounts::new(settings.max_connections_per_address, settings.ipv6_prefix);
    let (stop, stopping) = watch::channel(false);
    let server = Server::new(routes, &settings, stopping);
    // These tasks end with this function.
    let mut upkeep = JoinSet::new();
    let refusals = settings.edge.refusals.clone();
    upkeep.spawn(refusals.clone().keep_count());
    if let Some(tls) = &settings.tls {
        upkeep.spawn(tls.clone().keep_fresh());
    }
    let mut connections = JoinSet::new();
    let mut complained: Option<Instant> = None;
    let mut shutdown = std::pin::pin!(shutdown);

    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { break };
        let peer = peer.ip().to_canonical();
        let is_proxy = server.edge.trusted_proxies.contains(peer);
        let counted = if is_proxy { None } else { counts.enter(peer) };
        if counted.is_none() && !is_proxy {
            let now = Instant::now();
            if complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY) {
                tracing::warn!(%peer, "a client has too many connections; its further ones are closed");
                complained = Some(now);
            }
            continue;
        }
        let server = server.clone();
        connections.spawn(async move {
            server.answer_on(stream, peer).await;
            drop((counted, permit));
        });
        // At most a few tasks have finished: each accept reaps all that ended since the last one.
        while connections.try_join_next().is_some() {}
    }

    // From here on new peers are refused instead of waiting.
    drop(listener);
    stop.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let drained = timeout(settings.shutdown_timeout, all_ended).await.is_ok();
    // These connections are past their deadline. Nothing may reach the actors after this.
    connections.shutdown().await;
    refusals.count();
    drained
}

/// What each connection is served with.
#[derive(Clone)]
struct Server<S> {
    routes: S,
    edge: Arc<EdgeSettings>,
    acceptor: Option<TlsAcceptor>,
    http1: http1::Builder,
    /// The places of HTTP/2 requests.
    requests: RequestPlaces,
    header_timeout: Duration,
    request_timeout: Duration,
    stopping: watch::Receiver<bool>,
}

impl<S> Server<S>
where
    S: Service<Request<TrackedBody>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    fn new(routes: S, settings: &ServerSettings, stopping: watch::Receiver<bool>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES)
            .keep_alive(true)
            // A client that closes its sending side after the request still gets its answer.
            .half_close(true);
        let by_client = ConnectionCounts::new(settings.max_connections_per_address, settings.ipv6_prefix);
        Self {
            routes,
            edge: Arc::new(settings.edge.clone()),
            acceptor: settings.tls.as_ref().map(Tls::acceptor),
            http1,
            requests: RequestPlaces::new(settings.max_connections, by_client),
            header_timeout: settings.header_timeout,
            request_timeout: settings.request_timeout,
            stopping,
        }
    }

    /// Serves one connection until it ends. Errors in here are the peer's: a malformed request, a reset, a head that took
    /// too long. They are not failures of the service.
    async fn answer_on(mut self, stream: TcpStream, peer: IpAddr) {
        let Some(acceptor) = self.acceptor.take() else { return self.http1(stream, peer, false).await };
        let mut stopping = self.stopping.clone();
        let handshake = tokio::select! {
            () = told(&mut stopping) => return,
            handshake = timeout(self.header_timeout, acceptor.accept(stream)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::H2) => self.http2(stream, peer).await,
            Ok(Ok(stream)) => self.http1(stream, peer, true).await,
            Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            Err(_) => tracing::debug!("the TLS handshake timed out"),
        }
    }

    /// Returns what the edge needs to know about the requests of a connection.
    fn arrival(&self, peer: IpAddr, tls: bool) -> Arrival {
        let progress = Arc::new(BodyProgress::default());
        let settings = Arc::clone(&self.edge);
        Arrival { settings, peer, tls, places: None, timeout: self.request_timeout, progress }
    }

    async fn http1<I>(mut self, stream: I, peer: IpAddr, tls: bool)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let arrival = self.arrival(peer, tls);
        let stream = LingeringStream::http1(stream, tls, Arc::clone(&arrival.progress), self.request_timeout);
        let writes = stream.writes();
        let routes = self.routes;
        let service = service_fn(move |request| edge::answer(routes.clone(), request, arrival.clone()));
        let mut connection = std::pin::pin!(self.http1.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = told(&mut self.stopping) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = writes.stalled_for(LAST_PATIENCE) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn http2<I>(mut self, stream: I, peer: IpAddr)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = LingeringStream::http2(stream, self.request_timeout);
        let tasks = StreamTasks::new(self.request_timeout);
        let busy = Busy::default();
        let (idle, unread) = (busy.idle_for(self.header_timeout), busy.clone());
        let places = self.requests.of_proxy(self.edge.trusted_proxies.contains(peer));
        let arrival = Arrival { places: Some(places), ..self.arrival(peer, true) };
        let routes = self.routes;
        let service = service_fn(move |request| {
            // Over HTTP/2 bodies arrive side by side, so each request needs its own progress.
            let arrival = Arrival { progress: Arc::new(BodyProgress::default()), ..arrival.clone() };
            let (routes, work) = (routes.clone(), busy.begin());
            async move {
                let Ok(mut response) = edge::answer(routes, request, arrival).await;
                let place = response.extensions_mut().remove::<Arc<RequestPlace>>();
                Ok::<_, Infallible>(response.map(|body| work.with(body, Offered::here(), place)))
            }
        });
        let mut http2 = http2::Builder::new(tasks.executor());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let mut connection = std::pin::pin!(http2.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = told(&mut self.stopping) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = unread.idle_for(LAST_PATIENCE) => Ok(()),
                }
            }
            () = idle => {
                connection.as_mut().graceful_shutdown();
                timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Resolves once the server has to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // The result holds a lock, so it is dropped at once.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// Accepts the next connection and returns it with its permit. Waits for the permit first, so that at the cap nothing is
/// accepted. Returns `None` only if the semaphore is closed, which never happens.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    let mut pause = FIRST_ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and complete. Waiting to fill a segment would only add latency.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return Some((stream, peer, permit));
            }
            Err(error) if is_about_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_secs_f64() * 1000.0, "connections cannot be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_ACCEPT_PAUSE);
            }
        }
    }
}

/// Whether an accept error concerns one connection that died in the backlog, not this process.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

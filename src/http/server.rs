//! The accept loop: who may connect, how long a peer may take, and how the listener stops.
//!
//! `warp::serve` gives hyper no timer and has no connection cap, so this module owns the loop (R06). A connection
//! costs one permit for as long as it lives; at the cap nothing is accepted and new peers wait in the kernel's
//! backlog. A client with too many connections is not left waiting, since it would hold up the others: it is cut off.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

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

use super::body::{BodyProgress, TrackedBody};
use super::connections::ConnectionCounts;
use super::cors::Cors;
use super::edge::{self, Arrival, EdgeSettings, Sampling};
use super::forwarded::UnlistedProxies;
use super::linger::LingeringStream;
use super::refusals::Refusals;
use super::requests::{RequestPlace, RequestPlaces};
use super::streams::{Busy, Offered, StreamTasks};
use super::tls::{self, Tls};
use crate::settings::HttpSettings;

/// The most bytes a request line and its headers may have together; more is answered with 431. A bearer token of ours
/// has under 1 KiB, and browsers and proxies add at most a few more.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The read buffer of a connection: one full set of headers and as much of the body again. It grows on demand; at the
/// default of 8,192 connections that is 256 MiB if every one of them sends as much as it may and then waits.
const MAX_BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;
/// How often the log says at most that a client has too many connections.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);
/// The pause after the first accept error that is about this process (out of descriptors or memory); it doubles up to
/// [`LONGEST_ACCEPT_PAUSE`], so that a full descriptor table is waited out instead of spun on.
const FIRST_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause: a second of refusing is about what a client's own retry bears.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How many requests an HTTP/2 connection may have open at once. RFC 9113 §6.5.2 recommends 100 at least, for pages of
/// many parts; ours have few, and each open request may cost a head and a body.
const MAX_STREAMS: u32 = 32;
/// How much of the bodies of an HTTP/2 connection may wait unread: four of the largest.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How much of one body may wait unread: all of the largest.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How much of an answer may wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How many requests a peer may take back before they are looked at (CVE-2023-44487); more end the connection.
const MAX_PENDING_RESETS: usize = 20;
/// How many broken requests a peer may send; more end the connection.
const MAX_ERROR_RESETS: usize = 128;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer of an idle HTTP/2 connection may take to agree to its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a peer may read nothing of an answer once the server stops.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn`. With the usual 128, a burst
/// of a few milliseconds makes the next client wait a whole second, after which its kernel asks again.
const BACKLOG: u32 = 4096;

/// A listener at this address, which may have been left a moment ago.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How long peers may take and how many there may be.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    /// The most connections at once, and the most requests of all those that speak HTTP/2.
    pub(crate) max_connections: usize,
    /// The most connections at once of one client, unless it is a trusted proxy, and its most requests over HTTP/2.
    pub(crate) max_connections_per_address: usize,
    /// How many leading bits of an IPv6 address name one client.
    pub(crate) ipv6_prefix: u8,
    /// How long a peer may take to send a complete request head, and before it to agree on the encryption. Idle
    /// keep-alive connections end after the same time, because hyper starts the clock when it begins to wait.
    pub(crate) header_timeout: Duration,
    /// How long a request may take from its head to its answer: a body that is still arriving then is answered with
    /// 408 and the connection closes, a handler that is still busy with 503 and `Retry-After`. A peer that reads
    /// nothing of its answer for as long is cut off, over HTTP/2 from this answer alone.
    pub(crate) request_timeout: Duration,
    /// How long requests in flight may take to finish once the listener has stopped.
    pub(crate) shutdown_timeout: Duration,
    /// The certificate; `None` for plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// What the edge is told.
    pub(crate) edge: EdgeSettings,
}

impl ServerSettings {
    /// As the operator says.
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
                trusted_proxies: http.trusted_proxies.clone(),
                unlisted_proxies: UnlistedProxies::default(),
                cors: Cors::new(&http.cors_origins),
                sampling: Sampling::new(verify_sample),
                refusals: Refusals::new(http.ipv6_prefix),
            },
        }
    }

    /// Plain HTTP for so many connections from anywhere, each deadline the same.
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
/// Returns whether all connections ended by themselves within the shutdown timeout; the rest were cut off.
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
    // Ends with this function.
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
                tracing::warn!(%peer, "connections are closed: one client has too many");
                complained = Some(now);
            }
            continue;
        }
        let server = server.clone();
        connections.spawn(async move {
            server.answer_on(stream, peer).await;
            drop((counted, permit));
        });
        // Finished tasks are few: each accept reaps all that ended since the last.
        while connections.try_join_next().is_some() {}
    }

    // From here on new peers are refused, not left waiting.
    drop(listener);
    stop.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let drained = timeout(settings.shutdown_timeout, all_ended).await.is_ok();
    // What is left is past its deadline; nothing may reach the actors after this.
    connections.shutdown().await;
    refusals.count();
    drained
}

/// What every connection is served with.
#[derive(Clone)]
struct Server<S> {
    routes: S,
    edge: Arc<EdgeSettings>,
    acceptor: Option<TlsAcceptor>,
    http1: http1::Builder,
    /// Those of HTTP/2.
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

    /// Serves one connection to its end. Errors in here are the peer's: a broken request, a reset, a head that took too
    /// long. Nothing of ours failed.
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
            Ok(Err(error)) => tracing::debug!(%error, "no agreement on the encryption"),
            Err(_) => tracing::debug!("no agreement on the encryption in time"),
        }
    }

    /// What the edge knows of the requests of a connection.
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
            tracing::debug!(%error, "connection ended early");
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
            // Each request has a body of its own on the way.
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
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Resolves once the server is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // What it gives back is a lock, which nobody may hold on to.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// The next connection, with its permit. Waits for a permit first, so that at the cap nothing is accepted. `None` never
/// comes while the semaphore is open, and nobody closes it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    let mut pause = FIRST_ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and complete: waiting to fill a segment only adds latency.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                return Some((stream, peer, permit));
            }
            Err(error) if is_about_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_secs_f64() * 1000.0, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_ACCEPT_PAUSE);
            }
        }
    }
}

/// Whether an accept error is about one connection that died in the backlog, not about this process.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

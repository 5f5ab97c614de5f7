//! The accept loop: who may connect, how long a peer may take, and how the listener stops.
//!
//! `warp::serve` gives hyper no timer and has no connection cap, so this module owns the loop (R06). A connection
//! costs one permit for as long as it lives; at the cap nothing is accepted and new peers wait in the kernel's
//! backlog.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use warp::reply::Response;

use super::body::{BodyProgress, TrackedBody};
use super::edge;
use super::linger::LingeringStream;

/// The most bytes a request line and its headers may have together; more is answered with 431. A bearer token of ours
/// has under 1 KiB, and browsers and proxies add at most a few more.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The read buffer of a connection: one full set of headers and as much of the body again. It grows on demand; at the
/// default of 8,192 connections that is 256 MiB if every one of them sends as much as it may and then waits.
const MAX_BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;
/// The pause after the first accept error that is about this process (out of descriptors or memory); it doubles up to
/// [`LONGEST_ACCEPT_PAUSE`], so that a full descriptor table is waited out instead of spun on.
const FIRST_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause: a second of refusing is about what a client's own retry bears.
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long peers may take and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerSettings {
    /// The most connections at once.
    pub(crate) max_connections: usize,
    /// How long a peer may take to send a complete request head. Idle keep-alive connections end after the same time,
    /// because hyper starts the clock when it begins to wait.
    pub(crate) header_timeout: Duration,
    /// How long a request may take from its head to its answer: a body that is still arriving then is answered with
    /// 408 and the connection closes, a handler that is still busy with 503 and `Retry-After`. A peer that reads
    /// nothing of its answer for as long is cut off.
    pub(crate) request_timeout: Duration,
    /// How long requests in flight may take to finish once the listener has stopped.
    pub(crate) shutdown_timeout: Duration,
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
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .keep_alive(true)
        // A client that closes its sending side after the request still gets its answer.
        .half_close(true);
    let permits = Arc::new(Semaphore::new(settings.max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);

    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { break };
        let progress = Arc::new(BodyProgress::default());
        let io = TokioIo::new(LingeringStream::new(stream, Arc::clone(&progress), settings.request_timeout));
        let routes = routes.clone();
        let timeout = settings.request_timeout;
        let address = peer.ip().to_canonical();
        let service = service_fn(move |request| {
            edge::answer(routes.clone(), request, edge::Arrival { address, timeout, progress: Arc::clone(&progress) })
        });
        let connection = graceful.watch(http.serve_connection(io, service));
        connections.spawn(async move {
            // Errors here are the peer's: a broken request, a reset, a head that took too long. Nothing of ours failed.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
        // Finished tasks are few: each accept reaps all that ended since the last.
        while connections.try_join_next().is_some() {}
    }

    // From here on new peers are refused, not left waiting.
    drop(listener);
    let drained = tokio::time::timeout(settings.shutdown_timeout, graceful.shutdown()).await.is_ok();
    // What is left is past its deadline; nothing may reach the actors after this.
    connections.shutdown().await;
    drained
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
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
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

//! A socket that lets a client read why its upload was refused, and does not wait forever for a client that does not read.
//!
//! hyper bounds how long a peer may take to send, but not how long it may take to read. Here, a write that makes no
//! progress within its time ends the connection.
//!
//! If a socket with unread input is closed, the kernel sends a reset, and the peer may lose the 413 that was already on
//! its way. So if a request's body was left unread, the sending side is closed first. Input that still arrives is
//! discarded, for a bounded time and amount (RFC 9112 §9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::http::edge::body::BodyProgress;
use crate::http::edge::framing::FramingGuard;
use crate::http::edge::unreadable;

/// How long a peer may take to notice: a few round trips across the world.
const LINGER: Duration = Duration::from_secs(1);
/// How much is discarded at most: four times the largest allowed body.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;

/// A stream, encrypted or not, that checks its input for ambiguous framing. Its shutdown lingers if its last request left
/// input unread.
#[derive(Debug)]
pub(in crate::http) struct LingeringStream<I> {
    stream: I,
    /// `None` for HTTP/2, whose requests are framed by the protocol.
    framing: Option<FramingGuard>,
    /// Whether the stream is encrypted.
    tls: bool,
    /// The answer that is sent in place of one of hyper's own, and how many bytes of it have been sent.
    instead: Option<(Vec<u8>, usize)>,
    progress: Arc<BodyProgress>,
    lingering: Option<Pin<Box<Sleep>>>,
    discarded: usize,
    /// How long a write may make no progress.
    patience: Duration,
    /// Runs while a write waits for the peer to read.
    stalled: Option<Pin<Box<Sleep>>>,
    writes: WriteProgress,
}

/// The progress of the writes to a stream, readable without owning the stream.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct WriteProgress(Arc<AtomicU64>);

impl WriteProgress {
    /// Resolves once the same write has waited for `patience`. It checks about as often, so it may take twice as long.
    pub(in crate::http) async fn stalled_for(&self, patience: Duration) {
        let mut before = 0;
        loop {
            let write = self.0.load(Ordering::Relaxed);
            if write % 2 == 1 && write == before {
                return;
            }
            before = write;
            tokio::time::sleep(patience).await;
        }
    }

    /// Notes whether a write waits. The number is odd while one does, and the next even number means that none does.
    fn note(&self, waits: bool) {
        let write = self.0.load(Ordering::Relaxed);
        if (write % 2 == 1) != waits {
            self.0.store(write + 1, Ordering::Relaxed);
        }
    }
}

impl<I> LingeringStream<I> {
    /// Creates an HTTP/1 stream, whose writes fail after `patience` without progress.
    pub(in crate::http) fn http1(stream: I, tls: bool, progress: Arc<BodyProgress>, patience: Duration) -> Self {
        Self { framing: Some(FramingGuard::default()), tls, ..Self::new(stream, progress, patience) }
    }

    /// Creates an HTTP/2 stream. It never lingers, because HTTP/2 can refuse one request without ending the others.
    pub(in crate::http) fn http2(stream: I, patience: Duration) -> Self {
        Self { tls: true, ..Self::new(stream, Arc::default(), patience) }
    }

    /// Returns the progress of its writes.
    pub(in crate::http) fn writes(&self) -> WriteProgress {
        self.writes.clone()
    }

    fn new(stream: I, progress: Arc<BodyProgress>, patience: Duration) -> Self {
        Self {
            stream,
            framing: None,
            tls: false,
            instead: None,
            progress,
            lingering: None,
            discarded: 0,
            patience,
            stalled: None,
            writes: WriteProgress::default(),
        }
    }

    /// Returns the result of a write, or an error if the peer has read nothing for too long.
    fn unless_stalled<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.writes.note(written.is_pending());
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
    }
}

impl<I: AsyncWrite + Unpin> LingeringStream<I> {
    /// Whether another answer is sent instead of these bytes, since this or an earlier attempt to write them.
    fn is_replaced(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none() && self.framing.is_some() {
            self.instead = unreadable::instead_of(bytes, self.tls).map(|answer| (answer, 0));
        }
        self.instead.is_some()
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, sent)) = &mut self.instead {
            if *sent == answer.len() {
                self.instead = None;
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &answer[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *sent += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for LingeringStream<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(framing) = &mut self.framing {
            framing.inspect(&mut buffer.filled_mut()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = if self.is_replaced(bytes) {
            self.poll_instead(cx).map_ok(|()| bytes.len())
        } else {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        };
        self.unless_stalled(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper writes its own answers in one piece.
        let alone = slices.iter().filter(|slice| !slice.is_empty()).count() == 1;
        if alone && let Some(bytes) = slices.iter().find(|slice| !slice.is_empty()) {
            return self.poll_write(cx, bytes);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS buffers writes, so a peer that does not read is only noticed here.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_stalled(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.unless_stalled(cx, shut))?;
            if !self.progress.is_incomplete() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let this = &mut *self;
        let over = this.lingering.as_mut().is_none_or(|until| until.as_mut().poll(cx).is_ready());
        let mut scratch = [0; 4096];
        while !over && this.discarded < MAX_DISCARDED_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => this.discarded += buffer.filled().len(),
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

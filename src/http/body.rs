//! The request body as it arrives, watched: how far it came decides what a timeout means and how a connection ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

const COMPLETE: u8 = 0;
const UNREAD: u8 = 1;
const ARRIVING: u8 = 2;

/// How far the body of a request came. HTTP/1 answers one request at a time, so there is one for each connection, which
/// tells how the connection may end; with HTTP/2 there is one for each request.
#[derive(Debug, Default)]
pub(crate) struct BodyProgress(AtomicU8);

impl BodyProgress {
    /// Whether somebody waits for more of the body.
    pub(super) fn is_arriving(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ARRIVING
    }

    /// Whether the peer may still be sending a body that nobody will read.
    pub(super) fn is_incomplete(&self) -> bool {
        self.0.load(Ordering::Relaxed) != COMPLETE
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// A request body that notes its progress.
#[derive(Debug)]
pub(crate) struct TrackedBody {
    inner: Incoming,
    progress: Arc<BodyProgress>,
}

impl TrackedBody {
    /// Watches a body; what the connection's last request left in `progress` is forgotten.
    pub(super) fn new(inner: Incoming, progress: Arc<BodyProgress>) -> Self {
        progress.set(if inner.is_end_stream() { COMPLETE } else { UNREAD });
        Self { inner, progress }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let over = matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream();
        self.progress.set(if over { COMPLETE } else { ARRIVING });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

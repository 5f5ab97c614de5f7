//! Watches how a request body arrives. Its progress decides what a timeout means and how a connection ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

const COMPLETE: u8 = 0;
const UNREAD: u8 = 1;
const ARRIVING: u8 = 2;

/// How far the body of a request has arrived. HTTP/1 answers one request at a time, so a connection has one of these, and it tells
/// how the connection may end. With HTTP/2 each request has its own.
#[derive(Debug, Default)]
pub(crate) struct BodyProgress(AtomicU8);

impl BodyProgress {
    /// Whether a handler waits for more of the body.
    pub(in crate::http) fn is_arriving(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ARRIVING
    }

    /// Whether the peer may still be sending a body that nobody will read.
    pub(in crate::http) fn is_incomplete(&self) -> bool {
        self.0.load(Ordering::Relaxed) != COMPLETE
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }
}

/// A request body that records its progress.
#[derive(Debug)]
pub(crate) struct TrackedBody {
    inner: Incoming,
    progress: Arc<BodyProgress>,
}

impl TrackedBody {
    /// Watches a body. `progress` is reset, because it still has the state of the connection's previous request.
    pub(in crate::http) fn new(inner: Incoming, progress: Arc<BodyProgress>) -> Self {
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

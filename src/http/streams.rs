//! The requests of one HTTP/2 connection: the tasks that answer them, and whether any of them is at work.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The tasks of a connection. They end with it: dropping this cuts off what is left, as with HTTP/1.
#[derive(Debug, Default)]
pub(super) struct StreamTasks(TaskExecutor);

/// Where hyper puts the tasks.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskExecutor(Arc<Mutex<JoinSet<()>>>);

impl StreamTasks {
    pub(super) fn executor(&self) -> TaskExecutor {
        self.0.clone()
    }
}

impl Drop for StreamTasks {
    fn drop(&mut self) {
        self.0.lock().abort_all();
    }
}

impl TaskExecutor {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        let mut tasks = self.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// How many requests of a connection we are at work on. One whose answer waits for the peer to read on does not count:
/// otherwise a peer could hold a connection for ever by reading nothing.
#[derive(Debug)]
pub(super) struct Busy(Arc<watch::Sender<usize>>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Busy {
    /// A request begins.
    pub(super) fn begin(&self) -> Work {
        let mut work = Work { busy: Arc::clone(&self.0), counted: false };
        work.count(true);
        work
    }

    /// Resolves once nothing has been at work for so long, from now on.
    pub(super) fn idle_for(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
        let mut count = self.0.subscribe();
        async move {
            loop {
                let at_work = *count.borrow_and_update() > 0;
                let changed = count.changed();
                let changed = if at_work { Ok(changed.await) } else { timeout(patience, changed).await };
                if !matches!(changed, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

/// The work on one request, over when this is dropped.
#[derive(Debug)]
pub(super) struct Work {
    busy: Arc<watch::Sender<usize>>,
    counted: bool,
}

impl Work {
    fn count(&mut self, counted: bool) {
        match (self.counted, counted) {
            (false, true) => self.busy.send_modify(|count| *count += 1),
            (true, false) => self.busy.send_modify(|count| *count -= 1),
            _ => {}
        }
        self.counted = counted;
    }

    /// Goes on while this body is sent.
    pub(super) fn with<B>(self, body: B) -> WatchedBody<B> {
        WatchedBody { body, work: self }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.count(false);
    }
}

/// The body of an answer. Between two looks at it the peer's window is full.
#[derive(Debug)]
pub(super) struct WatchedBody<B> {
    body: B,
    work: Work,
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.work.count(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r06_a_connection_is_idle_while_nothing_is_at_work() {
        let busy = Busy::default();
        let mut idle = Box::pin(busy.idle_for(Duration::from_secs(10)));
        let work = busy.begin();
        assert!(timeout(Duration::from_hours(1), &mut idle).await.is_err(), "a request at work is not idle");
        drop(work);
        assert!(timeout(Duration::from_secs(9), &mut idle).await.is_err());
        drop(busy.begin());
        assert!(timeout(Duration::from_secs(9), &mut idle).await.is_err(), "the clock starts anew");
        assert!(timeout(Duration::from_secs(2), &mut idle).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn r06_an_answer_that_nobody_reads_is_not_work() {
        let busy = Busy::default();
        let mut idle = Box::pin(busy.idle_for(Duration::from_secs(10)));
        let mut body = busy.begin().with(http_body_util::Full::new(bytes::Bytes::from_static(b"x")));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(timeout(Duration::from_secs(11), idle).await.is_ok());
    }
}

//! The requests of one HTTP/2 connection: the tasks that answer them, whether any of them is being worked on, and whether
//! their answers are read.
//!
//! An HTTP/2 peer can hold back each answer separately, so activity on a connection says nothing about a single answer
//! (RFC 9113 §5.2). While the peer takes nothing, hyper requests no more of the body and waits forever. So each answer is
//! handed over in pieces, each with a time limit. When the limit is reached, the task that hands them over is dropped.
//! Then HTTP/2 resets the stream and discards what waited.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::http::edge::requests::RequestPlace;

/// The most bytes of an answer that are handed over at once: the size of a frame (RFC 9113 §4.2). A peer that reads less
/// than this within the time for a request is cut off.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// The answer of the stream that the current task serves.
    static OFFERED: Offered;
}

/// The tasks of a connection. They end with it: dropping this aborts those that are left, as with HTTP/1.
#[derive(Debug)]
pub(in crate::http) struct StreamTasks(TaskExecutor);

/// The executor on which hyper runs the tasks.
#[derive(Debug, Clone)]
pub(in crate::http) struct TaskExecutor {
    tasks: Arc<Mutex<JoinSet<()>>>,
    /// How long a piece of an answer may wait for its reader.
    patience: Duration,
}

impl StreamTasks {
    /// Creates an executor whose tasks wait at most this long for the readers of their answers.
    pub(in crate::http) fn new(patience: Duration) -> Self {
        Self(TaskExecutor { tasks: Arc::default(), patience })
    }

    pub(in crate::http) fn executor(&self) -> TaskExecutor {
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
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        let mut tasks = self.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(unless_unread(task, self.patience));
    }
}

/// Runs the task of a stream. Drops it once a piece of its answer has waited for `patience`.
async fn unless_unread(task: impl Future<Output = ()>, patience: Duration) {
    let offered = Offered::default();
    let mut task = pin!(OFFERED.scope(offered.clone(), task));
    let mut waiting: Option<(u64, Pin<Box<Sleep>>)> = None;
    std::future::poll_fn(|cx| {
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(piece) = offered.waiting() else {
            waiting = None;
            return Poll::Pending;
        };
        if waiting.as_ref().is_none_or(|(since, _)| *since != piece) {
            waiting = Some((piece, Box::pin(sleep(patience))));
        }
        let over = waiting.as_mut().is_some_and(|(_, until)| until.as_mut().poll(cx).is_ready());
        if over {
            tracing::debug!("an answer is cut off because its client does not read it");
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// The number of the piece that waits to be taken; 0 if none does.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Offered(Arc<AtomicU64>);

impl Offered {
    /// Returns the one of the current task.
    pub(in crate::http) fn here() -> Self {
        OFFERED.try_with(Clone::clone).unwrap_or_default()
    }

    fn waiting(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|piece| *piece != 0)
    }
}

/// How many requests of a connection are being worked on. A request whose answer waits for the peer does not count, because
/// otherwise a peer could hold a connection forever by reading nothing. But each piece that is read restarts the idle time.
#[derive(Debug, Clone)]
pub(in crate::http) struct Busy(Arc<watch::Sender<usize>>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Busy {
    /// Registers a request that begins.
    pub(in crate::http) fn begin(&self) -> Work {
        let mut work = Work { busy: Arc::clone(&self.0), counted: false };
        work.count(true);
        work
    }

    /// Resolves once nothing has been worked on for `patience`, counted from now.
    pub(in crate::http) fn idle_for(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
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

/// The work on one request. Dropping it ends the work.
#[derive(Debug)]
pub(in crate::http) struct Work {
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

    /// Notes that a piece of the answer was read, which restarts the idle time.
    fn goes_on(&self) {
        self.busy.send_modify(|_| {});
    }

    /// Keeps the work and the place of the request while this body is sent.
    pub(in crate::http) fn with<B>(
        self,
        body: B,
        offered: Offered,
        place: Option<Arc<RequestPlace>>,
    ) -> WatchedBody<B> {
        WatchedBody { body, rest: Bytes::new(), pieces: 0, offered, work: self, _place: place }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.count(false);
    }
}

/// The body of an answer. Between two polls of it the peer's window is full.
#[derive(Debug)]
pub(in crate::http) struct WatchedBody<B> {
    body: B,
    /// What the body produced and was not handed over yet.
    rest: Bytes,
    /// How many pieces were handed over.
    pieces: u64,
    offered: Offered,
    work: Work,
    _place: Option<Arc<RequestPlace>>,
}

/// Returns how many of `length` bytes to hand over next. hyper passes a piece to HTTP/2 as soon as one byte of it may be
/// sent. So the last byte goes alone: when it is taken, everything before it may be sent, too.
fn next_piece(length: usize) -> usize {
    if length <= 1 { length } else { PIECE.min(length - 1) }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        // A poll for the next piece means that the one before was taken.
        if this.offered.0.swap(0, Ordering::Relaxed) != 0 {
            this.work.goes_on();
        }
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            this.work.count(polled.is_pending());
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        this.pieces += 1;
        this.offered.0.store(this.pieces, Ordering::Relaxed);
        let piece = this.rest.split_to(next_piece(this.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use http_body_util::{BodyExt as _, Full};

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
        let mut body = busy.begin().with(Full::new(Bytes::from_static(b"x")), Offered::default(), None);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(idle.as_mut().poll(&mut cx).is_pending());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))));
        assert!(timeout(Duration::from_secs(11), idle).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn r06_a_connection_whose_answer_is_read_is_not_idle() {
        let busy = Busy::default();
        let mut idle = Box::pin(busy.idle_for(Duration::from_secs(10)));
        let whole = Bytes::from(vec![0; 5 * PIECE]);
        let mut body = busy.begin().with(Full::new(whole), Offered::default(), None);
        for _ in 0..5 {
            assert!(timeout(Duration::from_secs(9), &mut idle).await.is_err(), "slow, but not idle");
            body.frame().await.unwrap().unwrap();
        }
        assert!(timeout(Duration::from_secs(11), idle).await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_the_same_and_its_last_byte_goes_alone() {
        for length in [0, 1, 2, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let whole: Bytes = (0_u8..=250).cycle().take(length).collect();
            let mut body = Busy::default().begin().with(Full::new(whole.clone()), Offered::default(), None);
            assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
            let (mut read, mut pieces) = (Vec::new(), Vec::new());
            while let Some(piece) = body.frame().await {
                let piece = piece.unwrap().into_data().unwrap();
                read.extend_from_slice(&piece);
                pieces.push(piece.len());
                assert_eq!(body.is_end_stream(), read.len() == length);
                assert_eq!(body.size_hint().exact(), Some((length - read.len()) as u64));
            }
            assert_eq!(read, whole);
            assert!(pieces.iter().all(|piece| *piece <= PIECE), "{pieces:?}");
            assert!(length == 0 || pieces.last() == Some(&1), "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r06_a_task_lives_as_long_as_its_answer_is_read() {
        let patience = Duration::from_secs(10);
        // One reader takes a piece every nine seconds. The other takes two and no more.
        for (taken, finishes) in [(5, true), (2, false)] {
            let finished = Arc::new(AtomicU64::new(0));
            let task = async {
                let whole = Bytes::from(vec![0; 3 * PIECE]);
                let mut body = Busy::default().begin().with(Full::new(whole), Offered::here(), None);
                for _ in 0..taken {
                    let _ = body.frame().await;
                    sleep(Duration::from_secs(9)).await;
                }
                if !finishes {
                    std::future::pending::<()>().await;
                }
                finished.store(1, Ordering::Relaxed);
            };
            assert!(timeout(Duration::from_mins(1), unless_unread(task, patience)).await.is_ok());
            assert_eq!(finished.load(Ordering::Relaxed) == 1, finishes);
        }
        // Where there is nothing to read, no reader is late.
        let quiet = async {
            let body = http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, ()>>());
            let _ = Busy::default().begin().with(body, Offered::here(), None).frame().await;
        };
        assert!(timeout(Duration::from_hours(1), unless_unread(quiet, patience)).await.is_err());
    }
}

//! Answers that are produced piece by piece, as fast as they are read. The producer waits until there is room for the
//! next piece, and stops if the reader may no longer read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, watch};

/// How long a piece may wait to be read. A piece has at most some 150 KB, so a reader slower than 500 bytes a second loses
/// its place to others.
const PATIENCE: Duration = Duration::from_mins(5);

/// A piece of a body. An error aborts the answer, so that a part of it is not mistaken for the whole.
pub(in crate::http) type Piece = Result<Bytes, io::Error>;

/// Nobody reads any more, or the reader may no longer read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Over;

/// Accepts the pieces of one answer. Dropping it aborts a file that was not finished, and ends a stream of events.
#[derive(Debug)]
pub(in crate::http) struct Pieces {
    sender: mpsc::Sender<Piece>,
    /// True if the answer may end here.
    whole: Arc<AtomicBool>,
    /// True once the listener stops. `None` for an answer that may go on until the deadline of the shutdown.
    ending: Option<watch::Receiver<bool>>,
}

/// Returns a file. It is complete once it is finished. At a shutdown it has as much time as any request in flight.
pub(in crate::http) fn file() -> (Pieces, impl Stream<Item = Piece> + Send + Sync + 'static) {
    answer(false, None)
}

/// Returns a stream of events without end. It may end at any event, and ends at a shutdown.
pub(in crate::http) fn events(
    ending: watch::Receiver<bool>,
) -> (Pieces, impl Stream<Item = Piece> + Send + Sync + 'static) {
    answer(true, Some(ending))
}

fn answer(
    whole: bool,
    ending: Option<watch::Receiver<bool>>,
) -> (Pieces, impl Stream<Item = Piece> + Send + Sync + 'static) {
    // One piece waits while the next is produced, and none is produced before there is room. So slow readers slow the producer.
    let (sender, mut pieces) = mpsc::channel(1);
    let whole = Arc::new(AtomicBool::new(whole));
    let mut is_whole = Some(Arc::clone(&whole));
    let body = futures_util::stream::poll_fn(move |cx| match pieces.poll_recv(cx) {
        // The error is returned once. After it the body has ended.
        Poll::Ready(None) => Poll::Ready(
            is_whole
                .take()
                .filter(|whole| !whole.load(Ordering::Acquire))
                .map(|_| Err(io::Error::other("the answer broke off"))),
        ),
        polled => polled,
    });
    (Pieces { sender, whole, ending }, body)
}

impl Pieces {
    /// Waits for room and sends a piece. `barred` resolves when the reader may no longer read.
    pub(in crate::http) async fn send(&mut self, piece: Piece, barred: impl Future<Output = ()>) -> Result<(), Over> {
        let ending = async {
            match &mut self.ending {
                Some(ending) => drop(ending.wait_for(|ending| *ending).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ending => Err(Over),
            sent = self.sender.send(piece) => sent.map_err(|_| Over),
            () = barred => Err(Over),
            () = tokio::time::sleep(PATIENCE) => Err(Over),
        }
    }

    /// Resolves when nobody reads any more.
    pub(in crate::http) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether nobody reads any more.
    pub(in crate::http) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Marks the answer as complete.
    pub(in crate::http) fn finish(self) {
        self.whole.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::StreamExt as _;
    use tokio::time::{Instant, sleep};

    use super::*;

    const PIECE: Bytes = Bytes::from_static(b"x");

    #[tokio::test(start_paused = true)]
    async fn r11_who_waits_for_a_reader_waits_no_longer_than_there_is_a_reason_to() {
        let (stop, stopping) = watch::channel(false);
        let (mut events, unread) = events(stopping);
        assert_eq!(events.send(Ok(PIECE), pending()).await, Ok(()));
        let began = Instant::now();
        assert_eq!(events.send(Ok(PIECE), sleep(Duration::from_secs(20))).await, Err(Over), "its reader may not");
        assert_eq!(began.elapsed().as_secs(), 20);
        assert_eq!(events.send(Ok(PIECE), pending()).await, Err(Over), "nobody reads");
        assert_eq!(began.elapsed().as_secs(), 320);
        let stopped = async {
            sleep(Duration::from_secs(10)).await;
            stop.send_replace(true);
        };
        let (sent, ()) = tokio::join!(events.send(Ok(PIECE), pending()), stopped);
        assert_eq!(sent, Err(Over), "the listener stops");
        assert_eq!(began.elapsed().as_secs(), 330);
        drop(unread);
        assert!(events.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_not_finished_is_no_whole_one() {
        for finished in [true, false] {
            let (mut file, body) = file();
            file.send(Ok(PIECE), pending()).await.unwrap();
            if finished {
                file.finish();
            } else {
                drop(file);
            }
            let read: Vec<_> = body.map(|piece| piece.is_ok()).collect().await;
            assert_eq!(read, if finished { &[true][..] } else { &[true, false] });
        }
        let (_stop, stopping) = watch::channel(false);
        let (mut events, body) = events(stopping);
        events.send(Ok(PIECE), pending()).await.unwrap();
        drop(events);
        assert_eq!(body.map(|piece| piece.is_ok()).collect::<Vec<_>>().await, [true]);
    }
}

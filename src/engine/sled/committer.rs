//! The only writer: an OS thread that makes changes durable by group commit.
//!
//! The thread takes the queued changes and works out each of them against one [`Overlay`]. It applies all of them as one batch,
//! flushes, and answers only then. A group in which no change must be durable yet is not flushed; the next one that is flushed makes
//! it durable, as the engine's log keeps the order.
//!
//! One writer makes every change atomic without sled's transactions, whose lock is process-wide. One flush for a group is what makes
//! durable writes fast. One asynchronous flush for each change would deadlock the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use doorward_actors::store::engine::{Change, Fault, Verdict};
use doorward_actors::store::feed::{Begun, Feed};
use doorward_actors::store::overlay::Overlay;
use doorward_actors::store::{self, StoreFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Tree;
use super::export::Exports;
use super::figures::Figures;
use super::health::Health;
use super::lock::DirLock;
use super::recent::RecentRows;
use super::witness::Witness;

/// The maximum number of queued changes. A caller that finds the queue full waits for a free place, within its own deadline.
const QUEUE_CHANGES: usize = 1024;
/// The maximum number of changes in one group. Without a limit the first change of a group could wait for ever.
const GROUP_CHANGES: usize = 512;
/// The maximum size of a group's writes, in bytes: half a segment of the engine, far below its cache of 48 MiB.
const GROUP_BYTES: usize = 256 * 1024;

/// The number of timers into which a caller's deadline is divided; see `Committer::change`.
const PATIENCE_PARTS: u32 = 10;

/// Where to send the answer for a change, once the outcome of its group is known.
type Answer = oneshot::Sender<Result<(), StoreFailure>>;
/// A queued change. Its permit is its place in the queue; the writer releases it when it takes the change.
type Queued = (Change, Durable, Answer, OwnedSemaphorePermit);

/// When a change must be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// Before it is answered.
    Now,
    /// With the next group that has a change which must be.
    Soon,
}

/// The callers' side of the writer.
pub(super) struct Committer {
    /// `None` after `close`: the thread then ends when the queue is empty. The channel itself is unbounded. So no caller holds a
    /// sender while it waits for a free place, which would keep the thread from ending.
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<Thread>>,
    health: Arc<Health>,
    /// How long a caller waits for its change to be durable. A change that takes longer fails the store.
    deadline: Duration,
}

/// An error that fails the store.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the engine failed: {0}")]
    Engine(#[from] sled::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("its writer panicked")]
    Panic,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when the thread has released the engine.
    ended: mpsc::Receiver<()>,
}

impl Committer {
    /// Starts the writer thread.
    pub(super) fn start(writer: Writer, deadline: Duration) -> std::io::Result<Self> {
        let health = Arc::clone(&writer.health);
        let (queue, changes) = mpsc::channel();
        let (running, ended) = mpsc::channel();
        let handle = std::thread::Builder::new().name("store-committer".to_owned()).spawn(move || {
            writer.run(&changes);
            drop(running);
        })?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(QUEUE_CHANGES)),
            thread: Mutex::new(Some(Thread { handle, ended })),
            health,
            deadline,
        })
    }

    /// Makes a change durable, or returns why it failed. If the caller goes away, its change stays in the queue.
    pub(super) async fn change(&self, change: Change, durable: Durable) -> Result<(), StoreFailure> {
        self.health.check()?;
        let (answer, answered) = oneshot::channel();
        let made = async {
            self.enqueue(change, durable, answer).await?;
            // The writer drops a change unanswered only when the store has failed.
            answered.await.unwrap_or_else(|_| Err(self.health.fail("its writer is gone".to_owned())))
        };
        // This uses the runtime's clock, not the `Clock` port: no test needs to move it, and a paused clock would expire here at once.
        // The deadline is divided into several timers. If the process was frozen for longer than the deadline, only one of them expires.
        // So the store does not mistake the freeze for a slow disk and fail.
        let patience = async {
            for _ in 0..PATIENCE_PARTS {
                tokio::time::sleep(self.deadline / PATIENCE_PARTS).await;
            }
        };
        tokio::select! {
            biased;
            answer = made => answer,
            () = patience => Err(self.health.fail(format!("a write took longer than {:?}", self.deadline))),
        }
    }

    /// Returns how many changes wait in the queue.
    pub(super) fn waiting(&self) -> usize {
        QUEUE_CHANGES.saturating_sub(self.room.available_permits())
    }

    async fn enqueue(&self, change: Change, durable: Durable, answer: Answer) -> Result<(), StoreFailure> {
        let closed = || StoreFailure::permanent("it is closed");
        let place = Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())?;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or_else(closed)?.send((change, durable, answer, place)).map_err(|_| closed())
    }

    /// Refuses further changes, makes the queued ones durable and ends the thread. Blocks for at most the write deadline.
    /// If the writer is stuck in the engine, this leaves it behind and the store has failed.
    pub(super) fn close(&self) -> Result<(), StoreFailure> {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.room.close();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return self.health.check();
        };
        if let Err(RecvTimeoutError::Timeout) = thread.ended.recv_timeout(self.deadline) {
            return Err(self.health.fail(format!("its last write took longer than {:?}", self.deadline)));
        }
        if thread.handle.join().is_err() {
            return Err(self.health.fail(Broken::Panic.to_string()));
        }
        self.health.check()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // A caller that needs the error calls `close` itself. Each failure is logged where it is found.
        let _ = self.close();
    }
}

/// Runs one change, and keeps or discards its writes. The outer error fails the engine; the inner error fails only this change.
///
/// A panic is caught here. Its caller then gets the same answer as the rest of the group, with the reason, after the engine
/// has failed.
fn work_out(change: &mut Change, overlay: &mut Overlay<'_>) -> Result<Result<(), StoreFailure>, Broken> {
    match catch_unwind(AssertUnwindSafe(|| change(overlay))) {
        Ok(Ok(Verdict::Keep)) => {
            overlay.keep();
            Ok(Ok(()))
        }
        Ok(Ok(Verdict::Discard)) => {
            overlay.discard();
            Ok(Ok(()))
        }
        Ok(Err(Fault::Record(error))) => {
            tracing::error!(%error, "a change was not made");
            overlay.discard();
            Ok(Err(StoreFailure::permanent(error)))
        }
        Ok(Err(fault)) => Err(fault.into()),
        Err(_) => Err(Broken::Panic),
    }
}

/// The number of durable commits, and how many of them the witness file records.
pub(super) struct Progress {
    witness: Witness,
    commits: u64,
    noted: u64,
    /// When they were last noted. This is not the `Clock` port: it only decides when to write the file again.
    noted_at: Instant,
    every: Duration,
}

impl Progress {
    /// Starts with an engine that holds this many commits, all of them noted.
    pub(super) fn new(witness: Witness, commits: u64, every: Duration) -> Self {
        Self { witness, commits, noted: commits, noted_at: Instant::now(), every }
    }

    /// Returns how long to wait before the next note. `None` if there is no new commit to note.
    fn quiet(&self) -> Option<Duration> {
        (self.noted != self.commits).then(|| self.every.saturating_sub(self.noted_at.elapsed()))
    }

    /// Notes the number of durable commits. Commits do not depend on it: if it fails, a later note replaces it.
    fn note(&mut self) {
        if self.noted == self.commits {
            return;
        }
        if let Err(error) = self.witness.note(self.commits) {
            tracing::warn!(%error, "the number of commits could not be noted");
        }
        (self.noted, self.noted_at) = (self.commits, Instant::now());
    }
}

/// The thread's side. It owns the only way to write.
pub(super) struct Writer {
    pub(super) db: sled::Db,
    pub(super) health: Arc<Health>,
    /// The writer removes the rows that it changes from this cache.
    pub(super) recent: Arc<RecentRows>,
    /// The writer reports each durable commit to this feed.
    pub(super) feed: Arc<Feed>,
    /// The writer saves for these what it is about to change.
    pub(super) exports: Arc<Exports>,
    pub(super) progress: Progress,
    pub(super) figures: Arc<Figures>,
    /// Whether the last group was not flushed.
    pub(super) unflushed: bool,
    /// A stuck writer still has the directory open, so it holds the lock too. Last field: released after the engine.
    pub(super) _lock: Arc<DirLock>,
}

impl Writer {
    fn run(mut self, changes: &mpsc::Receiver<Queued>) {
        while let Some(first) = self.next(changes) {
            if self.health.has_failed() {
                // Dropping a change answers its caller; see `Committer::change`.
                continue;
            }
            let mut answers = Vec::new();
            let group = AssertUnwindSafe(|| self.commit(first, changes, &mut answers));
            let committed = match catch_unwind(group) {
                Ok(Ok(begun)) => Ok(begun),
                Ok(Err(broken)) => Err(self.health.fail(broken.to_string())),
                Err(_) => Err(self.health.fail(Broken::Panic.to_string())),
            };
            // If a caller's deadline expired meanwhile, the engine has failed, and no change of the group may be acknowledged.
            let committed = committed.and_then(|begun| self.health.check().map(|()| begun)).map(|begun| {
                if let Some(begun) = begun {
                    self.feed.finish(begun);
                }
            });
            // A refusal also waits for the flush, because it may depend on a change of the same group.
            for (answer, outcome) in answers {
                // The caller may have gone away; its change is made all the same.
                let _ = answer.send(committed.clone().and(outcome));
            }
        }
        // Groups that were not flushed are durable after an orderly stop too.
        if !self.health.has_failed()
            && let Err(error) = self.db.flush()
        {
            self.health.fail(error.to_string());
        }
        self.progress.note();
    }

    /// Waits for the next change; `None` after `close`. While it waits, it notes the number of commits when that is due.
    fn next(&mut self, changes: &mpsc::Receiver<Queued>) -> Option<Queued> {
        while let Some(quiet) = self.progress.quiet() {
            match changes.recv_timeout(quiet) {
                // A due note is also written when the queue is never empty.
                Ok(queued) if !quiet.is_zero() => return Some(queued),
                Err(RecvTimeoutError::Disconnected) => return None,
                Ok(queued) => {
                    self.progress.note();
                    return Some(queued);
                }
                Err(RecvTimeoutError::Timeout) => self.progress.note(),
            }
        }
        changes.recv().ok()
    }

    /// Makes a group of changes durable. Returns `None` if the group wrote nothing.
    fn commit(
        &mut self,
        first: Queued,
        changes: &mpsc::Receiver<Queued>,
        answers: &mut Vec<(Answer, Result<(), StoreFailure>)>,
    ) -> Result<Option<Begun>, Broken> {
        let start = Instant::now();
        let tree = Tree(&self.db);
        let mut overlay = Overlay::new(&tree);
        let (mut next, mut flushes) = (Some(first), false);
        while let Some((mut change, durable, answer, place)) = next {
            drop(place);
            flushes |= durable == Durable::Now;
            match work_out(&mut change, &mut overlay) {
                Ok(outcome) => answers.push((answer, outcome)),
                Err(broken) => {
                    answers.push((answer, Ok(())));
                    return Err(broken);
                }
            }
            let room = answers.len() < GROUP_CHANGES && overlay.bytes() < GROUP_BYTES;
            next = if room { changes.try_recv().ok() } else { None };
        }
        if overlay.bytes() == 0 && flushes && std::mem::take(&mut self.unflushed) {
            // An answer may depend on an earlier group that was not flushed.
            self.db.flush()?;
        }
        if overlay.bytes() == 0 {
            // The group only contains refusals or reads. What they depend on was made durable by an earlier group.
            return Ok(None);
        }
        // Only durable groups are counted: the witness must not know of one that a crash loses.
        let commits = self.progress.commits + u64::from(flushes);
        if flushes {
            store::note_commits(&mut overlay, commits)?;
            overlay.keep();
        }
        let writes = overlay.into_writes();
        let exports = Arc::clone(&self.exports);
        // Held until the group is durable, so that an export contains no group in part.
        let _held = exports.save(&tree, writes.keys().map(Vec::as_slice))?;
        // The feed and the cache must know of the change before anyone can read what it writes.
        let begun = self.feed.begin(writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        self.recent.change(writes.keys().map(Vec::as_slice));
        self.db.apply_batch(super::batch(&writes))?;
        self.recent.changed(writes.keys().map(Vec::as_slice));
        if flushes {
            // The writes, and those of the groups before that did not flush, are durable when this returns; see `sync`.
            self.db.flush()?;
            self.progress.commits = commits;
        }
        self.unflushed = !flushes;
        self.figures.committed(answers.len(), start.elapsed(), flushes);
        Ok(Some(begun))
    }
}

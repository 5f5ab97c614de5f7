//! The one writer: an OS thread that makes changes durable, many with one flush.
//!
//! The thread takes what waits in its channel, works out each change against one [`Overlay`], applies all of them as
//! one batch, flushes, and only then answers. Having one writer makes every change atomic without transactions
//! (whose lock would be process-wide), and one flush for a group is what makes durable writes fast: an asynchronous
//! flush per change deadlocks the engine.

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
use super::health::Health;
use super::lock::DirLock;
use super::recent::RecentRows;
use super::witness::Witness;

/// How many changes wait at most. A caller that finds the queue full waits for room within its own deadline.
const QUEUE_CHANGES: usize = 1024;
/// How many changes share a flush at most, so that the first of them is not kept waiting for ever.
const GROUP_CHANGES: usize = 512;
/// How much a group writes at most, in bytes: half a segment of the engine, far below the 48 MiB of its cache.
const GROUP_BYTES: usize = 256 * 1024;

/// In how many parts a caller waits for its change.
const PATIENCE_PARTS: u32 = 10;

/// Where the caller of a change is answered, once it is known whether the group it was in is durable.
type Answer = oneshot::Sender<Result<(), StoreFailure>>;
/// A change that waits, with the place in the queue that it gives back when it is taken out.
type Queued = (Change, Answer, OwnedSemaphorePermit);

/// The sending side of the writer.
pub(super) struct Committer {
    /// `None` once closed, which ends the thread when it has done what is queued. The channel has no bound of its own, so
    /// that nobody holds a sender while waiting for room: it would keep the thread from ending.
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<Thread>>,
    health: Arc<Health>,
    /// How long a caller waits for its change to be durable; more than that fails the store.
    deadline: Duration,
}

/// What fails the store.
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
    /// Disconnected when the thread has let go of the engine.
    ended: mpsc::Receiver<()>,
}

impl Committer {
    /// Starts a writer.
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

    /// Makes a change durable, or reports why not. A caller that goes away leaves its change in the queue.
    pub(super) async fn change(&self, change: Change) -> Result<(), StoreFailure> {
        self.health.check()?;
        let (answer, answered) = oneshot::channel();
        let made = async {
            self.enqueue(change, answer).await?;
            // The writer drops a change unanswered only when the store has failed.
            answered.await.unwrap_or_else(|_| Err(self.health.fail("its writer is gone".to_owned())))
        };
        // The runtime's clock, not the port: no test needs to move it, and a paused one would expire here at once. In parts, so
        // that a process which was frozen for longer finds one of them over, and not the disk too slow.
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

    async fn enqueue(&self, change: Change, answer: Answer) -> Result<(), StoreFailure> {
        let closed = || StoreFailure::permanent("it is closed");
        let place = Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())?;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or_else(closed)?.send((change, answer, place)).map_err(|_| closed())
    }

    /// Takes no more changes, makes the queued ones durable and ends the thread. Blocks for at most the deadline of a
    /// write; a writer that is stuck in the engine is left behind, and then the store has failed.
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
        // Whoever wants to know calls it before; a failure is logged where it is found.
        let _ = self.close();
    }
}

/// Runs one change: keeps what it wrote or forgets it. The outer error fails the engine, the inner one this change alone. A panic
/// is caught here, so that its caller is answered like those of the group, after the engine has failed and with the reason.
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

/// How many commits are durable, and how many of them are noted outside the engine.
pub(super) struct Progress {
    witness: Witness,
    commits: u64,
    noted: u64,
    /// When they were last noted. No clock of a port: it only says when to write a file again.
    noted_at: Instant,
    every: Duration,
}

impl Progress {
    /// The progress of an engine that holds this many commits, all of which are noted.
    pub(super) fn new(witness: Witness, commits: u64, every: Duration) -> Self {
        Self { witness, commits, noted: commits, noted_at: Instant::now(), every }
    }

    /// For how long there is nothing to note; `None` for as long as there is no commit.
    fn quiet(&self) -> Option<Duration> {
        (self.noted != self.commits).then(|| self.every.saturating_sub(self.noted_at.elapsed()))
    }

    /// Notes how many commits are durable. Commits do not depend on it: if it fails, the next one is noted.
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

/// The thread's side: owns the only way to write.
pub(super) struct Writer {
    pub(super) db: sled::Db,
    pub(super) health: Arc<Health>,
    /// What it changed is taken out of there.
    pub(super) recent: Arc<RecentRows>,
    /// Told of each commit once it is durable.
    pub(super) feed: Arc<Feed>,
    pub(super) progress: Progress,
    /// Held here too, as a stuck writer still has the directory open. The last field, so that it goes after the engine.
    pub(super) _lock: Arc<DirLock>,
}

impl Writer {
    fn run(mut self, changes: &mpsc::Receiver<Queued>) {
        while let Some(first) = self.next(changes) {
            if self.health.has_failed() {
                // Dropping a change tells its caller; see `Committer::change`.
                continue;
            }
            let mut answers = Vec::new();
            let group = AssertUnwindSafe(|| self.commit(first, changes, &mut answers));
            let committed = match catch_unwind(group) {
                Ok(Ok(begun)) => Ok(begun),
                Ok(Err(broken)) => Err(self.health.fail(broken.to_string())),
                Err(_) => Err(self.health.fail(Broken::Panic.to_string())),
            };
            // A caller gave up meanwhile and the engine is failed: nobody may be told that anything is done.
            let committed = committed.and_then(|begun| self.health.check().map(|()| begun)).map(|begun| {
                if let Some(begun) = begun {
                    self.feed.finish(begun);
                }
            });
            // A refusal too is answered after the flush: it may rest on a change of the same group.
            for (answer, outcome) in answers {
                // The caller may have given up; the change stands.
                let _ = answer.send(committed.clone().and(outcome));
            }
        }
        self.progress.note();
    }

    /// The next change, once there is one; `None` when there will be none. Meanwhile notes how many commits there were.
    fn next(&mut self, changes: &mpsc::Receiver<Queued>) -> Option<Queued> {
        while let Some(quiet) = self.progress.quiet() {
            match changes.recv_timeout(quiet) {
                // Even if there is always another change.
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

    /// Makes a group of changes durable; `None` if it wrote nothing.
    fn commit(
        &mut self,
        first: Queued,
        changes: &mpsc::Receiver<Queued>,
        answers: &mut Vec<(Answer, Result<(), StoreFailure>)>,
    ) -> Result<Option<Begun>, Broken> {
        let tree = Tree(&self.db);
        let mut overlay = Overlay::new(&tree);
        let mut next = Some(first);
        while let Some((mut change, answer, place)) = next {
            drop(place);
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
        if overlay.bytes() == 0 {
            // Whatever a refusal of this group rests on was made durable by a group before.
            return Ok(None);
        }
        let commits = self.progress.commits + 1;
        store::note_commits(&mut overlay, commits)?;
        overlay.keep();
        let writes = overlay.into_writes();
        // Before anybody can read what is written here.
        let begun = self.feed.begin(writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        self.recent.change(writes.keys().map(Vec::as_slice));
        self.db.apply_batch(super::batch(&writes))?;
        self.recent.changed(writes.keys().map(Vec::as_slice));
        // Durable when this returns; see `sync`.
        self.db.flush()?;
        self.progress.commits = commits;
        Ok(Some(begun))
    }
}

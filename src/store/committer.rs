//! The one writer: an OS thread that makes changes durable, many with one flush.
//!
//! The thread takes what waits in its channel, works out each change against one [`Staging`] view, applies all of them as
//! one batch, flushes, and only then answers. Having one writer makes every change atomic without transactions
//! (whose lock would be process-wide), and one flush for a group is what makes durable writes fast: an asynchronous
//! flush per change deadlocks the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use doorward_actors::ports::{StoreError, StoreFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::health::Health;
use super::lock::DirLock;
use super::recent::RecentAccounts;
use super::staging::{Abort, Fault, Staging};
use super::witness::Witness;
use super::{keys, reads};

/// How many changes wait at most. A caller that finds the queue full waits for room within its own deadline.
const QUEUE_CHANGES: usize = 1024;
/// How many changes share a flush at most, so that the first of them is not kept waiting for ever.
const GROUP_CHANGES: usize = 512;
/// How much a group writes at most, in bytes: half a segment of the engine, far below the 48 MiB of its cache.
const GROUP_BYTES: usize = 256 * 1024;

/// In how many parts a caller waits for its change.
const PATIENCE_PARTS: u32 = 10;

/// Answers the caller of a change, once it is known whether the group it was in is durable.
type Reply = Box<dyn FnOnce(Result<(), StoreFailure>) + Send>;
/// Works out a change and says how to answer. An error fails the store.
type Change = Box<dyn FnOnce(&mut Staging<'_>) -> (Reply, Result<(), Broken>) + Send>;
/// A change that waits, with the place in the queue that it gives back when it is taken out.
type Queued = (Change, OwnedSemaphorePermit);

/// The counter of a log, and where its newest durable number is told.
pub(super) type Head = (&'static [u8], watch::Sender<u64>);

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
    pub(super) async fn change<T, R>(
        &self,
        change: impl FnOnce(&mut Staging<'_>) -> Result<T, Abort<R>> + Send + 'static,
    ) -> Result<T, StoreError<R>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        self.health.check()?;
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |staging| work_out(change, staging, answer));
        let made = async {
            self.enqueue(change).await?;
            // The writer drops a change unanswered only when the store has failed.
            answered.await.unwrap_or_else(|_| Err(self.health.fail("its writer is gone".to_owned()).into()))
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
            () = patience => Err(self.health.fail(format!("a write took longer than {:?}", self.deadline)).into()),
        }
    }

    async fn enqueue(&self, change: Change) -> Result<(), StoreFailure> {
        let closed = || StoreFailure("it is closed".to_owned());
        let place = Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())?;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or_else(closed)?.send((change, place)).map_err(|_| closed())
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

/// Runs one change: keeps what it wrote or forgets it, and says how to answer its caller. A panic is caught here, so that
/// its caller is answered like those of the group, after the store has failed and with the reason.
fn work_out<T: Send + 'static, R: Send + 'static>(
    change: impl FnOnce(&mut Staging<'_>) -> Result<T, Abort<R>>,
    staging: &mut Staging<'_>,
    answer: oneshot::Sender<Result<T, StoreError<R>>>,
) -> (Reply, Result<(), Broken>) {
    let mut broken = Ok(());
    let outcome = match catch_unwind(AssertUnwindSafe(|| change(staging))) {
        Ok(Ok(value)) => {
            staging.keep();
            Ok(value)
        }
        Ok(Err(Abort::Refused(refusal))) => {
            staging.discard();
            Err(StoreError::Refused(refusal))
        }
        Ok(Err(Abort::Fault(fault))) => {
            staging.discard();
            let failure = StoreFailure(fault.to_string());
            match fault {
                Fault::Engine(error) => broken = Err(error.into()),
                Fault::Record(error) => tracing::error!(%error, "a change was not made"),
            }
            Err(failure.into())
        }
        Err(_) => {
            broken = Err(Broken::Panic);
            Err(StoreFailure(Broken::Panic.to_string()).into())
        }
    };
    let reply = Box::new(move |committed: Result<(), StoreFailure>| {
        // A refusal too is answered after the flush: it may rest on a change of the same group.
        let outcome = match committed {
            Ok(()) => outcome,
            Err(failure) => Err(failure.into()),
        };
        // The caller may have given up; the change stands.
        let _ = answer.send(outcome);
    });
    (reply, broken)
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
    pub(super) recent: Arc<RecentAccounts>,
    /// Told after each commit, for those who follow a log.
    pub(super) heads: [Head; 2],
    pub(super) progress: Progress,
    /// How much the audit log may take, in bytes.
    pub(super) audit_max_bytes: u64,
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
            let mut replies = Vec::new();
            let group = AssertUnwindSafe(|| self.commit(first, changes, &mut replies));
            let committed = match catch_unwind(group) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(broken)) => Err(self.health.fail(broken.to_string())),
                Err(_) => Err(self.health.fail(Broken::Panic.to_string())),
            };
            // A caller gave up meanwhile and the store is failed: nobody may be told that anything is done.
            let committed = committed.and_then(|()| self.health.check());
            if committed.is_ok() {
                self.tell_heads();
            }
            for reply in replies {
                reply(committed.clone());
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

    /// Tells how far each log goes now. A counter that cannot be read is found by whoever reads the log.
    fn tell_heads(&self) {
        for (counter, told) in &self.heads {
            if let Ok(last) = reads::counter(&self.db, counter) {
                told.send_if_modified(|head| std::mem::replace(head, last) != last);
            }
        }
    }

    fn commit(
        &mut self,
        first: Queued,
        changes: &mpsc::Receiver<Queued>,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Broken> {
        let mut staging = Staging::new(&self.db).with_audit_bound(self.audit_max_bytes);
        let mut next = Some(first);
        while let Some((change, place)) = next {
            drop(place);
            let (reply, broken) = change(&mut staging);
            replies.push(reply);
            broken?;
            let room = replies.len() < GROUP_CHANGES && staging.bytes() < GROUP_BYTES;
            next = if room { changes.try_recv().ok() } else { None };
        }
        if staging.bytes() == 0 {
            // Whatever a refusal of this group rests on was made durable by a group before.
            return Ok(());
        }
        let commits = self.progress.commits + 1;
        staging.put(keys::COMMITS, &commits)?;
        staging.keep();
        let accounts = staging.accounts();
        let Some(batch) = staging.into_batch() else { return Ok(()) };
        self.recent.change(&accounts);
        self.db.apply_batch(batch)?;
        self.recent.changed(&accounts);
        // Durable when this returns; see `sync`.
        self.db.flush()?;
        self.progress.commits = commits;
        Ok(())
    }
}

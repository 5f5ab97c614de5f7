//! The hashing threads: their queue, their jobs and their counters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::argon2id;
use super::backend::{HashBackend, Memory};
use super::judge::{Candidate, Judge, PasswordReport, Rejected};
use super::lanes::{LANES, Lane, Lanes};
use super::{Against, HasherSettings, Verdict, foreign};
use crate::ask::Unavailable;
use crate::domain::account::CredentialHash;
use crate::domain::hash_form::HashForm;
use crate::domain::secret::Secret;
use crate::health::{HasherHealth, LaneHealth};
use crate::ports::{BreachedPasswords, Clock, Entropy};

/// How long an idle thread keeps its memory block: far longer than an allocation takes, and short enough that an idle service
/// needs little memory.
const KEEP_MEMORY: Duration = Duration::from_secs(10);
/// The nice value of hashing threads; the async threads run at 0.
const NICE: i32 = 10;

pub(super) struct Pool {
    settings: HasherSettings,
    backend: HashBackend,
    judge: Judge,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// A hash of random bytes at today's cost. A login at an unknown address is compared with it, so that it takes as long as any
    /// other (S11).
    decoy: CredentialHash,
    queue: Mutex<Queue>,
    work: Condvar,
    busy: AtomicUsize,
    done: AtomicU64,
    failed: AtomicU64,
    lanes: [Counters; LANES],
}

/// The counters of one lane.
struct Counters {
    handled: AtomicU64,
    refused: AtomicU64,
    /// A moving average of the duration of its jobs, in microseconds.
    average_micros: AtomicU64,
}

struct Queue {
    lanes: Lanes<Job>,
    closed: bool,
}

struct Job {
    task: Task,
    /// The latest time to begin, on the monotonic clock.
    begin_by: Duration,
}

/// The channel for the outcome of a job.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Rejected>>;

/// The work for one place in the queue.
pub(super) enum Task {
    /// Hash some secrets. A candidate is judged first; if it is refused, no hash is computed.
    Hash { candidate: Option<Candidate>, secrets: Vec<Secret>, reply: Reply<Vec<CredentialHash>> },
    /// Judge a candidate and, if it is good enough, compare a secret with a hash, or with the decoy.
    Verify { candidate: Candidate, secret: Secret, against: Against, reply: Reply<Verdict> },
    /// Compare a password in use with its hash, or with the decoy, and look it up in the list of breached passwords.
    VerifyInUse { secret: Secret, against: Against, reply: Reply<Verdict> },
    /// Report how good a password is.
    Judge { candidate: Candidate, reply: Reply<PasswordReport> },
    /// Do nothing.
    #[cfg(feature = "testing")]
    Pass { reply: oneshot::Sender<()> },
    /// Panic.
    #[cfg(feature = "testing")]
    Panic { _reply: oneshot::Sender<()> },
}

impl Task {
    /// Returns whether nobody waits for the outcome any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Hash { reply, .. } => reply.is_closed(),
            Self::Verify { reply, .. } | Self::VerifyInUse { reply, .. } => reply.is_closed(),
            Self::Judge { reply, .. } => reply.is_closed(),
            #[cfg(feature = "testing")]
            Self::Pass { reply } | Self::Panic { _reply: reply } => reply.is_closed(),
        }
    }
}

/// The result of a job.
enum Done {
    /// It computed this many hashes, perhaps none.
    Hashed(usize),
    /// It could not be done.
    Failed,
}

impl Pool {
    /// Replaces the list of breached passwords.
    pub(super) fn replace_breached(&self, list: Option<Arc<dyn BreachedPasswords>>) {
        self.judge.replace_list(list);
    }

    /// `pace` is the duration of one hash, as far as it is known.
    pub(super) fn new(
        settings: HasherSettings,
        backend: HashBackend,
        judge: Judge,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        decoy: CredentialHash,
        pace: Duration,
    ) -> Self {
        let counters = || Counters {
            handled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            average_micros: AtomicU64::new(micros(pace)),
        };
        Self {
            queue: Mutex::new(Queue { lanes: Lanes::new(settings.queue), closed: false }),
            settings,
            backend,
            judge,
            clock,
            entropy,
            decoy,
            work: Condvar::new(),
            busy: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lanes: [counters(), counters()],
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self, lane: Lane) -> &Counters {
        &self.lanes[lane.index()]
    }

    /// Queues a job, or returns when to try again.
    pub(super) fn submit(&self, lane: Lane, task: Task) -> Result<(), Unavailable> {
        let begin_by = self.clock.monotonic() + self.settings.deadline;
        let mut queue = self.lock();
        let taken =
            !queue.closed && queue.lanes.push(lane, Job { task, begin_by }, |lane, job| self.wants(lane, job)).is_ok();
        drop(queue);
        if taken {
            self.work.notify_one();
            return Ok(());
        }
        self.counters(lane).refused.fetch_add(1, Ordering::Relaxed);
        Err(self.refusal(lane))
    }

    /// Returns whether a waiting job is still worth doing. Dropping a job tells its caller.
    fn wants(&self, lane: Lane, job: &Job) -> bool {
        if job.task.is_abandoned() {
            return false;
        }
        let in_time = self.clock.monotonic() <= job.begin_by;
        if !in_time {
            self.counters(lane).refused.fetch_add(1, Ordering::Relaxed);
        }
        in_time
    }

    /// Returns when the waiting jobs of this lane, and the jobs of the other lane in between, will be done at the current pace.
    pub(super) fn refusal(&self, lane: Lane) -> Unavailable {
        let ahead = self.lock().lanes.ahead(lane);
        let work = Lane::ALL.iter().zip(ahead).fold(0_u64, |work, (lane, jobs)| {
            let pace = self.counters(*lane).average_micros.load(Ordering::Relaxed);
            work.saturating_add(pace.saturating_mul(u64::try_from(jobs).unwrap_or(u64::MAX)))
        });
        let threads = u64::try_from(self.settings.threads.max(1)).unwrap_or(1);
        Unavailable { retry_after: Duration::from_micros(work / threads).max(Duration::from_secs(1)) }
    }

    /// Accepts no further jobs; the threads end when the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// Runs one thread until the pool is closed.
    pub(super) fn run(&self) {
        // Some containers forbid this; then the hashing threads have the same priority as the others.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "hashing threads keep normal priority");
        }
        let mut memory = Memory::new(self.backend);
        while let Some((lane, job)) = self.next(&mut memory) {
            self.busy.fetch_add(1, Ordering::Relaxed);
            let began = self.clock.monotonic();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.perform(job.task, &mut memory)));
            self.busy.fetch_sub(1, Ordering::Relaxed);
            match outcome {
                Ok(Done::Hashed(hashes)) => {
                    self.done.fetch_add(u64::try_from(hashes).unwrap_or(u64::MAX), Ordering::Relaxed);
                    self.counters(lane).handled.fetch_add(1, Ordering::Relaxed);
                    self.note_pace(lane, self.clock.monotonic().saturating_sub(began));
                }
                Ok(Done::Failed) | Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    // A panic may have left the memory half written; a new block takes only one allocation.
                    memory = Memory::new(self.backend);
                    tracing::error!("a password hash could not be computed");
                }
            }
        }
    }

    /// Returns the next job; `None` when the pool is closed and its queue is empty. Frees the memory while the thread is idle.
    fn next(&self, memory: &mut Memory) -> Option<(Lane, Job)> {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.lanes.pop(|lane, job| self.wants(lane, job)) {
                return Some(next);
            }
            if queue.closed {
                return None;
            }
            let waited = self.work.wait_timeout(queue, KEEP_MEMORY).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            if waited.1.timed_out() {
                *memory = Memory::new(self.backend);
            }
        }
    }

    fn perform(&self, task: Task, memory: &mut Memory) -> Done {
        match task {
            Task::Hash { candidate, secrets, reply } => {
                if let Some(Err(rejected)) = candidate.map(|candidate| self.judge.admit(&candidate)) {
                    return refuse(reply, rejected);
                }
                let hash = |secret: &Secret| {
                    argon2id::hash(secret.expose().as_bytes(), self.settings.cost, &*self.entropy, memory).ok()
                };
                answer(reply, secrets.iter().map(hash).collect(), secrets.len())
            }
            Task::Verify { candidate, secret, against, reply } => match self.judge.admit(&candidate) {
                Ok(()) => answer(reply, self.verify(&secret, &against, false, memory), 1),
                Err(rejected) => refuse(reply, rejected),
            },
            Task::VerifyInUse { secret, against, reply } => {
                // Looked up for every client and every outcome, so that the duration reveals nothing about the account (S11).
                let breached = self.judge.is_breached(&secret);
                answer(reply, self.verify(&secret, &against, breached, memory), 1)
            }
            Task::Judge { candidate, reply } => {
                let _ = reply.send(self.judge.report(&candidate));
                Done::Hashed(0)
            }
            #[cfg(feature = "testing")]
            Task::Pass { reply } => {
                let _ = reply.send(());
                Done::Hashed(0)
            }
            #[cfg(feature = "testing")]
            #[expect(clippy::panic, reason = "this is the injected fault")]
            Task::Panic { _reply } => panic!("injected into the hasher"),
        }
    }

    /// Computes the hash of a secret with the algorithm and cost of the other one. Always exactly one hash.
    fn verify(&self, secret: &Secret, against: &Against, breached: bool, memory: &mut Memory) -> Option<Verdict> {
        let secret = secret.expose().as_bytes();
        let (hash, nobodys) = match against {
            Against::Hash(hash) => (hash, false),
            Against::Nobodys(None) => (&self.decoy, true),
            Against::Nobodys(Some(form)) => (&foreign::decoy(form), true),
        };
        let (matches, outdated) = if HashForm::of(hash).is_some() {
            (foreign::verify(secret, hash)?, true)
        } else {
            let found = argon2id::verify(secret, hash, self.settings.cost, memory)?;
            (found.matches, found.outdated)
        };
        Some(Verdict { matches: matches && !nobodys, outdated, breached })
    }

    fn note_pace(&self, lane: Lane, took: Duration) {
        let average = &self.counters(lane).average_micros;
        // Two threads may overwrite each other's sample; the value is still an average of samples.
        let mixed = (average.load(Ordering::Relaxed).saturating_mul(7).saturating_add(micros(took))) / 8;
        average.store(mixed, Ordering::Relaxed);
    }

    pub(super) fn health(&self) -> HasherHealth {
        let queue = self.lock();
        let queued = Lane::ALL.map(|lane| queue.lanes.len(lane));
        drop(queue);
        let lanes = Lane::ALL.map(|lane| LaneHealth {
            name: lane.as_str(),
            queued: queued[lane.index()],
            capacity: self.settings.queue,
            handled: self.counters(lane).handled.load(Ordering::Relaxed),
            refused: self.counters(lane).refused.load(Ordering::Relaxed),
        });
        HasherHealth {
            backend: self.backend.name(),
            threads: self.settings.threads.max(1),
            busy: self.busy.load(Ordering::Relaxed),
            queued: queued.iter().sum(),
            capacity: self.settings.queue.saturating_mul(LANES),
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: lanes.iter().map(|lane| lane.refused).sum(),
            lanes,
            breached_list_readable: self.judge.list_is_readable(),
        }
    }
}

/// Sends an outcome, if there is one, to the caller if it still waits.
fn answer<T>(reply: Reply<T>, outcome: Option<T>, hashes: usize) -> Done {
    match outcome {
        Some(outcome) => {
            let _ = reply.send(Ok(outcome));
            Done::Hashed(hashes)
        }
        None => Done::Failed,
    }
}

/// Tells the caller, if it still waits, that the new password is refused.
fn refuse<T>(reply: Reply<T>, rejected: Rejected) -> Done {
    let _ = reply.send(Err(rejected));
    Done::Hashed(0)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::password::PasswordPolicy;
    use crate::domain::time::Timestamp;
    use crate::hasher::{HashBackendChoice, HashCost};

    /// A clock that a test moves, without randomness.
    #[derive(Default)]
    struct Still(AtomicU64);
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }
    impl Entropy for Still {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    /// A pool without threads, so that jobs stay in the queue.
    fn pool(clock: &Arc<Still>) -> Pool {
        let cost = HashCost { memory_kib: 64, iterations: 1 };
        let backend = HashBackendChoice::Auto;
        let settings = HasherSettings { threads: 2, backend, cost, queue: 3, deadline: Duration::from_secs(5) };
        let judge = Judge::new(PasswordPolicy { min_score: 2 }, None);
        let decoy = CredentialHash::from_phc(String::new());
        let (clock, entropy) = (Arc::clone(clock) as _, Arc::clone(clock) as _);
        Pool::new(settings, HashBackend::Fast, judge, clock, entropy, decoy, Duration::from_secs(4))
    }

    /// A job and the receiver of its outcome.
    fn job() -> (Task, oneshot::Receiver<Result<Vec<CredentialHash>, Rejected>>) {
        let (reply, outcome) = oneshot::channel();
        (Task::Hash { candidate: None, secrets: vec![Secret::new("x".to_owned())], reply }, outcome)
    }

    #[test]
    fn s61_the_time_to_come_back_is_what_the_lane_needs() {
        let clock = Arc::new(Still::default());
        let pool = pool(&clock);
        let seconds = |lane| pool.refusal(lane).retry_after.as_secs();
        assert_eq!((seconds(Lane::Verification), seconds(Lane::Creation)), (1, 1), "never less than a second");
        let jobs: Vec<_> = (0..3).map(|_| job()).collect();
        let mut waiting = Vec::new();
        for (task, outcome) in jobs {
            pool.submit(Lane::Creation, task).unwrap();
            waiting.push(outcome);
        }
        assert_eq!(seconds(Lane::Creation), 6, "three jobs of four seconds, on two threads");
        assert_eq!(seconds(Lane::Verification), 1, "of which a login waits for none");
        let (task, outcome) = job();
        pool.submit(Lane::Verification, task).unwrap();
        waiting.push(outcome);
        assert_eq!((seconds(Lane::Creation), seconds(Lane::Verification)), (8, 4));
        let (task, _outcome) = job();
        assert_eq!(pool.submit(Lane::Creation, task).unwrap_err().retry_after, Duration::from_secs(8));
        let health = pool.health();
        assert_eq!((health.queued, health.capacity, health.refused), (4, 6, 1));
        // Each lane has its own pace.
        for _ in 0..64 {
            pool.note_pace(Lane::Creation, Duration::from_secs(2));
        }
        assert_eq!(seconds(Lane::Creation), 5, "three jobs of two seconds and one of four");
    }

    #[test]
    fn what_waited_for_too_long_or_for_nobody_is_not_done() {
        let clock = Arc::new(Still::default());
        let pool = pool(&clock);
        let (late, mut told) = job();
        pool.submit(Lane::Creation, late).unwrap();
        clock.0.store(5_001, Ordering::Relaxed);
        let (abandoned, nobody) = job();
        pool.submit(Lane::Creation, abandoned).unwrap();
        drop(nobody);
        let (wanted, _outcome) = job();
        pool.submit(Lane::Verification, wanted).unwrap();
        let mut memory = Memory::new(HashBackend::Fast);
        assert!(matches!(pool.next(&mut memory), Some((Lane::Verification, _))));
        assert_eq!(pool.health().queued, 2);
        pool.close();
        assert!(pool.next(&mut memory).is_none());
        assert!(told.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed), "its asker is told");
        let health = pool.health();
        assert_eq!((health.queued, health.refused, health.lanes[1].refused), (0, 1, 1), "nobody is refused by leaving");
        let (task, _outcome) = job();
        assert!(pool.submit(Lane::Creation, task).is_err(), "closed");
    }
}

//! A bounded pool of threads that compute argon2id, the only place where passwords are hashed.
//!
//! Hashing never runs on an async thread. Each thread reuses one block of memory, so the pool never holds more than threads
//! × cost, however many logins arrive; what does not fit into the queue is refused at once with an estimate of when to
//! come back. The threads run at lower scheduling priority than the async ones, so token checks stay quick while many
//! people log in.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::oneshot;

use crate::ask::Unavailable;
use crate::domain::account::CredentialHash;
use crate::domain::secret::Secret;
use crate::health::HasherHealth;
use crate::ports::{Clock, Entropy};

/// Salt and output lengths, in bytes (RFC 9106 §4).
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// The highest memory cost of a stored hash that is computed, in KiB: an imported hash may not choose how much memory we use.
const MAX_STORED_MEMORY_KIB: u32 = 1 << 20;
/// The highest time cost of a stored hash that is computed.
const MAX_STORED_ITERATIONS: u32 = 16;
/// How long a thread with nothing to do keeps its memory block: far longer than it takes to get a new one, and short enough
/// that a quiet service is a small one.
const KEEP_MEMORY: Duration = Duration::from_secs(10);
/// The nice value of hashing threads; the async threads run at 0.
const NICE: i32 = 10;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub iterations: u32,
}

impl HashCost {
    fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.iterations, 1, Some(OUTPUT_BYTES))
    }
}

/// How the pool works.
#[derive(Debug, Clone, Copy)]
pub struct HasherSettings {
    /// How many threads, at least 1.
    pub threads: usize,
    /// What a new hash costs.
    pub cost: HashCost,
    /// How many jobs may wait.
    pub queue: usize,
    /// How long a job may wait before it is refused instead of computed.
    pub deadline: Duration,
}

/// The pool could not be made: the cost is outside what argon2 allows, or a thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HasherStartError {
    /// The cost is outside what argon2 allows.
    #[error("the cost of a password hash is not possible: {0}")]
    Cost(argon2::Error),
    /// The operating system gave no thread.
    #[error("a hashing thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Hashes and verifies passwords and passphrases. Cloning it gives another way to the same threads; they end when the last
/// one is dropped and the queue is empty.
#[derive(Clone)]
pub struct HasherHandle {
    pool: Arc<Pool>,
    _threads: Arc<Threads>,
}

/// Ends the threads when the last handle goes.
struct Threads(Arc<Pool>);

struct Pool {
    settings: HasherSettings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// A hash of nothing in particular, at today's cost: what a login at an unknown address is compared with, so that it
    /// takes as long as any other (S11).
    decoy: CredentialHash,
    queue: Mutex<Queue>,
    work: Condvar,
    busy: AtomicUsize,
    done: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    /// A moving average of what one hash takes, in microseconds.
    average_micros: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Job {
    task: Task,
    /// When it is too late to begin, on the monotonic clock.
    begin_by: Duration,
}

enum Task {
    Hash(Secret, oneshot::Sender<CredentialHash>),
    Verify(Secret, CredentialHash, oneshot::Sender<Verdict>),
    #[cfg(feature = "testing")]
    Panic(oneshot::Sender<()>),
}

impl Task {
    /// Whether nobody waits for the outcome any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Hash(_, reply) => reply.is_closed(),
            Self::Verify(_, _, reply) => reply.is_closed(),
            #[cfg(feature = "testing")]
            Self::Panic(reply) => reply.is_closed(),
        }
    }
}

/// The outcome of comparing a secret with a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The secret is the one that was hashed.
    pub(crate) matches: bool,
    /// The hash was made at another cost than today's and ought to be renewed (S06).
    pub(crate) outdated: bool,
}

impl HasherHandle {
    /// Starts the threads. Computes one hash, so it takes as long as one.
    pub fn start(
        settings: HasherSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, HasherStartError> {
        let mut memory = Memory::default();
        let mut nobody = [0; 32];
        entropy.fill(&mut nobody);
        let began = clock.monotonic();
        let decoy = hash(&nobody, settings.cost, &*entropy, &mut memory).map_err(HasherStartError::Cost)?;
        let took = clock.monotonic().saturating_sub(began);
        drop(memory);
        let pool = Arc::new(Pool {
            settings,
            clock,
            entropy,
            decoy,
            queue: Mutex::default(),
            work: Condvar::new(),
            busy: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            average_micros: AtomicU64::new(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        });
        // Made before the threads, so that those already started end if a later one cannot be.
        let threads = Arc::new(Threads(Arc::clone(&pool)));
        for number in 0..settings.threads.max(1) {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || pool.run())?;
        }
        Ok(Self { pool, _threads: threads })
    }

    /// A salted hash of a secret.
    pub(crate) async fn hash(&self, secret: Secret) -> Result<CredentialHash, Unavailable> {
        let (reply, outcome) = oneshot::channel();
        self.pool.submit(Task::Hash(secret, reply))?;
        outcome.await.map_err(|_| self.pool.refusal())
    }

    /// Compares a secret with a hash, at the cost the hash was made with.
    pub(crate) async fn verify(&self, secret: Secret, against: CredentialHash) -> Result<Verdict, Unavailable> {
        let (reply, outcome) = oneshot::channel();
        self.pool.submit(Task::Verify(secret, against, reply))?;
        outcome.await.map_err(|_| self.pool.refusal())
    }

    /// Compares a secret with the hash of nobody's: costs what [`Self::verify`] costs and never matches.
    pub(crate) async fn verify_nobody(&self, secret: Secret) -> Result<(), Unavailable> {
        self.verify(secret, self.pool.decoy.clone()).await.map(|_| ())
    }

    /// What the pool reports about itself.
    #[must_use]
    pub fn health(&self) -> HasherHealth {
        let pool = &self.pool;
        HasherHealth {
            threads: pool.settings.threads.max(1),
            busy: pool.busy.load(Ordering::Relaxed),
            queued: pool.lock().jobs.len(),
            capacity: pool.settings.queue,
            done: pool.done.load(Ordering::Relaxed),
            failed: pool.failed.load(Ordering::Relaxed),
            refused: pool.refused.load(Ordering::Relaxed),
        }
    }

    /// Makes one hashing job panic; returns when it has.
    #[cfg(feature = "testing")]
    pub(crate) async fn inject_panic(&self) {
        let (reply, outcome) = oneshot::channel();
        if self.pool.submit(Task::Panic(reply)).is_ok() {
            let _ = outcome.await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_all();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, task: Task) -> Result<(), Unavailable> {
        let begin_by = self.clock.monotonic() + self.settings.deadline;
        let mut queue = self.lock();
        if queue.closed || queue.jobs.len() >= self.settings.queue {
            drop(queue);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(self.refusal());
        }
        queue.jobs.push_back(Job { task, begin_by });
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    /// When the jobs that wait now will have been computed, at the present pace.
    fn refusal(&self) -> Unavailable {
        let waiting = u64::try_from(self.lock().jobs.len()).unwrap_or(u64::MAX);
        let threads = u64::try_from(self.settings.threads.max(1)).unwrap_or(1);
        let micros = waiting.saturating_mul(self.average_micros.load(Ordering::Relaxed)) / threads;
        Unavailable { retry_after: Duration::from_micros(micros).max(Duration::from_secs(1)) }
    }

    /// One thread's life.
    fn run(&self) {
        // Refused in some containers; then hashing merely competes on equal terms.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "hashing threads keep normal priority");
        }
        let mut memory = Memory::default();
        while let Some(job) = self.next(&mut memory) {
            if job.task.is_abandoned() {
                continue;
            }
            if self.clock.monotonic() > job.begin_by {
                // Dropping the task tells the asker.
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.busy.fetch_add(1, Ordering::Relaxed);
            let began = self.clock.monotonic();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.compute(job.task, &mut memory)));
            self.busy.fetch_sub(1, Ordering::Relaxed);
            if let Ok(true) = outcome {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.note_pace(self.clock.monotonic().saturating_sub(began));
            } else {
                self.failed.fetch_add(1, Ordering::Relaxed);
                // A panic may have left the memory half written; a new block costs one allocation.
                memory = Memory::default();
                tracing::error!("a password hash could not be computed");
            }
        }
    }

    /// The next job; `None` when the pool is closed and its queue empty. Gives the memory back while there is nothing to do.
    fn next(&self, memory: &mut Memory) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            let waited = self.work.wait_timeout(queue, KEEP_MEMORY).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            if waited.1.timed_out() {
                *memory = Memory::default();
            }
        }
    }

    /// Does one job; false when it could not be done.
    fn compute(&self, task: Task, memory: &mut Memory) -> bool {
        match task {
            Task::Hash(secret, reply) => {
                let hash = hash(secret.expose().as_bytes(), self.settings.cost, &*self.entropy, memory).ok();
                answer(reply, hash)
            }
            Task::Verify(secret, against, reply) => {
                answer(reply, verify(secret.expose().as_bytes(), &against, self.settings.cost, memory))
            }
            #[cfg(feature = "testing")]
            #[expect(clippy::panic, reason = "this is the injected fault")]
            Task::Panic(_reply) => panic!("injected into the hasher"),
        }
    }

    fn note_pace(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let average = self.average_micros.load(Ordering::Relaxed);
        // Two threads may overwrite each other's sample here; it stays an average of samples.
        self.average_micros.store((average.saturating_mul(7).saturating_add(took)) / 8, Ordering::Relaxed);
    }
}

/// Sends an outcome, if there is one, to whoever still waits for it; false when there is none.
fn answer<T>(reply: oneshot::Sender<T>, outcome: Option<T>) -> bool {
    outcome.map(|outcome| reply.send(outcome)).is_some()
}

/// The working memory of one thread: as large as the largest hash it computed.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    fn compute(&mut self, secret: &[u8], salt: &[u8], params: Params, out: &mut [u8]) -> Result<(), argon2::Error> {
        let blocks = params.block_count();
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::default());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into_with_memory(secret, salt, out, &mut self.0[..blocks])
    }
}

fn hash(
    secret: &[u8],
    cost: HashCost,
    entropy: &dyn Entropy,
    memory: &mut Memory,
) -> Result<CredentialHash, argon2::Error> {
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let mut out = [0; OUTPUT_BYTES];
    let params = cost.params()?;
    memory.compute(secret, &salt, params.clone(), &mut out)?;
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|_| argon2::Error::AlgorithmInvalid)?,
        salt: Some(Salt::new(&salt).map_err(|_| argon2::Error::SaltTooShort)?),
        hash: Some(Output::new(&out).map_err(|_| argon2::Error::OutputTooShort)?),
    };
    Ok(CredentialHash::from_phc(phc.to_string()))
}

/// `None` when the stored hash is not an argon2id hash whose cost we are willing to pay.
fn verify(secret: &[u8], against: &CredentialHash, today: HashCost, memory: &mut Memory) -> Option<Verdict> {
    let stored = PasswordHash::new(against.as_phc()).ok()?;
    let params = Params::try_from(&stored).ok()?;
    let (salt, expected) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    let affordable = params.m_cost() <= MAX_STORED_MEMORY_KIB && params.t_cost() <= MAX_STORED_ITERATIONS;
    if stored.algorithm != Algorithm::Argon2id.ident() || !affordable {
        return None;
    }
    let outdated = (params.m_cost(), params.t_cost(), params.p_cost()) != (today.memory_kib, today.iterations, 1);
    let mut out = vec![0; expected.len()];
    memory.compute(secret, salt.as_ref(), params, &mut out).ok()?;
    let matches = aws_lc_rs::constant_time::verify_slices_are_equal(&out, expected.as_bytes()).is_ok();
    Some(Verdict { matches, outdated })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(AtomicU64);
    impl Entropy for Counter {
        fn fill(&self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = u8::try_from(self.0.fetch_add(1, Ordering::Relaxed) % 251).unwrap();
            }
        }
    }

    const CHEAP: HashCost = HashCost { memory_kib: 64, iterations: 1 };

    #[test]
    fn s01_the_same_secret_hashes_differently_each_time_and_verifies() {
        let entropy = Counter(AtomicU64::new(0));
        let mut memory = Memory::default();
        let one = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        let two = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        assert_ne!(one, two);
        assert!(one.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        for stored in [&one, &two] {
            assert_eq!(verify(b"secret", stored, CHEAP, &mut memory), Some(Verdict { matches: true, outdated: false }));
            assert!(!verify(b"Secret", stored, CHEAP, &mut memory).unwrap().matches);
        }
    }

    #[test]
    fn s06_a_hash_of_another_cost_verifies_and_is_outdated() {
        let entropy = Counter(AtomicU64::new(0));
        let mut memory = Memory::default();
        let old = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        let today = HashCost { memory_kib: 128, iterations: 1 };
        assert_eq!(verify(b"secret", &old, today, &mut memory), Some(Verdict { matches: true, outdated: true }));
    }

    #[test]
    fn a_stored_hash_cannot_choose_a_ruinous_cost() {
        let mut memory = Memory::default();
        for phc in [
            "$argon2id$v=19$m=4294967295,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "$argon2id$v=19$m=64,t=4000000,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "$argon2i$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "not a hash",
            "",
        ] {
            let stored = CredentialHash::from_phc(phc.to_owned());
            assert_eq!(verify(b"secret", &stored, CHEAP, &mut memory), None, "{phc}");
        }
    }
}

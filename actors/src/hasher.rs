//! A bounded pool of threads that compute password hashes. Passwords are judged and hashed only here.
//! New hashes are argon2id; those that other systems made are only verified.
//!
//! Neither ever runs on an async thread. Each thread reuses one block of memory, so the pool never takes more than threads × cost,
//! however many logins arrive. A job that finds its queue full is refused at once with an estimate of when to try again.
//! Logins and new credentials wait in separate lanes and take turns, so that a flood of one kind leaves the other its share.
//! The threads have a lower scheduling priority than the async threads, so that token checks stay fast while many people log in.

mod argon2id;
mod backend;
mod calibration;
mod foreign;
mod judge;
mod lanes;
mod pool;
mod self_test;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::ask::Unavailable;
use crate::domain::account::CredentialHash;
use crate::domain::hash_form::HashForm;
use crate::domain::password::{OwnNames, Password, PasswordPolicy, WeakPassword};
use crate::domain::secret::Secret;
use crate::health::HasherHealth;
use crate::ports::{BreachedPasswords, Clock, Entropy};

pub use argon2id::HashCost;
pub use backend::{HashBackend, HashBackendChoice};
pub use calibration::{CalibrationError, pace_of};
pub use foreign::ForeignHashError;
pub(crate) use judge::Candidate;
pub use judge::PasswordReport;

use backend::Memory;
use judge::{Judge, Rejected};
pub use lanes::Lane as HashLane;
use lanes::Lane;
use pool::{Pool, Task};

/// How long a client is asked to wait while the list of breached passwords cannot be read, which an operator has to fix.
const LIST_RETRY: Duration = Duration::from_secs(30);

/// The settings of the pool.
#[derive(Debug, Clone, Copy)]
pub struct HasherSettings {
    /// The number of threads, at least 1.
    pub threads: usize,
    /// The implementations that may compute the hashes.
    pub backend: HashBackendChoice,
    /// The cost of a new hash.
    pub cost: HashCost,
    /// The maximum number of waiting jobs in each lane.
    pub queue: usize,
    /// The maximum time that a job waits before it is refused instead of computed.
    pub deadline: Duration,
}

/// The pool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HasherStartError {
    /// The cost is outside what argon2 allows.
    #[error("the cost of a password hash is not possible: {0}")]
    Cost(argon2::Error),
    /// The operating system did not start a thread.
    #[error("a hashing thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Judges, hashes and verifies passwords and passphrases. A clone uses the same threads.
/// The threads end when the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct HasherHandle {
    pool: Arc<Pool>,
    _threads: Arc<Threads>,
}

/// Ends the threads when the last handle is dropped.
struct Threads(Arc<Pool>);

/// The outcome of comparing a secret with a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The secret is the one that was hashed.
    pub(crate) matches: bool,
    /// The hash was made at a cost other than today's, or by another system, and should be renewed (S06).
    pub(crate) outdated: bool,
    /// The secret is on the list of breached passwords, whether it matches or not.
    pub(crate) breached: bool,
}

/// What a secret is compared with.
#[derive(Debug, Clone)]
pub(crate) enum Against {
    /// This hash.
    Hash(CredentialHash),
    /// Nothing: there is no account, or it has no such secret. It never matches and takes the time of a hash of this form, or of
    /// today's hashes (`None`).
    Nobodys(Option<HashForm>),
}

impl HasherHandle {
    /// Chooses the implementation and starts the threads. Computes one hash, so it takes as long as one.
    /// `breached` is the operator's list of breached passwords, if there is one.
    pub fn start(
        settings: HasherSettings,
        policy: PasswordPolicy,
        breached: Option<Arc<dyn BreachedPasswords>>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, HasherStartError> {
        let backend = HashBackend::choose(settings.backend, &*entropy);
        let mut memory = Memory::new(backend);
        let mut nobody = [0; 32];
        entropy.fill(&mut nobody);
        let began = clock.monotonic();
        let decoy = argon2id::hash(&nobody, settings.cost, &*entropy, &mut memory).map_err(HasherStartError::Cost)?;
        let took = clock.monotonic().saturating_sub(began);
        drop(memory);
        let pool = Arc::new(Pool::new(settings, backend, Judge::new(policy, breached), clock, entropy, decoy, took));
        // Created before the threads, so that those already started end if a later one cannot be started.
        let threads = Arc::new(Threads(Arc::clone(&pool)));
        for number in 0..settings.threads.max(1) {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || pool.run())?;
        }
        Ok(Self { pool, _threads: threads })
    }

    /// Replaces the operator's list of breached passwords.
    pub fn replace_breached(&self, list: Option<Arc<dyn BreachedPasswords>>) {
        self.pool.replace_breached(list);
    }

    /// Returns a salted hash of a new password, if it is good enough. For a weak password no hash is computed.
    pub(crate) async fn hash_new(
        &self,
        candidate: Candidate,
    ) -> Result<Result<CredentialHash, WeakPassword>, Unavailable> {
        let secret = candidate.password.secret().clone();
        Ok(self.hash_all(Lane::Creation, Some(candidate), [secret]).await?.map(|[hash]| hash))
    }

    /// As [`Self::hash_new`], and also returns a hash of its passphrase.
    /// Both take one place in the queue, so that the first hash is not wasted because there is no place for the second.
    pub(crate) async fn hash_both(
        &self,
        candidate: Candidate,
        passphrase: Secret,
    ) -> Result<Result<(CredentialHash, CredentialHash), WeakPassword>, Unavailable> {
        let secret = candidate.password.secret().clone();
        let hashes = self.hash_all(Lane::Creation, Some(candidate), [secret, passphrase]).await?;
        Ok(hashes.map(|[password, passphrase]| (password, passphrase)))
    }

    /// Returns a salted hash of a passphrase, which is not judged.
    pub(crate) async fn hash(&self, secret: Secret) -> Result<CredentialHash, Unavailable> {
        let hashes = self.hash_all(Lane::Creation, None, [secret]).await?;
        // Nothing was judged.
        hashes.map(|[hash]| hash).map_err(|_| Unavailable::default())
    }

    /// Returns a salted hash of a password in use, whose hash is outdated. It waits among the logins that cause it, not among new
    /// credentials.
    pub(crate) async fn renew(&self, password: Secret) -> Result<CredentialHash, Unavailable> {
        let hashes = self.hash_all(Lane::Verification, None, [password]).await?;
        // Nothing was judged.
        hashes.map(|[hash]| hash).map_err(|_| Unavailable::default())
    }

    async fn hash_all<const N: usize>(
        &self,
        lane: Lane,
        candidate: Option<Candidate>,
        secrets: [Secret; N],
    ) -> Result<Result<[CredentialHash; N], WeakPassword>, Unavailable> {
        let secrets = secrets.into();
        match self.ask(lane, |reply| Task::Hash { candidate, secrets, reply }).await? {
            // There is a hash for each secret.
            Ok(hashes) => Ok(Ok(hashes.try_into().map_err(|_| Unavailable::default())?)),
            Err(weak) => Ok(Err(weak)),
        }
    }

    /// Compares a password with a hash, and looks it up in the list of breached passwords.
    /// Takes at least the time of a hash at today's cost, even if the stored argon2id hash was cheaper.
    pub(crate) async fn verify(&self, secret: Secret, against: Against) -> Result<Verdict, Unavailable> {
        let verdict = self.ask(Lane::Verification, |reply| Task::VerifyInUse { secret, against, reply }).await?;
        // Nothing was judged.
        verdict.map_err(|_| Unavailable::default())
    }

    /// Compares a passphrase with its hash, or with none (`None`), for a client that wants this new password.
    /// If the password is not good enough, no hash is computed, whether the account exists or not.
    pub(crate) async fn verify_passphrase(
        &self,
        candidate: Candidate,
        passphrase: Secret,
        against: Option<CredentialHash>,
    ) -> Result<Result<Verdict, WeakPassword>, Unavailable> {
        let against = against.map_or(Against::Nobodys(None), Against::Hash);
        self.ask(Lane::Creation, |reply| Task::Verify { candidate, secret: passphrase, against, reply }).await
    }

    /// Reports how good a password would be for an owner with these names. Computes no hash.
    pub async fn judge(&self, password: Password, names: OwnNames) -> Result<PasswordReport, Unavailable> {
        let candidate = Candidate { password, names };
        let report = self.ask(Lane::Creation, |reply| Task::Judge { candidate, reply }).await?;
        // The report itself says what is weak.
        report.map_err(|_| Unavailable::default())
    }

    /// Puts a job into a lane and waits for its outcome.
    async fn ask<T>(
        &self,
        lane: Lane,
        task: impl FnOnce(pool::Reply<T>) -> Task,
    ) -> Result<Result<T, WeakPassword>, Unavailable> {
        let (reply, outcome) = oneshot::channel();
        self.pool.submit(lane, task(reply))?;
        match outcome.await {
            Ok(Ok(outcome)) => Ok(Ok(outcome)),
            Ok(Err(Rejected::Weak(weak))) => Ok(Err(weak)),
            Ok(Err(Rejected::Unknown)) => Err(Unavailable { retry_after: LIST_RETRY }),
            // The job waited too long, or could not be done.
            Err(_) => Err(self.pool.refusal(lane)),
        }
    }

    /// Returns how long the waiting jobs of a lane will take, including jobs of the other lane in between; at least one second.
    #[must_use]
    pub fn wait(&self, lane: HashLane) -> Duration {
        self.pool.refusal(lane).retry_after
    }

    /// Returns the health report of the pool.
    #[must_use]
    pub fn health(&self) -> HasherHealth {
        self.pool.health()
    }

    /// Makes one hashing job panic after all waiting jobs; returns when it has.
    #[cfg(feature = "testing")]
    pub(crate) async fn inject_panic(&self) {
        let (reply, passed) = oneshot::channel();
        if self.pool.submit(Lane::Verification, Task::Pass { reply }).is_ok() {
            let _ = passed.await;
        }
        let (reply, outcome) = oneshot::channel();
        if self.pool.submit(Lane::Creation, Task::Panic { _reply: reply }).is_ok() {
            let _ = outcome.await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.close();
    }
}

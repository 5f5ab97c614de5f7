//! What each actor and the parts around it report about themselves.

mod checks;
mod histogram;
mod letters;
mod vitals;

use std::time::Duration;

use crate::backups::BackupHealth;
use crate::domain::time::Timestamp;

pub use checks::{Check, Problem};
pub(crate) use checks::{is_stuck, problems};
pub use histogram::{Distribution, Histogram, RequestTimes, Sizes, Times};
pub(crate) use letters::Letters;
pub(crate) use vitals::{ActorState, Vitals};

/// The name of the root of the supervision tree.
pub(crate) const SUPERVISOR: &str = "supervisor";

/// What one actor reports.
#[derive(Debug, Clone)]
pub struct ActorHealth {
    /// Its name; shards have a number.
    pub name: String,
    /// The actor that supervises it; `None` for the supervisor itself.
    pub parent: Option<&'static str>,
    /// `starting`, `running`, `restarting` or `stopped`.
    pub state: &'static str,
    /// How long its present incarnation has run.
    pub uptime: Duration,
    /// How many messages wait for it.
    pub mailbox: u64,
    /// For how long the oldest of them has waited at least. `None` if none waits. Looks at the actor, one a second, tell it.
    pub oldest_message: Option<Duration>,
    /// How many messages it has handled since the process started.
    pub handled: u64,
    /// How often it, or a piece of its work, has failed.
    pub failed: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// How often it was restarted within the last minute.
    pub recent_restarts: usize,
    /// When it was last restarted.
    pub last_restart: Option<Timestamp>,
    /// Why it was last restarted.
    pub last_restart_cause: Option<String>,
    /// Why it last failed.
    pub last_failure: Option<String>,
    /// When it last finished a message.
    pub last_progress: Option<Timestamp>,
    /// How long ago that was.
    pub since_progress: Option<Duration>,
    /// How long messages took, since the process started: the first 1,024, and every eighth after them.
    pub handling: Distribution,
}

/// What the store reports.
#[derive(Debug, Clone)]
pub struct StoreHealth {
    /// Whether a write and a read of a record succeeded just now.
    pub ok: bool,
    /// How long they took.
    pub probe: Duration,
    /// What the engine reports.
    pub engine: EngineHealth,
}

/// What an engine reports.
#[derive(Debug, Clone)]
pub struct EngineHealth {
    /// Why it failed; `None` while it works.
    pub failure: Option<String>,
    /// How long commits took, from the first change of a group to the durable group. In nanoseconds.
    pub commits: Distribution,
    /// How many changes a group had.
    pub groups: Distribution,
    /// How many changes wait for their commit.
    pub waiting: usize,
    /// How long ago a group was last made durable. `None` if none was since the engine was opened.
    pub last_sync: Option<Duration>,
    /// The disk. `None` for an engine without one, or if the disk cannot be asked.
    pub disk: Option<DiskHealth>,
}

impl EngineHealth {
    /// Creates the report of an engine of which nothing is known but that it failed.
    pub(crate) fn failed(why: &str) -> Self {
        Self {
            failure: Some(why.to_owned()),
            commits: Times::of_times().read(),
            groups: Sizes::of_sizes().read(),
            waiting: 0,
            last_sync: None,
            disk: None,
        }
    }
}

/// What is known of the disk of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskHealth {
    /// How many bytes the files of the engine take. `None` if they cannot be looked at.
    pub used_bytes: Option<u64>,
    /// How many bytes this process can still write to the file system.
    pub free_bytes: u64,
}

/// What the outbox reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxHealth {
    /// How many mails wait to be sent, at most [`MAX_COUNTED_MAILS`](crate::store::MAX_COUNTED_MAILS).
    pub waiting: usize,
    /// How many mails were given up.
    pub dead: u64,
    /// When the oldest waiting mail was written.
    pub oldest: Option<Timestamp>,
    /// Why an attempt of this process last failed, without addresses, and when.
    pub last_error: Option<(Timestamp, String)>,
}

/// What the rate limiter reports: how many keys have a counter, and how many requests were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimiterHealth {
    /// Each quota of requests, by the name of its policy.
    pub quotas: [QuotaHealth; 3],
    /// How many counters of failed attempts are stored, as far as this process knows.
    pub failures: usize,
}

/// One quota of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaHealth {
    /// `public`, `docs` or `private`.
    pub policy: &'static str,
    /// How many clients or accounts have used some of it.
    pub keys: usize,
    /// How many requests it has refused since the process started.
    pub refused: u64,
}

/// What the feed of changes reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedHealth {
    /// The number of the last commit since the process started.
    pub position: u64,
    /// The number of the last durable commit.
    pub settled: u64,
    /// The number of the newest audit record.
    pub audit_head: u64,
    /// The number of the newest revocation.
    pub revocation_head: u64,
}

/// What the pool of hashing threads reports.
#[derive(Debug, Clone, Copy)]
pub struct HasherHealth {
    /// The implementation that computes the hashes: the vector instructions it uses, or `portable`.
    pub backend: &'static str,
    /// How many threads it has.
    pub threads: usize,
    /// How many of them compute a hash now.
    pub busy: usize,
    /// How many jobs wait.
    pub queued: usize,
    /// How many jobs may wait in all lanes together.
    pub capacity: usize,
    /// How many hashes it has computed.
    pub done: u64,
    /// How many jobs ended in a panic or an error of the hash function.
    pub failed: u64,
    /// How many jobs were refused because their lane was full or the deadline had passed.
    pub refused: u64,
    /// Each kind of work, which waits in a lane of its own.
    pub lanes: [LaneHealth; 2],
    /// Whether the list of breached passwords could be read when it was last asked; `None` where there is none.
    pub breached_list_readable: Option<bool>,
}

/// What one lane of the hashing threads reports.
#[derive(Debug, Clone, Copy)]
pub struct LaneHealth {
    /// `verification` or `creation`.
    pub name: &'static str,
    /// How many of its jobs wait.
    pub queued: usize,
    /// How many may wait.
    pub capacity: usize,
    /// How many jobs were done, those that needed no hash among them.
    pub handled: u64,
    /// How many were refused.
    pub refused: u64,
}

/// What the whole system reports.
#[derive(Debug, Clone)]
pub struct HealthReport {
    /// `ok`, or `degraded` if there is a problem.
    pub status: &'static str,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// When it was put together.
    pub at: Timestamp,
    /// How long the system has run.
    pub uptime: Duration,
    /// Every actor, the supervisor first.
    pub actors: Vec<ActorHealth>,
    /// The store.
    pub store: StoreHealth,
    /// The hashing threads.
    pub hasher: HasherHealth,
    /// The outbox. `None` if the store cannot tell.
    pub outbox: Option<OutboxHealth>,
    /// The rate limiter.
    pub limiter: LimiterHealth,
    /// The feed of changes.
    pub feed: FeedHealth,
    /// How many sessions live.
    pub live_sessions: usize,
    /// The scheduled backups; `None` if there is no schedule.
    pub backups: Option<BackupHealth>,
}

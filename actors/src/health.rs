//! What each actor and the parts around it report about themselves.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::time::Timestamp;

/// Marks a time that has not occurred yet.
const NEVER: i64 = i64::MIN;

/// Whether an actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ActorState {
    Starting = 0,
    Running = 1,
    Restarting = 2,
    Stopped = 3,
}

impl ActorState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// The vital signs of one actor. They outlive its incarnations. Any thread may read them at any time.
pub(crate) struct Vitals {
    name: String,
    state: AtomicU8,
    started_at: AtomicI64,
    handled: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
    last_restart: AtomicI64,
    last_progress: AtomicI64,
    last_failure: Mutex<Option<String>>,
}

impl Vitals {
    pub(crate) fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            state: AtomicU8::new(ActorState::Starting as u8),
            started_at: AtomicI64::new(NEVER),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            last_restart: AtomicI64::new(NEVER),
            last_progress: AtomicI64::new(NEVER),
            last_failure: Mutex::new(None),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Notes that an incarnation is ready for messages.
    pub(crate) fn started(&self, now: Timestamp) {
        self.set_state(ActorState::Running);
        if self.started_at.swap(now.as_millis(), Ordering::Relaxed) != NEVER {
            self.restarts.fetch_add(1, Ordering::Relaxed);
            self.last_restart.store(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// Notes that a message was handled.
    pub(crate) fn progressed(&self, now: Timestamp) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.last_progress.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Notes that a message, a piece of work or the actor itself failed.
    pub(crate) fn failed(&self, cause: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    pub(crate) fn report(&self, now: Timestamp, mailbox: u64) -> ActorHealth {
        let time = |at: &AtomicI64| match at.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(Timestamp::from_millis(millis)),
        };
        let state = match self.state.load(Ordering::Relaxed) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Restarting,
            _ => ActorState::Stopped,
        };
        ActorHealth {
            name: self.name.clone(),
            state: state.as_str(),
            uptime: time(&self.started_at)
                .filter(|_| state == ActorState::Running)
                .map_or(Duration::ZERO, |started| now.since(started)),
            mailbox,
            handled: self.handled.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            last_restart: time(&self.last_restart),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            last_progress: time(&self.last_progress),
        }
    }
}

/// What one actor reports.
#[derive(Debug, Clone)]
pub struct ActorHealth {
    /// Its name; shards have a number.
    pub name: String,
    /// `starting`, `running`, `restarting` or `stopped`.
    pub state: &'static str,
    /// How long its present incarnation has run.
    pub uptime: Duration,
    /// How many messages wait for it.
    pub mailbox: u64,
    /// How many messages it has handled since the process started.
    pub handled: u64,
    /// How often it, or a piece of its work, has failed.
    pub failed: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// When it was last restarted.
    pub last_restart: Option<Timestamp>,
    /// Why it last failed.
    pub last_failure: Option<String>,
    /// When it last finished a message.
    pub last_progress: Option<Timestamp>,
}

/// What the store reports.
#[derive(Debug, Clone)]
pub struct StoreHealth {
    /// Whether a write and a read of a record succeeded just now.
    pub ok: bool,
    /// How long they took.
    pub probe: Duration,
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
    /// `ok`, or `degraded` when an actor is not running or the store does not work.
    pub status: &'static str,
    /// How long the system has run.
    pub uptime: Duration,
    /// Every actor.
    pub actors: Vec<ActorHealth>,
    /// The store.
    pub store: StoreHealth,
    /// The hashing threads.
    pub hasher: HasherHealth,
    /// How many sessions live.
    pub live_sessions: usize,
}

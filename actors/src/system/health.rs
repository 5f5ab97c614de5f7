//! The handle of the health report, and the watch that looks at all parts once a second.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::Mutex;

use super::BackupPart;
use crate::domain::time::Timestamp;
use crate::hasher::HasherHandle;
use crate::health::{
    ActorHealth, Check, EngineHealth, FeedHealth, HealthReport, OutboxHealth, Problem, StoreHealth, is_stuck, problems,
};
use crate::mailer::MailerHandle;
use crate::ports::Clock;
use crate::process::{AnyMailbox, Timer};
use crate::rate_limiter::RateLimiterHandle;
use crate::session::SessionHandle;
use crate::store::Store;
use crate::supervisor::{SupervisorMessage, WatchedSupervisor};

/// How long readiness waits for each actor, and for a write and a read of the store.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(2);
/// How long a result is reused: anonymous clients may ask for readiness, and each check costs a commit.
const REUSED_FOR: Duration = Duration::from_secs(1);
/// How often the watch looks at the actors. The age of waiting messages is known to this precision.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The number of looks of the watch for each time that it asks for the state of the disk.
const DISK_LOOKS: u32 = 5;

/// The handle of the health report.
#[derive(Clone)]
pub struct HealthHandle {
    pub(super) inner: Arc<Health>,
}

/// What the health report reads.
pub(super) struct Sources {
    pub(super) supervisor: WatchedSupervisor,
    pub(super) watched: Vec<Arc<dyn AnyMailbox>>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hasher: HasherHandle,
    pub(super) sessions: SessionHandle,
    pub(super) limits: RateLimiterHandle,
    pub(super) mailer: MailerHandle,
    pub(super) backups: Option<BackupPart>,
    /// The free space below which the disk is a problem, in bytes.
    pub(super) min_free: u64,
}

pub(super) struct Health {
    pub(super) sources: Sources,
    started_at: Timestamp,
    stopping: AtomicBool,
    /// The last look and its time on the monotonic clock. Held during a look, so that many callers cost one look.
    last_look: Mutex<Option<(Duration, Look)>>,
    /// The same of the last survey.
    last_survey: Mutex<Option<(Duration, Survey)>>,
}

/// The answers of the store and the actors to a question.
#[derive(Clone)]
struct Look {
    store_ok: bool,
    probe: Duration,
    /// The actors that did not answer.
    silent: Vec<String>,
}

/// What is read from the disk and from the store.
#[derive(Clone)]
struct Survey {
    engine: EngineHealth,
    outbox: Option<OutboxHealth>,
}

impl HealthHandle {
    pub(super) fn new(sources: Sources) -> Self {
        let started_at = sources.clock.now();
        let (last_look, last_survey) = (Mutex::new(None), Mutex::new(None));
        let stopping = AtomicBool::new(false);
        Self { inner: Arc::new(Health { sources, started_at, stopping, last_look, last_survey }) }
    }

    /// Returns whether requests can be served: the store takes a write and reads it back, every actor answers, and no check fails
    /// that [blocks](Check::blocks).
    pub async fn ready(&self) -> bool {
        !self.report().await.problems.iter().any(|problem| problem.check.blocks())
    }

    /// Notes that the process is stopping. From now on it is not ready.
    pub fn begin_stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }

    /// Returns the health of all parts. Asks every actor and writes to the store, at most once a second.
    pub async fn report(&self) -> HealthReport {
        let look = self.look().await;
        self.put_together(Some(look)).await
    }

    /// Returns the health of all parts as far as it is known without asking an actor or writing to the store. So it does not wait
    /// for an actor that is busy or stuck.
    pub async fn figures(&self) -> HealthReport {
        self.put_together(None).await
    }

    /// Returns the names of the actors that have messages and finish none, without asking any. A service manager restarts a process in
    /// which this does not end, so nothing else counts here: a full disk or a drain is no reason for a restart.
    #[must_use]
    pub fn stuck_actors(&self) -> Vec<String> {
        // One that is being started again is slow at worst, and ends the process by itself if it cannot be started.
        let stuck = |actor: &ActorHealth| actor.state == "running" && is_stuck(actor);
        self.actors().into_iter().filter(stuck).map(|actor| actor.name).collect()
    }

    async fn put_together(&self, look: Option<Look>) -> HealthReport {
        let Survey { engine, outbox } = self.survey().await;
        let inner = &*self.inner;
        let actors = self.actors();
        let mut problems = problems(inner.stopping.load(Ordering::Acquire), &actors, &engine, inner.sources.min_free);
        let mut add = |problem: Problem| {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        };
        for silent in look.iter().flat_map(|look| &look.silent) {
            add(Problem::with(Check::Actor, silent));
        }
        let backups = inner.sources.backups.as_ref().map(|backups| backups.keeper.health());
        if backups.as_ref().is_some_and(|backups| backups.overdue) {
            add(Problem::of(Check::BackupOverdue));
        }
        let ok = look.as_ref().map_or(engine.failure.is_none(), |look| look.store_ok);
        if !ok {
            add(Problem::of(Check::Store));
        }
        let at = inner.sources.clock.now();
        HealthReport {
            at,
            status: if problems.is_empty() { "ok" } else { "degraded" },
            problems,
            uptime: at.since(inner.started_at),
            actors,
            store: StoreHealth { ok, probe: look.map_or(Duration::ZERO, |look| look.probe), engine },
            hasher: inner.sources.hasher.health(),
            outbox,
            limiter: inner.sources.limits.health(),
            feed: feed(&inner.sources.store),
            live_sessions: inner.sources.sessions.live(),
            backups,
        }
    }

    /// Looks at every actor, without asking any of them.
    fn actors(&self) -> Vec<ActorHealth> {
        let Sources { supervisor, watched, clock, .. } = &self.inner.sources;
        let root = std::iter::once(supervisor.report(&**clock));
        root.chain(watched.iter().map(|watched| watched.report(&**clock))).collect()
    }

    async fn look(&self) -> Look {
        let Sources { clock, store, watched, .. } = &self.inner.sources;
        let mut last_look = self.inner.last_look.lock().await;
        let began = clock.monotonic();
        if let Some(look) = still_good(last_look.as_ref(), began) {
            return look;
        }
        let probe = tokio::time::timeout(READY_DEADLINE, store.probe());
        let pings = futures_util::future::join_all(watched.iter().map(|watched| watched.ping(READY_DEADLINE)));
        let (probed, pinged) = futures_util::future::join(probe, pings).await;
        let ended = clock.monotonic();
        let silent = watched.iter().zip(pinged).filter(|(_, answer)| answer.is_err());
        let look = Look {
            store_ok: matches!(probed, Ok(Ok(()))),
            probe: ended.saturating_sub(began),
            silent: silent.map(|(watched, _)| watched.report(&**clock).name).collect(),
        };
        *last_look = Some((ended, look.clone()));
        look
    }

    async fn survey(&self) -> Survey {
        let Sources { clock, store, mailer, .. } = &self.inner.sources;
        let mut last_survey = self.inner.last_survey.lock().await;
        let began = clock.monotonic();
        if let Some(survey) = still_good(last_survey.as_ref(), began) {
            return survey;
        }
        let engine = tokio::time::timeout(READY_DEADLINE, store.health());
        let outbox = tokio::time::timeout(READY_DEADLINE, mailer.health());
        let (engine, outbox) = futures_util::future::join(engine, outbox).await;
        let survey = Survey {
            // A slow disk is no failed store, and what was counted stays.
            engine: engine.unwrap_or_else(|_| match last_survey.as_ref() {
                Some((_, survey)) => EngineHealth { disk: None, ..survey.engine.clone() },
                None => EngineHealth::failed("its disk gave no answer in time"),
            }),
            outbox: outbox.ok().flatten(),
        };
        *last_survey = Some((clock.monotonic(), survey.clone()));
        survey
    }

    /// Has frozen actors replaced. Each call is a look at all of them.
    pub(super) fn replace_frozen(&self, supervisor: &ActorRef<SupervisorMessage>) {
        for (child, watched) in self.inner.sources.watched.iter().enumerate() {
            if let Some(frozen) = watched.find_frozen() {
                self.inner.sources.supervisor.tell(supervisor, SupervisorMessage::Replace(child, frozen));
            }
        }
    }

    /// Looks at all parts once a second until the returned guard is dropped, has frozen actors replaced, and logs which checks begin
    /// and end to fail.
    pub(super) fn watch(&self, supervisor: ActorRef<SupervisorMessage>) -> Timer {
        let handle = self.clone();
        Timer::of(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let (mut looks, mut engine, mut known) = (0_u32, None, HashSet::new());
            loop {
                ticks.tick().await;
                handle.replace_frozen(&supervisor);
                if looks.is_multiple_of(DISK_LOOKS) {
                    engine = Some(handle.survey().await.engine);
                }
                looks = looks.wrapping_add(1);
                let stopping = handle.inner.stopping.load(Ordering::Acquire);
                let actors = handle.actors();
                let found =
                    engine.iter().flat_map(|engine| problems(stopping, &actors, engine, handle.inner.sources.min_free));
                let mut found: HashSet<Problem> = found.filter(|problem| problem.check != Check::Stopping).collect();
                let backups = handle.inner.sources.backups.as_ref();
                if backups.is_some_and(|backups| backups.keeper.health().overdue) {
                    found.insert(Problem::of(Check::BackupOverdue));
                }
                log_changes(&known, &found);
                known = found;
            }
        }))
    }
}

/// Returns a result that is young enough to be used again.
fn still_good<T: Clone>(last: Option<&(Duration, T)>, now: Duration) -> Option<T> {
    last.filter(|(at, _)| now.saturating_sub(*at) < REUSED_FOR).map(|(_, result)| result.clone())
}

fn log_changes(known: &HashSet<Problem>, found: &HashSet<Problem>) {
    for problem in found.difference(known) {
        let (check, actor) = (problem.check.as_str(), problem.actor.as_deref());
        if problem.check.blocks() {
            tracing::error!(check, actor, "a health check fails; the service is not ready");
        } else {
            tracing::warn!(check, actor, "a health check warns");
        }
    }
    for problem in known.difference(found) {
        let (check, actor) = (problem.check.as_str(), problem.actor.as_deref());
        tracing::info!(check, actor, "a health check passes again");
    }
}

fn feed(store: &Store) -> FeedHealth {
    let feed = store.feed();
    // Settled is read first, so that it is never ahead of the position.
    let settled = feed.settled();
    FeedHealth {
        position: feed.position(),
        settled,
        audit_head: *feed.audit_head().borrow(),
        revocation_head: *feed.revocation_head().borrow(),
    }
}

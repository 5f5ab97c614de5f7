//! What `GET /health/actors` answers.

use std::time::Duration;

use doorward_actors::{
    ActorHealth, BackupHealth, Distribution, EngineHealth, FeedHealth, HasherHealth, HealthReport, LaneHealth,
    LimiterHealth, OutboxHealth, Problem as FoundProblem, QuotaHealth, StoreHealth, Timestamp,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::closed_sets;
use crate::telemetry::{self, LogCounts};

/// The state of all parts.
#[derive(Serialize, ToSchema)]
pub(super) struct SystemHealth<'a> {
    /// `degraded` if there is a problem.
    #[schema(value_type = closed_sets::SystemStatus)]
    status: &'a str,
    problems: Vec<Problem<'a>>,
    uptime_seconds: u64,
    /// The supervision tree as a list: each actor names the one that supervises it.
    actors: Vec<Actor<'a>>,
    store: Store,
    hasher: Hasher,
    /// Null if the store cannot tell.
    outbox: Option<Outbox<'a>>,
    /// The scheduled backups; null if there is no schedule.
    backups: Option<Backups<'a>>,
    limiter: Limiter,
    sessions: Sessions,
    feed: Feed,
    log: Log,
}

/// Something that is wrong now.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthProblem)]
struct Problem<'a> {
    #[schema(value_type = closed_sets::HealthCheck)]
    check: &'a str,
    /// The actor with the problem; null if it is no problem of an actor.
    actor: Option<&'a str>,
    /// Whether `GET /health/ready` answers 503 because of it.
    blocks: bool,
}

/// How long something took, in milliseconds, since the process started. The percentiles are estimates from a histogram; null if nothing
/// was measured.
#[derive(Serialize, ToSchema)]
struct Timing {
    /// How many were measured.
    count: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// How large something was, since the process started. The percentiles are estimates from a histogram; null if nothing was measured.
#[derive(Serialize, ToSchema)]
struct SizePercentiles {
    p50: Option<u64>,
    p99: Option<u64>,
}

/// One actor.
#[derive(Serialize, ToSchema)]
#[schema(as = ActorHealth)]
struct Actor<'a> {
    name: &'a str,
    /// The actor that supervises it; null for the supervisor itself.
    parent: Option<&'a str>,
    #[schema(value_type = closed_sets::ActorState)]
    state: &'a str,
    uptime_seconds: u64,
    /// How many messages wait.
    mailbox: u64,
    /// For how long the oldest of them has waited at least, to the second; null if none waits.
    oldest_message_seconds: Option<u64>,
    handled: u64,
    failed: u64,
    restarts: u64,
    /// How many of the restarts were within the last minute.
    recent_restarts: usize,
    #[schema(format = DateTime)]
    last_restart: Option<String>,
    last_restart_cause: Option<&'a str>,
    last_failure: Option<&'a str>,
    /// When it last finished a message.
    #[schema(format = DateTime)]
    last_progress: Option<String>,
    /// How long messages took: the first 1,024, and every eighth after them.
    handling: Timing,
}

/// The store.
#[derive(Serialize, ToSchema)]
#[schema(as = StoreHealth)]
struct Store {
    ok: bool,
    /// How long a durable write and a read have just taken, in milliseconds.
    probe_ms: u64,
    /// How long commits took, from the first change of a group until the group was durable.
    commit: Timing,
    /// How many changes were committed together.
    group_size: SizePercentiles,
    /// How many changes wait for their commit.
    waiting: usize,
    /// When a commit was last made durable.
    #[schema(format = DateTime)]
    last_sync: Option<String>,
    /// How many bytes the database takes.
    disk_used_bytes: Option<u64>,
    /// How many bytes of its disk are free.
    disk_free_bytes: Option<u64>,
}

/// The mails that are not delivered yet.
#[derive(Serialize, ToSchema)]
#[schema(as = OutboxHealth)]
struct Outbox<'a> {
    /// How many wait to be sent; 10,000 means that many or more.
    waiting: usize,
    /// How many were given up.
    dead: u64,
    /// When the oldest waiting mail was written.
    #[schema(format = DateTime)]
    oldest: Option<String>,
    /// Why the last failed attempt of this process failed, without addresses.
    last_error: Option<&'a str>,
    #[schema(format = DateTime)]
    last_error_at: Option<String>,
}

/// The backups that the service makes on a schedule.
#[derive(Serialize, ToSchema)]
#[schema(as = BackupsHealth)]
struct Backups<'a> {
    /// How long after a backup the next one is due.
    every_seconds: u64,
    /// When the newest backup was made; null if there is none, it is not known yet, or another node makes the backups.
    #[schema(format = DateTime)]
    last_success: Option<String>,
    /// How many attempts failed.
    failures: u64,
    /// Why an attempt of this process last failed.
    last_error: Option<&'a str>,
    #[schema(format = DateTime)]
    last_error_at: Option<String>,
}

/// The rate limiter.
#[derive(Serialize, ToSchema)]
#[schema(as = LimiterHealth)]
struct Limiter {
    quotas: Vec<Quota>,
    /// How many counters of failed attempts are stored.
    failures: usize,
}

/// A quota of requests.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaHealth)]
struct Quota {
    #[schema(value_type = closed_sets::QuotaPolicy)]
    policy: &'static str,
    /// How many clients or accounts have used some of it.
    keys: usize,
    /// How many requests it has refused.
    refused: u64,
}

/// The feed of changes, from which the actors and services learn what ended.
#[derive(Serialize, ToSchema)]
#[schema(as = FeedHealth)]
struct Feed {
    /// The number of the last commit since the process started.
    position: u64,
    /// The number of the last durable commit.
    settled: u64,
    /// The number of the newest audit record.
    audit_head: u64,
    /// The number of the newest revocation.
    revocation_head: u64,
    /// How many services wait for revocations.
    readers: usize,
}

/// The hashing threads.
#[derive(Serialize, ToSchema)]
#[schema(as = HasherHealth)]
struct Hasher {
    #[schema(value_type = closed_sets::HasherBackend)]
    backend: &'static str,
    threads: usize,
    busy: usize,
    queued: usize,
    /// How many jobs may wait in all lanes together.
    capacity: usize,
    /// How many hashes were computed.
    done: u64,
    failed: u64,
    refused: u64,
    /// Each kind of work waits in a lane of its own.
    lanes: Vec<Lane>,
    /// Whether the list of breached passwords was readable when it was last used; null if there is none. While it is not readable,
    /// no new password is accepted.
    breached_list_readable: Option<bool>,
}

/// One kind of work of the hashing threads.
#[derive(Serialize, ToSchema)]
#[schema(as = HasherLane)]
struct Lane {
    #[schema(value_type = closed_sets::HasherLaneName)]
    name: &'static str,
    queued: usize,
    /// How many jobs may wait. Any further job is refused.
    capacity: usize,
    /// How many jobs were done, including those that needed no hash.
    handled: u64,
    refused: u64,
}

impl From<LaneHealth> for Lane {
    fn from(lane: LaneHealth) -> Self {
        let LaneHealth { name, queued, capacity, handled, refused } = lane;
        Self { name, queued, capacity, handled, refused }
    }
}

impl From<HasherHealth> for Hasher {
    fn from(hasher: HasherHealth) -> Self {
        let HasherHealth {
            backend,
            threads,
            busy,
            queued,
            capacity,
            done,
            failed,
            refused,
            lanes,
            breached_list_readable,
        } = hasher;
        let lanes = lanes.into_iter().map(Lane::from).collect();
        Self { backend, threads, busy, queued, capacity, done, failed, refused, lanes, breached_list_readable }
    }
}

/// The sessions.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionsHealth)]
struct Sessions {
    live: usize,
}

/// The log lines since the process started.
#[derive(Serialize, ToSchema)]
struct Log {
    /// How many lines were written.
    written: u64,
    /// How many lines were lost because standard error could not be written or was too slow.
    dropped: u64,
}

impl From<LogCounts> for Log {
    fn from(LogCounts { written, dropped }: LogCounts) -> Self {
        Self { written, dropped }
    }
}

fn times(times: &Distribution) -> Timing {
    let percentile = |percent| times.percentile_time(percent).map(|time| time.as_secs_f64() * 1000.0);
    Timing { count: times.count(), p50_ms: percentile(50), p99_ms: percentile(99) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> From<&'a FoundProblem> for Problem<'a> {
    fn from(problem: &'a FoundProblem) -> Self {
        Self { check: problem.check.as_str(), actor: problem.actor.as_deref(), blocks: problem.check.blocks() }
    }
}

impl<'a> From<&'a ActorHealth> for Actor<'a> {
    fn from(actor: &'a ActorHealth) -> Self {
        Self {
            name: &actor.name,
            parent: actor.parent,
            state: actor.state,
            uptime_seconds: actor.uptime.as_secs(),
            mailbox: actor.mailbox,
            oldest_message_seconds: actor.oldest_message.map(|oldest| oldest.as_secs()),
            handled: actor.handled,
            failed: actor.failed,
            restarts: actor.restarts,
            recent_restarts: actor.recent_restarts,
            last_restart: actor.last_restart.map(Timestamp::to_rfc3339),
            last_restart_cause: actor.last_restart_cause.as_deref(),
            last_failure: actor.last_failure.as_deref(),
            last_progress: actor.last_progress.map(Timestamp::to_rfc3339),
            handling: times(&actor.handling),
        }
    }
}

impl Store {
    fn of(store: &StoreHealth, now: Timestamp) -> Self {
        let EngineHealth { commits, groups, waiting, last_sync, disk, .. } = &store.engine;
        Self {
            ok: store.ok,
            probe_ms: millis(store.probe),
            commit: times(commits),
            group_size: SizePercentiles { p50: groups.percentile(50), p99: groups.percentile(99) },
            waiting: *waiting,
            last_sync: last_sync.map(|ago| now.minus(ago).to_rfc3339()),
            disk_used_bytes: disk.and_then(|disk| disk.used_bytes),
            disk_free_bytes: disk.map(|disk| disk.free_bytes),
        }
    }
}

impl<'a> From<&'a OutboxHealth> for Outbox<'a> {
    fn from(outbox: &'a OutboxHealth) -> Self {
        Self {
            waiting: outbox.waiting,
            dead: outbox.dead,
            oldest: outbox.oldest.map(Timestamp::to_rfc3339),
            last_error: outbox.last_error.as_ref().map(|(_, error)| error.as_str()),
            last_error_at: outbox.last_error.as_ref().map(|(at, _)| at.to_rfc3339()),
        }
    }
}

impl<'a> From<&'a BackupHealth> for Backups<'a> {
    fn from(backups: &'a BackupHealth) -> Self {
        Self {
            every_seconds: backups.every.as_secs(),
            last_success: backups.last_success.map(Timestamp::to_rfc3339),
            failures: backups.failures,
            last_error: backups.last_error.as_ref().map(|(_, error)| error.as_str()),
            last_error_at: backups.last_error.as_ref().map(|(at, _)| at.to_rfc3339()),
        }
    }
}

impl From<LimiterHealth> for Limiter {
    fn from(LimiterHealth { quotas, failures }: LimiterHealth) -> Self {
        let quota = |QuotaHealth { policy, keys, refused }: QuotaHealth| Quota { policy, keys, refused };
        Self { quotas: quotas.into_iter().map(quota).collect(), failures }
    }
}

impl Feed {
    fn of(feed: FeedHealth, readers: usize) -> Self {
        let FeedHealth { position, settled, audit_head, revocation_head } = feed;
        Self { position, settled, audit_head, revocation_head, readers }
    }
}

impl<'a> SystemHealth<'a> {
    /// Puts the answer together. `readers` is the number of services that wait for revocations.
    pub(super) fn of(report: &'a HealthReport, readers: usize) -> Self {
        Self {
            status: report.status,
            problems: report.problems.iter().map(Problem::from).collect(),
            uptime_seconds: report.uptime.as_secs(),
            actors: report.actors.iter().map(Actor::from).collect(),
            store: Store::of(&report.store, report.at),
            hasher: report.hasher.into(),
            outbox: report.outbox.as_ref().map(Outbox::from),
            backups: report.backups.as_ref().map(Backups::from),
            limiter: report.limiter.into(),
            sessions: Sessions { live: report.live_sessions },
            feed: Feed::of(report.feed, readers),
            log: telemetry::counts().into(),
        }
    }
}

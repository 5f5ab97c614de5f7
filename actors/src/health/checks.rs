//! What counts as a problem. Pure, so that every threshold can be tested without waiting.

use std::time::Duration;

use super::{ActorHealth, EngineHealth};

/// For how long a message may wait while its actor finishes none. Handlers answer from memory or wait for a commit of milliseconds.
const STUCK_AFTER: Duration = Duration::from_secs(3);
/// The number of restarts of one actor within a minute that is a storm: half of what the supervisor tolerates.
const STORM: usize = 5;
/// The free space below which the next commits may fail, in bytes: sixteen segments of the engine's log.
const DISK_FULL: u64 = 8 * 1024 * 1024;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// The process is stopping.
    Stopping,
    /// The store does not take a write and return it.
    Store,
    /// The disk is so full that the next commits may fail.
    DiskFull,
    /// Less of the disk is free than `MIN_FREE_MIB`.
    DiskLow,
    /// A scheduled backup is due and was not made.
    BackupOverdue,
    /// An actor does not answer.
    Actor,
    /// An actor has messages and finishes none.
    StuckActor,
    /// An actor is restarted again and again.
    RestartStorm,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 8] = [
        Self::Stopping,
        Self::Store,
        Self::DiskFull,
        Self::DiskLow,
        Self::BackupOverdue,
        Self::Actor,
        Self::StuckActor,
        Self::RestartStorm,
    ];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Store => "store",
            Self::DiskFull => "disk_full",
            Self::DiskLow => "disk_low",
            Self::BackupOverdue => "backup_overdue",
            Self::Actor => "actor",
            Self::StuckActor => "stuck_actor",
            Self::RestartStorm => "restart_storm",
        }
    }

    /// Returns whether the process is not ready because of it.
    #[must_use]
    pub const fn blocks(self) -> bool {
        !matches!(self, Self::DiskLow | Self::BackupOverdue)
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// What is wrong.
    pub check: Check,
    /// With which actor, if it concerns one.
    pub actor: Option<String>,
}

impl Problem {
    pub(crate) const fn of(check: Check) -> Self {
        Self { check, actor: None }
    }

    pub(crate) fn with(check: Check, actor: &str) -> Self {
        Self { check, actor: Some(actor.to_owned()) }
    }
}

/// Returns what the figures tell, without asking any part. `min_free` is in bytes.
pub(crate) fn problems(stopping: bool, actors: &[ActorHealth], engine: &EngineHealth, min_free: u64) -> Vec<Problem> {
    let mut problems = Vec::new();
    if stopping {
        problems.push(Problem::of(Check::Stopping));
    }
    if engine.failure.is_some() {
        problems.push(Problem::of(Check::Store));
    }
    match engine.disk {
        Some(disk) if disk.free_bytes < DISK_FULL => problems.push(Problem::of(Check::DiskFull)),
        Some(disk) if disk.free_bytes < min_free => problems.push(Problem::of(Check::DiskLow)),
        _ => {}
    }
    for actor in actors {
        if !stopping && actor.state != "running" {
            problems.push(Problem::with(Check::Actor, &actor.name));
        }
        if is_stuck(actor) {
            problems.push(Problem::with(Check::StuckActor, &actor.name));
        }
        if actor.recent_restarts >= STORM {
            problems.push(Problem::with(Check::RestartStorm, &actor.name));
        }
    }
    problems
}

/// Returns whether an actor has messages and finishes none.
pub(crate) fn is_stuck(actor: &ActorHealth) -> bool {
    let since_progress = actor.since_progress.unwrap_or(Duration::MAX);
    actor.oldest_message.is_some_and(|oldest| oldest.min(since_progress) >= STUCK_AFTER)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::health::{DiskHealth, Sizes, Times, Vitals};
    use crate::testing::ManualClock;

    fn engine(free_bytes: u64) -> EngineHealth {
        EngineHealth {
            failure: None,
            commits: Times::of_times().read(),
            groups: Sizes::of_sizes().read(),
            waiting: 0,
            last_sync: None,
            disk: Some(DiskHealth { used_bytes: None, free_bytes }),
        }
    }

    fn found(actors: &[ActorHealth], engine: &EngineHealth) -> Vec<Problem> {
        problems(false, actors, engine, 1 << 28)
    }

    #[test]
    fn a_nearly_full_disk_does_not_block_and_a_full_one_does() {
        assert_eq!(found(&[], &engine(1 << 28)), []);
        assert_eq!(found(&[], &engine((1 << 28) - 1)), [Problem::of(Check::DiskLow)]);
        assert_eq!(found(&[], &engine(DISK_FULL)), [Problem::of(Check::DiskLow)]);
        assert_eq!(found(&[], &engine(DISK_FULL - 1)), [Problem::of(Check::DiskFull)]);
        assert!(!Check::DiskLow.blocks() && Check::DiskFull.blocks());
        assert_eq!(found(&[], &EngineHealth { disk: None, ..engine(0) }), []);
    }

    #[test]
    fn a_failed_store_and_a_stop_block() {
        let failed = EngineHealth { failure: Some("on purpose".to_owned()), ..engine(u64::MAX) };
        assert_eq!(problems(true, &[], &failed, 0), [Problem::of(Check::Stopping), Problem::of(Check::Store)]);
    }

    #[test]
    fn an_actor_is_stuck_if_its_messages_wait_and_none_is_finished() {
        let (vitals, clock) = (Vitals::new("x"), ManualClock::new());
        vitals.started(&clock);
        vitals.progressed(None, &clock);
        let seen = |waiting, oldest| [vitals.report(&clock, (waiting, oldest))];
        clock.advance(STUCK_AFTER);
        assert!(is_stuck(&seen(1, STUCK_AFTER)[0]) && !is_stuck(&seen(0, Duration::ZERO)[0]));
        assert_eq!(found(&seen(1, STUCK_AFTER), &engine(u64::MAX)), [Problem::with(Check::StuckActor, "x")]);
        assert_eq!(found(&seen(0, Duration::ZERO), &engine(u64::MAX)), [], "nothing waits");
        assert_eq!(found(&seen(1, STUCK_AFTER / 2), &engine(u64::MAX)), [], "it was idle before");
        vitals.progressed(None, &clock);
        assert_eq!(found(&seen(9, STUCK_AFTER), &engine(u64::MAX)), [], "it is slow, but works");
    }

    #[test]
    fn five_restarts_within_a_minute_are_a_storm() {
        let (vitals, clock) = (Vitals::new("x"), ManualClock::new());
        vitals.started(&clock);
        for restarts in 1..=STORM {
            vitals.started(&clock);
            let storm = found(&[vitals.report(&clock, (0, Duration::ZERO))], &engine(u64::MAX));
            assert_eq!(storm.is_empty(), restarts < STORM, "{storm:?}");
        }
        clock.advance(Duration::from_mins(1));
        assert_eq!(found(&[vitals.report(&clock, (0, Duration::ZERO))], &engine(u64::MAX)), []);
    }
}

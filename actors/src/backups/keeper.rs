use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{BackupHealth, BackupPlan};
use crate::domain::time::Timestamp;
use crate::leases::{LEASE_TIME, Lease, Leases};
use crate::ports::{BackupFailure, Clock};

/// The pause after a failed attempt, unless backups are due more often than this.
const RETRY_AFTER: Duration = Duration::from_mins(10);

/// Decides when a backup is due and remembers what became of it.
pub(crate) struct BackupKeeper {
    plan: BackupPlan,
    clock: Arc<dyn Clock>,
    leases: Leases,
    known: Mutex<Known>,
    /// Held by the look under way.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// When the newest backup was made. `None` if there is none or if that is not known.
    newest: Option<Timestamp>,
    failures: u64,
    last_error: Option<(Timestamp, String)>,
    /// Whether the last attempt failed.
    failed: bool,
    /// Until when on the monotonic clock nothing is attempted.
    pause_until: Duration,
    /// When the attempt under way began, on the monotonic clock.
    began: Option<Duration>,
}

impl BackupKeeper {
    pub(crate) fn new(plan: BackupPlan, clock: Arc<dyn Clock>, leases: Leases) -> Self {
        Self { plan, clock, leases, known: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Makes a backup if one is due and this node is the one that makes them.
    pub(super) async fn look(&self) {
        let _looking = self.looking.lock().await;
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        if monotonic < self.known().pause_until {
            return;
        }
        // Held also while no backup is due. Otherwise another node would take it and find none in its own directory.
        if !self.leases.hold(Lease::MakeBackup).await {
            // The figures of the node that makes the backups count.
            let mut known = self.known();
            let pause_until = monotonic.saturating_add(LEASE_TIME / 2);
            *known = Known { failures: known.failures, pause_until, ..Known::default() };
            return;
        }
        if self.known().newest.is_some_and(|newest| !self.is_due(newest, now)) {
            return;
        }
        self.known().began = Some(monotonic);
        let made = self.make(now).await;
        let mut known = self.known();
        known.began = None;
        match made {
            Ok(newest) => {
                known.newest = Some(newest);
                known.failed = false;
            }
            Err(failure) => {
                tracing::error!(%failure, "the scheduled backup failed");
                known.failures += 1;
                known.last_error = Some((self.clock.now(), failure.to_string()));
                known.failed = true;
                known.pause_until = self.clock.monotonic().saturating_add(RETRY_AFTER.min(self.plan.every));
            }
        }
    }

    /// Makes a backup unless the newest one is young enough. Returns when the newest one was made then.
    async fn make(&self, now: Timestamp) -> Result<Timestamp, BackupFailure> {
        match self.plan.vault.newest(now).await? {
            Some(newest) if !self.is_due(newest, now) => Ok(newest),
            _ => self.plan.vault.make().await,
        }
    }

    /// Returns whether a backup is due if the newest one was made then. A clock that was ahead when it was made delays none.
    fn is_due(&self, newest: Timestamp, now: Timestamp) -> bool {
        now < newest || now.since(newest) >= self.plan.every
    }

    /// Gives up the backup under way.
    pub(super) fn stop(&self) {
        self.plan.vault.stop();
    }

    /// Returns what is known of the backups.
    pub(crate) fn health(&self) -> BackupHealth {
        let (known, every) = (self.known(), self.plan.every);
        let took = known.began.map(|began| self.clock.monotonic().saturating_sub(began));
        BackupHealth {
            every,
            last_success: known.newest,
            failures: known.failures,
            last_error: known.last_error.clone(),
            overdue: known.failed || took.is_some_and(|took| took > every),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

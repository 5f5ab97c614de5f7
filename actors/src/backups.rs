//! Backups on a schedule. The keeper decides when one is due, and the vault makes it.

mod actor;
mod keeper;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use actor::BackupActor;
#[cfg(feature = "testing")]
pub(crate) use actor::Message;
pub(crate) use keeper::BackupKeeper;

use crate::domain::time::Timestamp;
use crate::ports::BackupVault;

/// When and by what backups are made.
#[derive(Clone)]
pub struct BackupPlan {
    /// How long after a backup the next one is due (`BACKUP_EVERY`).
    pub every: Duration,
    /// What makes and keeps them.
    pub vault: Arc<dyn BackupVault>,
}

/// What the schedule of backups reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHealth {
    /// How long after a backup the next one is due.
    pub every: Duration,
    /// When the newest backup was made. `None` if there is none, it is not known yet, or another node makes the backups.
    pub last_success: Option<Timestamp>,
    /// How many attempts failed since the process started.
    pub failures: u64,
    /// Why and when an attempt of this process last failed.
    pub last_error: Option<(Timestamp, String)>,
    /// Whether a backup is due that was not made: the last attempt failed, or has taken longer than the time between two.
    pub overdue: bool,
}

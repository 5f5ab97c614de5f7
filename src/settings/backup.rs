//! Backups on a schedule.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::time_unit;
use super::reader::{Reader, documented};
use super::table;

/// When the server makes backups by itself, and where it keeps them.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// How long after a backup the next one is due, 1 second to 366 days. `None` for never.
    pub every: Option<Duration>,
    /// How many are kept, 1 to 10,000.
    pub keep: usize,
    /// Where they are. `None` for `backups` in the data directory.
    pub dir: Option<PathBuf>,
}

impl BackupSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let every = reader.optional(&table::BACKUP_EVERY, time_unit);
        let keep = reader.integer(&table::BACKUP_KEEP);
        let dir = reader.optional_path(&table::BACKUP_DIR);
        Some(Self { every: every?, keep: keep?, dir: dir? })
    }
}

impl Default for BackupSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

//! The audit log.

use std::time::Duration;

use super::reader::{Reader, documented};
use super::table;

/// The limits of the audit log.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// The age at which a record is removed, 1 to 3,650 days.
    pub retention: Duration,
    /// The maximum size of the log, 1 MiB to 1 TiB, in bytes.
    pub max_bytes: u64,
}

impl AuditSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let days = reader.integer::<u64>(&table::AUDIT_RETENTION_DAYS);
        let mebibytes = reader.integer::<u64>(&table::AUDIT_MAX_MEBIBYTES);
        Some(Self { retention: Duration::from_hours(24 * days?), max_bytes: mebibytes? * 1024 * 1024 })
    }
}

impl Default for AuditSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

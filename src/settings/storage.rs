//! The data directory.

use std::path::PathBuf;

use super::reader::{Reader, documented};
use super::table;

/// Where the program keeps its persistent data.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// The directory of the database, the generated secrets and the mail spool. Relative to the working directory.
    pub data_dir: PathBuf,
    /// How much of its disk must be free, in bytes. With less, the health is degraded.
    pub min_free: u64,
}

impl StorageSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let data_dir = reader.path(&table::DATA_DIR);
        let min_free = reader.integer::<u64>(&table::MIN_FREE_MIB).map(|mebibytes| mebibytes * 1024 * 1024);
        Some(Self { data_dir: data_dir?, min_free: min_free? })
    }
}

impl Default for StorageSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

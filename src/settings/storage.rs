//! The data directory.

use std::path::PathBuf;

use super::reader::{Reader, documented};
use super::table;

/// Where the program keeps its persistent data.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// The directory of the database, the generated secrets and the mail spool. Relative to the working directory.
    pub data_dir: PathBuf,
}

impl StorageSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let data_dir = reader.path(&table::DATA_DIR);
        Some(Self { data_dir: data_dir? })
    }
}

impl Default for StorageSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

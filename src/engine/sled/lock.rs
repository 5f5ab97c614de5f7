//! The lock that gives one process exclusive ownership of a data directory.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use fs4::fs_std::FileExt as _;

use super::OpenError;

/// How often and how long to wait for another owner to release the lock: half a second in total. An ending process holds the lock
/// until the kernel has cleaned up. So does a forked child that has not yet executed its own program.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The exclusive ownership of a data directory, until this value is dropped. The kernel releases it when the process ends in any
/// way, so a killed process leaves no stale lock.
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of an existing data directory.
    pub(super) fn take(data_dir: &Path) -> Result<Self, OpenError> {
        let path = data_dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| OpenError::at(&path, error))?;
        for _ in 0..TRIES {
            match file.try_lock_exclusive() {
                Ok(true) => return Ok(Self { _file: file }),
                Ok(false) => std::thread::sleep(PAUSE),
                Err(error) => return Err(OpenError::at(&path, error)),
            }
        }
        Err(OpenError::InUse { data_dir: data_dir.to_owned() })
    }
}

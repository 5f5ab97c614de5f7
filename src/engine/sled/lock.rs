//! The data directory is owned by one process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use fs4::fs_std::FileExt as _;

use super::OpenError;

/// How often and how long to wait for another owner to go: half a second in all. A process that is just ending has the lock
/// until the kernel has cleared it away, and so has a child that was forked and has not begun its own program yet.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The exclusive ownership of a data directory, for as long as this lives. The kernel ends it with the process, however
/// that ends, so a kill leaves no stale lock behind.
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes a data directory, which exists.
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

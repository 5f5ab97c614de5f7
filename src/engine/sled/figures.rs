//! What is counted of the engine, and what its disk says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use doorward_actors::{DiskHealth, Sizes, Times};

use crate::files::free_bytes;

/// Marks that no group was made durable yet.
const NEVER: u64 = u64::MAX;

/// What the committer counts. Any thread may read it.
pub(super) struct Figures {
    /// How long commits took, from the first change of a group to the durable group.
    pub(super) commits: Times,
    /// How many changes a group had.
    pub(super) groups: Sizes,
    /// This is not the `Clock` port: no test needs to move it, and only ages are told.
    opened: Instant,
    /// When a group was last made durable, in milliseconds since `opened`.
    synced: AtomicU64,
}

impl Figures {
    pub(super) fn new() -> Self {
        Self {
            commits: Times::of_times(),
            groups: Sizes::of_sizes(),
            opened: Instant::now(),
            synced: AtomicU64::new(NEVER),
        }
    }

    /// Counts a group that was written. `durable` says whether it was flushed.
    pub(super) fn committed(&self, changes: usize, took: Duration, durable: bool) {
        self.groups.count(u64::try_from(changes).unwrap_or(u64::MAX));
        if durable {
            self.commits.count_time(took);
            self.synced.store(millis(self.opened.elapsed()), Ordering::Relaxed);
        }
    }

    /// Returns how long ago a group was last made durable.
    pub(super) fn last_sync(&self) -> Option<Duration> {
        let synced = self.synced.load(Ordering::Relaxed);
        (synced != NEVER).then(|| self.opened.elapsed().saturating_sub(Duration::from_millis(synced)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}

/// Asks the file system of a directory for its free space, and adds up the files below the directory.
/// The free space is told even if the files cannot be looked at.
pub(super) fn disk(dir: &Path) -> Option<DiskHealth> {
    let free_bytes = free_bytes(dir)
        .inspect_err(|error| tracing::warn!(%error, "the disk of the store cannot be asked for its free space"))
        .ok()?;
    let used = size_of(dir).inspect_err(|error| tracing::warn!(%error, "the size of the store cannot be told"));
    Some(DiskHealth { used_bytes: used.ok(), free_bytes })
}

/// Returns the size of all files below a directory. Files that vanish meanwhile are skipped.
fn size_of(dir: &Path) -> io::Result<u64> {
    let (mut bytes, mut folders) = (0, vec![PathBuf::from(dir)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(entry.path()),
                Ok(about) => bytes += about.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_directory_and_the_free_space_around_them_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("db"), [0; 1000]).unwrap();
        fs::write(dir.path().join("blobs/1"), [0; 234]).unwrap();
        let told = disk(dir.path()).unwrap();
        assert_eq!(told.used_bytes, Some(1234));
        assert!(told.free_bytes > 0);
        assert_eq!(disk(&dir.path().join("none")), None);
    }

    #[test]
    fn only_a_group_that_was_flushed_is_a_sync() {
        let figures = Figures::new();
        figures.committed(3, Duration::from_millis(2), false);
        assert_eq!((figures.last_sync(), figures.groups.read().sum(), figures.commits.read().count()), (None, 3, 0));
        figures.committed(4, Duration::from_millis(2), true);
        assert!(figures.last_sync().is_some());
        assert_eq!((figures.groups.read().sum(), figures.commits.read().count()), (7, 1));
    }
}

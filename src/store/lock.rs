//! The data directory: made private, owned by one process, and left in a state the engine can open.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
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

/// Makes a directory that only its owner may enter, with its parents, unless it exists. One that exists keeps the
/// permissions its owner gave it.
pub(super) fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes what a kill while the engine opened may have left and what would make it refuse to open again. Only under the
/// lock: another process may be in the middle of making these files.
pub(super) fn remove_leftovers(engine_dir: &Path) -> io::Result<()> {
    for path in files(engine_dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing what a start that was cut short left behind");
            std::fs::remove_file(&path)?;
        }
    }
    // The engine writes its parameters, in several pieces, before it makes its data file. Without the latter there is no
    // data yet, and the former may be incomplete.
    let parameters = engine_dir.join("conf");
    if parameters.exists() && !engine_dir.join("db").exists() {
        std::fs::remove_file(&parameters)?;
    }
    Ok(())
}

/// Makes the engine's files and their names durable; it does so itself only for what it writes later.
pub(super) fn sync_all(data_dir: &Path, engine_dir: &Path) -> io::Result<()> {
    for path in files(engine_dir)? {
        File::open(path)?.sync_all()?;
    }
    sync_dir(engine_dir)?;
    sync_dir(data_dir)
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

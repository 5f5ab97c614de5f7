//! Writes files and directories that must survive a power cut. A new name is durable only after its directory was synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Creates a directory that only its owner may enter, with its parents, unless it exists. An existing directory keeps its permissions.
/// All names that this creates are durable when it returns.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        // A start that was killed may have created the directory without syncing its name. The error is ignored: if the operator created
        // the directory, this process may lack the permission to open its parent, and the operator answers for its name.
        let _ = sync_dir(parent(path));
        return Ok(());
    }
    if !parent(path).is_dir() {
        create_private_dir(parent(path))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Another process may have created it first.
        Err(error) if !(error.kind() == io::ErrorKind::AlreadyExists && path.is_dir()) => return Err(error),
        _ => {}
    }
    sync_dir(parent(path))
}

/// Creates a file that only its owner can read. It must not exist yet.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Returns how many bytes this process can still write to the file system of a directory.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(dir)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Writes a file for its owner only, completely or not at all. The file is durable when this returns.
/// Until it is complete, it is named `unfinished`, in the same directory. A file that a kill left under that name is replaced.
pub(crate) fn write_whole(path: &Path, unfinished: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(unfinished)?;
    let written = (|| {
        let mut file = create_private(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(unfinished, path)
    })();
    if let Err(error) = written {
        // The file may not exist. Only the first error matters.
        let _ = fs::remove_file(unfinished);
        return Err(error);
    }
    sync_dir(parent(path))
}

/// What a file is called behind its name until it is complete.
const UNFINISHED: &str = ".unfinished";

/// A file for its owner only that appears under its name when it is complete. Until then it has `.unfinished` behind its name.
///
/// Meanwhile its process holds a lock on it, so no other process begins the same file.
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
    unfinished: PathBuf,
    complete: bool,
}

impl NewFile {
    /// Begins a file. A file that a kill left unfinished is replaced.
    ///
    /// # Errors
    /// `ResourceBusy` if somebody is writing the same file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        if fs::symlink_metadata(path).is_ok_and(|present| !present.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something that is no file"));
        }
        remove_unfinished(&unfinished)?;
        // Somebody may begin it at the same moment. One of the two gets the lock on the file that has the name.
        let created = create_private(&unfinished);
        let file =
            created.map_err(|error| if error.kind() == io::ErrorKind::AlreadyExists { busy() } else { error })?;
        file.try_lock().map_err(|_| busy())?;
        Ok(Self { file, path: path.to_owned(), unfinished, complete: false })
    }

    /// Opens what was written so far, from its beginning.
    pub(crate) fn reread(&self) -> io::Result<File> {
        File::open(&self.unfinished)
    }

    /// Makes the file durable and gives it its name, in the place of an older one.
    pub(crate) fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        self.complete = true;
        sync_dir(parent(&self.path))
    }
}

/// Removes a file that a kill left unfinished, if there is one.
///
/// # Errors
/// `ResourceBusy` if it is being written.
pub(crate) fn remove_unfinished(unfinished: &Path) -> io::Result<()> {
    let nonblocking_and_no_link = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(nonblocking_and_no_link.bits()).unwrap_or(0);
    let left = match OpenOptions::new().read(true).custom_flags(flags).open(unfinished) {
        Ok(left) => left,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    left.try_lock().map_err(|_| busy())?;
    // With the lock, nobody is writing the file that was opened. Another one may have its name by now.
    let (opened, named) = (left.metadata()?, fs::symlink_metadata(unfinished)?);
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(busy());
    }
    remove_if_there(unfinished).map(drop)
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing this file")
}

impl io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.complete {
            // A file that stays is removed when somebody begins it again.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Removes a file and returns whether it existed. The caller syncs the directory.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer_at_a_time_and_what_a_kill_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(dir.path().join("a.unfinished"), "left by a kill").unwrap();
        let mut first = NewFile::create(&path).unwrap();
        let second = NewFile::create(&path).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        first.write_all(b"whole").unwrap();
        first.complete().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        // One that was given up leaves nothing and harms nothing.
        drop(NewFile::create(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn an_unfinished_file_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("other"), "kept").unwrap();
        std::os::unix::fs::symlink("other", dir.path().join("a.unfinished")).unwrap();
        assert!(NewFile::create(&dir.path().join("a")).is_err());
        assert_eq!(fs::read(dir.path().join("other")).unwrap(), b"kept");
    }
}

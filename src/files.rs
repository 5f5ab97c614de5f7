//! Writes files and directories that must survive a power cut. A new name is durable only after its directory was synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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

/// Writes a file for its owner only, completely or not at all. The file is durable when this returns.
/// Until it is complete, it is named `unfinished`, in the same directory. A file that a kill left under that name is replaced.
pub(crate) fn write_whole(path: &Path, unfinished: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(unfinished)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished)?;
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

/// A file for its owner only that appears under its name when it is complete. Until then it has `.unfinished` behind its name.
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
    unfinished: PathBuf,
}

impl NewFile {
    /// Begins a file. A file that a kill left unfinished is replaced.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        if fs::symlink_metadata(path).is_ok_and(|present| !present.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something that is no file"));
        }
        remove_if_there(&unfinished)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, path: path.to_owned(), unfinished })
    }

    /// Makes the file durable and gives it its name, in the place of an older one.
    pub(crate) fn complete(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        sync_dir(parent(&self.path))
    }
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
        // After `complete` there is no such file.
        let _ = fs::remove_file(&self.unfinished);
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

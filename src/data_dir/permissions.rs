//! Who else may use what a data directory keeps.
//!
//! The directory itself may belong to a group, as a volume with Kubernetes' `fsGroup` does: each time it mounts one, Kubernetes
//! gives the group every file in it. What is secret in there is then put right, which its owner may do.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::engine::sled::OpenError;

/// The directories of a data directory that hold secrets: hashes, signing keys, and mails with links that open accounts.
const DIRECTORIES: [&str; 3] = ["db", "keys", "mail"];
/// The secrets that are files of their own.
const FILES: [&str; 2] = ["secret_key", "service_token"];
/// The bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// The bits of everybody but the owner and the group.
const EVERYBODY: u32 = 0o007;
/// What lets the group write.
const GROUP_WRITES: u32 = 0o020;
/// What lets everybody write.
const EVERYBODY_WRITES: u32 = 0o002;

/// Keeps others away from the secrets of a data directory, if it exists, and says which were open to them.
///
/// A directory with secrets that others may enter is put right. So are the secret files of a data directory that is its group's;
/// anywhere else, and when everybody may read them, they are refused where they are read.
///
/// # Errors
/// A directory that everybody may enter cannot be put right.
pub(crate) fn protect(data_dir: &Path) -> Result<(), OpenError> {
    let Some(mode) = mode(data_dir)? else { return Ok(()) };
    if mode & (GROUP_WRITES | EVERYBODY_WRITES) != 0 {
        let path = data_dir.display();
        let who = if mode & EVERYBODY_WRITES == 0 { "its group" } else { "everybody on this machine" };
        tracing::warn!(%path, mode = %octal(mode), "{who} may replace the data in the data directory; what is secret in it is kept from them");
    }
    for directory in DIRECTORIES {
        restrict(&data_dir.join(directory), 0o700)?;
    }
    if mode & GROUP_WRITES != 0 {
        let files = FILES.iter().map(|name| data_dir.join(name)).chain(files_in(&data_dir.join("keys"))?);
        for file in files {
            if is_of_its_group(&file)? {
                restrict(&file, 0o600)?;
            }
        }
    }
    Ok(())
}

/// Takes from others what they may do with a file or directory that exists.
fn restrict(path: &Path, wanted: u32) -> Result<(), OpenError> {
    let Some(before) = mode(path)?.filter(|mode| mode & OTHERS != 0) else { return Ok(()) };
    let changed = fs::set_permissions(path, Permissions::from_mode(wanted));
    let after = mode(path)?.unwrap_or_default();
    let shown = path.display();
    if after & OTHERS == 0 {
        tracing::warn!(path = %shown, before = %octal(before), now = %octal(after), "others might use what is secret: put right");
        return Ok(());
    }
    if after & EVERYBODY == 0 {
        tracing::warn!(path = %shown, mode = %octal(after), "its group may use what is secret, and that cannot be changed");
        return Ok(());
    }
    let why = changed.err().map_or_else(|| "the file system keeps its mode".to_owned(), |error| error.to_string());
    let problem =
        format!("everybody may use it (mode {}) and that cannot be changed ({why}): chmod {wanted:o}", octal(after));
    Err(OpenError::at(path, io::Error::new(io::ErrorKind::PermissionDenied, problem)))
}

/// Whether the group may use a file that everybody may not.
fn is_of_its_group(path: &Path) -> Result<bool, OpenError> {
    Ok(mode(path)?.is_some_and(|mode| mode & OTHERS != 0 && mode & EVERYBODY == 0))
}

/// The nine bits of a mode; `None` where there is nothing.
fn mode(path: &Path) -> Result<Option<u32>, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.permissions().mode() & 0o777)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(OpenError::at(path, error)),
    }
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(OpenError::at(directory, error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(|error| OpenError::at(directory, error))
}

fn octal(mode: u32) -> String {
    format!("{mode:03o}")
}

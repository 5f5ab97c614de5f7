//! Protects the secrets of a data directory from other users of the machine.
//!
//! The directory itself may belong to a group, as a volume with Kubernetes' `fsGroup` does. Each time Kubernetes mounts the volume, it
//! gives the group access to every file in it. This module then restricts the secret ones again, which their owner may do.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::engine::sled::OpenError;

/// The directories that hold secrets: hashes, signing keys, mails with links that open accounts, the socket that
/// gives all of them, and backups.
const DIRECTORIES: [&str; 6] = ["db", "keys", "mail", "control", "restoring", "backups"];
/// The secret files outside those directories.
const FILES: [&str; 2] = ["secret_key", "service_token"];
/// The permission bits of everyone but the owner.
const OTHERS: u32 = 0o077;
/// The permission bits of everyone but the owner and the group.
const EVERYBODY: u32 = 0o007;
/// The permission bit that lets the group write.
const GROUP_WRITES: u32 = 0o020;
/// The permission bit that lets everyone write.
const EVERYBODY_WRITES: u32 = 0o002;

/// Restricts the secrets of a data directory, if it exists, to their owner, and logs which of them others could use.
///
/// Always restricts a directory of secrets. Restricts a secret file only if the group may write to the data directory and everyone
/// else may not use the file. All other secret files that others may use are refused when they are read.
///
/// # Errors
/// A directory of secrets that everyone may use, and whose mode cannot be changed.
pub(crate) fn protect(data_dir: &Path) -> Result<(), OpenError> {
    let Some(mode) = mode(data_dir)? else { return Ok(()) };
    if mode & (GROUP_WRITES | EVERYBODY_WRITES) != 0 {
        let path = data_dir.display();
        let who = if mode & EVERYBODY_WRITES == 0 { "its group" } else { "everybody on this machine" };
        tracing::warn!(%path, mode = %octal(mode), "{who} can replace the data in the data directory, but cannot read the secrets in it");
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

/// Removes the permissions of others from a file or directory, if it exists.
fn restrict(path: &Path, wanted: u32) -> Result<(), OpenError> {
    let Some(before) = mode(path)?.filter(|mode| mode & OTHERS != 0) else { return Ok(()) };
    let changed = fs::set_permissions(path, Permissions::from_mode(wanted));
    let after = mode(path)?.unwrap_or_default();
    let shown = path.display();
    if after & OTHERS == 0 {
        tracing::warn!(path = %shown, before = %octal(before), now = %octal(after), "others could use secrets here; the permissions were put right");
        return Ok(());
    }
    if after & EVERYBODY == 0 {
        tracing::warn!(path = %shown, mode = %octal(after), "its group can use secrets here, and the permissions cannot be changed");
        return Ok(());
    }
    let why = changed.err().map_or_else(|| "the file system keeps its mode".to_owned(), |error| error.to_string());
    let problem =
        format!("everybody may use it (mode {}) and that cannot be changed ({why}): chmod {wanted:o}", octal(after));
    Err(OpenError::at(path, io::Error::new(io::ErrorKind::PermissionDenied, problem)))
}

/// Returns whether the group may use a file, but not everyone.
fn is_of_its_group(path: &Path) -> Result<bool, OpenError> {
    Ok(mode(path)?.is_some_and(|mode| mode & OTHERS != 0 && mode & EVERYBODY == 0))
}

/// Returns the nine permission bits of a mode; `None` if nothing exists at the path.
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

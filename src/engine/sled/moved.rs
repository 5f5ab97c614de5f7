//! The mark of a data directory whose content went elsewhere for good: no program starts with it any more.
//!
//! `doorward backup --move` writes it. A restore of such a backup may keep the sessions only because nothing changes here any more.

use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::files;

/// The name of the file in the data directory.
const FILE: &str = "moved.json";

/// Marks a data directory. The caller holds its lock.
pub(crate) fn mark(data_dir: &Path, at: &str) -> io::Result<()> {
    let path = path(data_dir);
    let text = serde_json::to_vec(&serde_json::json!({ "version": 1, "at": at }))?;
    files::write_whole(&path, &path.with_extension("json.new"), &text)
}

/// Removes the mark, because the move failed.
pub(crate) fn unmark(data_dir: &Path) -> io::Result<()> {
    files::remove_if_there(&path(data_dir))?;
    files::sync_dir(data_dir)
}

/// Refuses a marked data directory.
pub(super) fn check(data_dir: &Path) -> Result<(), OpenError> {
    let path = path(data_dir);
    match path.try_exists() {
        Ok(true) => Err(OpenError::Moved { path }),
        Ok(false) => Ok(()),
        Err(error) => Err(OpenError::at(&path, error)),
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

//! What is known of the engine outside of it: that there is one, and how many commits it holds at least.
//!
//! An engine that lost its files, or a part of them, may come up as an empty or an older one and say nothing about it. So
//! `witness.json`, beside the engine's directory, keeps a number of commits that were durable before it was written: at each
//! start, once a minute while there are commits, and at an orderly stop. An engine with fewer is refused.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::OpenError;
use crate::files;

/// The file in the data directory.
const FILE: &str = "witness.json";
/// Its layout.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    commits: u64,
}

/// The witness of one data directory.
pub(super) struct Witness {
    path: PathBuf,
}

impl Witness {
    /// That of this data directory. Nothing is read yet.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// How many commits the engine held at least; `None` if no engine was ever noted here, as in a new directory and in one of
    /// an older version.
    pub(super) fn commits(&self) -> Result<Option<u64>, OpenError> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| OpenError::at(&self.path, error))?,
        };
        match serde_json::from_str(&text) {
            Ok(Stored { version: VERSION, commits }) => Ok(Some(commits)),
            _ => Err(OpenError::Unreadable { path: self.path.clone() }),
        }
    }

    /// Notes that this many commits are durable. They must be.
    pub(super) fn note(&self, commits: u64) -> io::Result<()> {
        let text = serde_json::to_vec(&Stored { version: VERSION, commits })?;
        files::write_whole(&self.path, &self.path.with_extension("json.new"), &text)
    }

    /// Forgets the engine, so that the next start takes what it finds. Says whether anything was noted.
    pub(super) fn forget(&self, data_dir: &Path) -> Result<bool, OpenError> {
        let at = |error| OpenError::at(&self.path, error);
        let noted = files::remove_if_there(&self.path).map_err(at)?;
        files::sync_dir(data_dir).map_err(at)?;
        Ok(noted)
    }
}

//! The witness file: proof, outside the engine, that the engine exists and holds at least this number of commits.
//!
//! An engine that lost some or all of its files may open as an empty or older one without an error. So `witness.json`, beside the
//! engine's directory, holds a number of commits that were durable before it was written. It is written at each start, once a minute
//! while there are commits, and at an orderly stop. An engine with fewer commits is refused.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::OpenError;
use crate::files;

/// The name of the file in the data directory.
const FILE: &str = "witness.json";
/// The version of its format.
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
    /// Returns the witness of this data directory. Reads nothing yet.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// Returns the minimum number of commits in the engine. Returns `None` if no engine was ever noted here, as in a new directory or one
    /// of an older version.
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

    /// Notes this number of commits. The caller has made them durable.
    pub(super) fn note(&self, commits: u64) -> io::Result<()> {
        let text = serde_json::to_vec(&Stored { version: VERSION, commits })?;
        files::write_whole(&self.path, &self.path.with_extension("json.new"), &text)
    }

    /// Forgets the noted number. The next start then accepts the data that it finds. Returns whether a number was noted.
    pub(super) fn forget(&self, data_dir: &Path) -> Result<bool, OpenError> {
        let at = |error| OpenError::at(&self.path, error);
        let noted = files::remove_if_there(&self.path).map_err(at)?;
        files::sync_dir(data_dir).map_err(at)?;
        Ok(noted)
    }
}

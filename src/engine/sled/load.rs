//! Fills an engine from a backup, in a place of its own, and puts it in its final place when it is complete.
//!
//! Until then the engine is in `restoring/` in the data directory. A start refuses a data directory that has `restoring/` and no
//! database. If both are there, the restore had been completed, and `restoring/` only remained.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::store;
use doorward_actors::store::engine::{Fault, Row, Rows, View};
use doorward_actors::store::migrations::{MigrationError, Progress};
use fs4::fs_std::FileExt as _;

use super::lock::DirLock;
use super::witness::Witness;
use super::{OpenError, SledOptions, Tree, moved, open};
use crate::files::{self, sync_dir};

/// The directory in the data directory in which an engine is filled.
const STAGING: &str = "restoring";
/// How often and how long to wait until the engine has closed its files: 10 s in total.
const CLOSE_TRIES: u32 = 1000;
const CLOSE_PAUSE: Duration = Duration::from_millis(10);

/// An engine that is being filled. If it is dropped before [`finish`](Self::finish), nothing remains of it.
pub(crate) struct Loader {
    data_dir: PathBuf,
    staging: PathBuf,
    /// `None` after it was closed.
    db: Option<sled::Db>,
    _lock: Arc<DirLock>,
}

/// Refuses a data directory in which a restore was interrupted. Removes what a completed one left.
pub(super) fn check(data_dir: &Path) -> Result<(), OpenError> {
    let staging = data_dir.join(STAGING);
    if !staging.exists() {
        return Ok(());
    }
    if !open::dir(data_dir).exists() {
        return Err(OpenError::HalfRestored { path: staging });
    }
    std::fs::remove_dir_all(&staging).map_err(|error| OpenError::at(&staging, error))
}

impl Loader {
    /// Begins to fill the engine of a data directory, which is created if it does not exist. Removes what an interrupted restore left.
    ///
    /// # Errors
    /// [`OpenError::NotEmpty`] if there is or was an engine.
    pub(crate) fn begin(data_dir: &Path, options: SledOptions) -> Result<Self, OpenError> {
        files::create_private_dir(data_dir).map_err(|error| OpenError::at(data_dir, error))?;
        let lock = Arc::new(DirLock::take(data_dir)?);
        moved::check(data_dir)?;
        let engine_dir = open::dir(data_dir);
        if engine_dir.exists() || Witness::of(data_dir).commits()?.is_some() {
            return Err(OpenError::NotEmpty { data_dir: data_dir.to_owned() });
        }
        let staging = data_dir.join(STAGING);
        let at = |error| OpenError::at(&staging, error);
        if staging.exists() {
            std::fs::remove_dir_all(&staging).map_err(at)?;
        }
        files::create_private_dir(&open::dir(&staging)).map_err(at)?;
        // If the engine does not open, the loader removes the directory.
        let mut loader = Self { data_dir: data_dir.to_owned(), staging, db: None, _lock: lock };
        loader.db = Some(open::open_files(&open::dir(&loader.staging), options)?);
        Ok(loader)
    }

    fn db(&self) -> Result<&sled::Db, OpenError> {
        self.db.as_ref().ok_or_else(|| OpenError::Engine("it is closed".to_owned()))
    }

    /// Adds rows.
    pub(crate) fn put(&self, rows: &[Row]) -> Result<(), OpenError> {
        let mut batch = sled::Batch::default();
        for (key, value) in rows {
            batch.insert(key.as_slice(), value.as_slice());
        }
        Ok(self.db()?.apply_batch(batch)?)
    }

    /// Reads the rows.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&dyn Rows) -> Result<T, Fault>) -> Result<T, OpenError> {
        Ok(read(&Tree(self.db()?))?)
    }

    /// Makes a step of a longer change.
    pub(crate) fn step(
        &mut self,
        step: impl FnOnce(&mut dyn View) -> Result<Progress, MigrationError>,
    ) -> Result<Progress, OpenError> {
        open::apply(self.db()?, step)
    }

    /// Makes the engine durable and puts it in its place.
    pub(crate) fn finish(mut self) -> Result<(), OpenError> {
        let commits = self.read(store::commits_of)?;
        self.db()?.flush()?;
        drop(self.db.take());
        let (filled, engine_dir) = (open::dir(&self.staging), open::dir(&self.data_dir));
        let at = |error| OpenError::at(&filled, error);
        self.wait_until_closed()?;
        open::sync_files(&filled).map_err(at)?;
        std::fs::rename(&filled, &engine_dir).map_err(at)?;
        // The restore is complete here. Whatever fails now is made up for at the next start.
        let witness = Witness::of(&self.data_dir);
        sync_dir(&self.data_dir).and_then(|()| witness.note(commits)).map_err(at)
    }

    /// Waits until the engine's threads, which may still write, have closed its files.
    fn wait_until_closed(&self) -> Result<(), OpenError> {
        let path = open::dir(&self.staging).join("db");
        let file = std::fs::File::open(&path).map_err(|error| OpenError::at(&path, error))?;
        for _ in 0..CLOSE_TRIES {
            if file.try_lock_exclusive().map_err(|error| OpenError::at(&path, error))? {
                return Ok(());
            }
            std::thread::sleep(CLOSE_PAUSE);
        }
        Err(OpenError::Engine("it did not close its files".to_owned()))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            drop(db);
            // The engine may still write, and would then leave a file in a directory that is being removed.
            let _ = self.wait_until_closed();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.staging)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.staging.display(), "what was begun could not be removed");
        }
    }
}

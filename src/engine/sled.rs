//! The engine on disk: [`SledEngine`] keeps its rows in one embedded sled tree.
//!
//! Reads go directly to the tree, which answers from its cache in a few microseconds.
//! Writes go through one committer thread. An acknowledged write has reached the disk.
//!
//! - `open`: the checks before a directory is used.
//! - `committer`: the group commit.
//! - `export`: all rows at one point, while commits go on.
//! - `recent`: a cache of the rows that every token check reads.
//! - `heads`, `sync` and `witness`: protection against power cuts.
//! - `load` and `moved`: filling an engine from a backup, and the mark of one that moved away.
//! - `lock`: the exclusive lock of the directory.
//! - `health`: the failed state of the engine.
//! - `figures`: what is counted, and the free space of the disk.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::store::chain::verify::{self, AuditReport};
use doorward_actors::store::engine::{Change, Engine, Export, Fault, Question, Row, Rows};
use doorward_actors::store::feed::Feed;
use doorward_actors::store::{Store, StoreFailure, layout, migrations};
use doorward_actors::{AuditHead, EngineHealth};

mod committer;
#[cfg(test)]
mod committer_tests;
mod error;
mod export;
mod figures;
mod heads;
mod health;
mod load;
mod lock;
pub(crate) mod moved;
mod open;
mod recent;
mod sync;
mod witness;

use committer::{Committer, Durable, Progress, Writer};
pub use error::OpenError;
use export::Exports;
use figures::Figures;
use health::Health;
pub(crate) use load::Loader;
use lock::DirLock;
use recent::{Recent, RecentRows};
use witness::Witness;

use crate::files;

/// How long a caller waits for a change to be durable.
/// A healthy disk needs milliseconds and a busy one a second. A disk that needs longer than this does not recover, and the clients have
/// given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The size of the engine's cache, in bytes. The default of sled is 1 GiB.
const CACHE_BYTES: u64 = 48 * 1024 * 1024;
/// How often the number of commits is written to the witness file, while there are commits.
const WITNESS_EVERY: Duration = Duration::from_mins(1);

/// The options to open an engine with.
#[derive(Debug, Clone, Copy)]
pub struct SledOptions {
    /// How long a caller waits for a change to be durable. A change that takes longer fails the engine for good.
    pub write_deadline: Duration,
    /// The size of the engine's cache, in bytes.
    pub cache_bytes: u64,
    /// How often the number of commits is written to the witness file, while there are commits.
    pub witness_every: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { write_deadline: WRITE_DEADLINE, cache_bytes: CACHE_BYTES, witness_every: WITNESS_EVERY }
    }
}

/// The durable rows of one data directory. The engine owns the directory exclusively while it is open.
///
/// After the first storage error, or a write past its deadline, the engine is *failed*: it refuses every call.
/// It refuses reads too, because they could show changes that never reached the disk.
/// Only a restart of the process helps; see [`failed`](Self::failed).
pub struct SledEngine {
    // Declared before the tree and so dropped first: the queued changes still need the tree.
    committer: Committer,
    /// `None` after the engine was closed.
    open: Arc<RwLock<Option<Open>>>,
    health: Arc<Health>,
    recent: Arc<RecentRows>,
    feed: Arc<Feed>,
    exports: Arc<Exports>,
    figures: Arc<Figures>,
    /// The directory of the engine's files.
    dir: PathBuf,
}

/// The open tree. The lock is the last field: it is released after the tree has closed its files.
struct Open {
    db: sled::Db,
    _lock: Arc<DirLock>,
}

/// The rows of a tree.
pub(super) struct Tree<'a>(pub(super) &'a sled::Tree);

fn failed(error: &sled::Error) -> Fault {
    Fault::Engine(error.to_string())
}

impl Rows for Tree<'_> {
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.get(key).map_err(|error| failed(&error))?.map(|value| value.to_vec()))
    }

    fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        self.0.contains_key(key).map_err(|error| failed(&error))
    }

    fn range_raw(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault> {
        let rows = self.0.range::<&[u8], _>((from, to)).take(limit);
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(|error| failed(&error))).collect()
    }
}

/// Builds the batch that writes these rows. `None` removes a row.
fn batch(writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.insert(key.as_slice(), value.as_slice()),
            None => batch.remove(key.as_slice()),
        }
    }
    batch
}

impl SledEngine {
    /// Opens a data directory. Creates it, accessible only to its owner, if it does not exist. Blocks until recovery has finished.
    pub fn open(data_dir: &Path, options: SledOptions) -> Result<Self, OpenError> {
        files::create_private_dir(data_dir).map_err(|error| OpenError::at(data_dir, error))?;
        let lock = Arc::new(DirLock::take(data_dir)?);
        moved::check(data_dir)?;
        let (db, commits) = open::open_or_make(data_dir, options)?;

        let health = Arc::new(Health::new());
        let recent = Arc::new(RecentRows::new(layout::ALL_ACCOUNTS));
        let feed = Arc::new(Feed::over(&Tree(&db))?);
        let exports = Arc::new(Exports::default());
        let figures = Arc::new(Figures::new());
        let writer = Writer {
            db: db.clone(),
            figures: Arc::clone(&figures),
            health: Arc::clone(&health),
            recent: Arc::clone(&recent),
            feed: Arc::clone(&feed),
            exports: Arc::clone(&exports),
            progress: Progress::new(Witness::of(data_dir), commits, options.witness_every),
            unflushed: false,
            _lock: Arc::clone(&lock),
        };
        let committer =
            Committer::start(writer, options.write_deadline).map_err(|error| OpenError::at(data_dir, error))?;
        let open = Arc::new(RwLock::new(Some(Open { db, _lock: lock })));
        Ok(Self { committer, open, health, recent, feed, exports, figures, dir: open::dir(data_dir) })
    }

    /// Returns a store on top of this engine. A change that makes the audit log larger than `audit_max_bytes` removes its oldest records.
    #[must_use]
    pub fn into_store(self, audit_max_bytes: u64) -> Store {
        Store::new(Arc::new(self), audit_max_bytes)
    }

    /// Verifies the audit log of a data directory that no process has open. Needs constant memory and changes no record.
    ///
    /// `expected` is an audit head that was noted elsewhere.
    ///
    /// # Errors
    /// [`OpenError::Older`] if the directory has an older layout, because its audit log has no chain yet.
    pub fn verify_audit(
        data_dir: &Path,
        options: SledOptions,
        expected: Option<AuditHead>,
    ) -> Result<AuditReport, OpenError> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no database");
        if !open::dir(data_dir).join("db").is_file() && Witness::of(data_dir).commits()?.is_none() {
            return Err(OpenError::at(&open::dir(data_dir), missing()));
        }
        let _lock = DirLock::take(data_dir)?;
        let db = open::open(data_dir, options)?;
        let rows = Tree(&db);
        match migrations::layout_of(&rows)? {
            Some(migrations::CURRENT) => Ok(verify::walk(&rows, expected)?),
            Some(found) => Err(OpenError::Older { found, known: migrations::CURRENT }),
            None => Err(OpenError::Corrupt("it has no layout version".to_owned())),
        }
    }

    /// Forgets how many commits the engine of a data directory held. The next start then accepts the data that it finds.
    ///
    /// This is for an operator who removed the engine or restored an older copy on purpose. An engine directory without data is
    /// renamed to `db.lost`. Returns whether a number of commits was noted.
    pub fn accept_older_data(data_dir: &Path) -> Result<bool, OpenError> {
        let _lock = DirLock::take(data_dir)?;
        open::put_aside_if_empty(data_dir)?;
        Witness::of(data_dir).forget(data_dir)
    }

    /// Makes the queued changes durable, refuses all further calls and releases the directory, which can then be opened again.
    /// Blocks for at most the write deadline. Dropping the engine does the same and ignores the error.
    pub fn close(&self) -> Result<(), StoreFailure> {
        let outcome = self.committer.close();
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
        outcome
    }

    /// Completes with the reason when the engine fails; the process should then exit and be restarted. Never completes otherwise.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.health.failed()
    }
}

/// Reads from the tree on the calling thread.
fn read<T>(
    open: &RwLock<Option<Open>>,
    health: &Health,
    read: impl FnOnce(&Tree<'_>) -> Result<T, Fault>,
) -> Result<T, StoreFailure> {
    health.check()?;
    let open = open.read().unwrap_or_else(PoisonError::into_inner);
    let open = open.as_ref().ok_or_else(|| StoreFailure::permanent("it is closed"))?;
    read(&Tree(&open.db)).map_err(|fault| match fault {
        Fault::Engine(_) => health.fail(fault.to_string()),
        Fault::Record(_) => {
            tracing::error!(error = %fault, "a record could not be read");
            StoreFailure::permanent(fault)
        }
    })
}

#[async_trait]
impl Engine for SledEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFailure> {
        read(&self.open, &self.health, |rows| match self.recent.read(key) {
            Recent::Known(value) => Ok(Some(value)),
            Recent::Unknown(number) => {
                let value = rows.get_raw(key)?;
                if let Some(value) = &value {
                    self.recent.keep(key, number, value);
                }
                Ok(value)
            }
            Recent::Never => rows.get_raw(key),
        })
    }

    async fn ask(&self, mut question: Question) -> Result<(), StoreFailure> {
        let (open, health) = (Arc::clone(&self.open), Arc::clone(&self.health));
        tokio::task::spawn_blocking(move || read(&open, &health, |rows| question(rows)))
            .await
            .unwrap_or_else(|_| Err(StoreFailure::permanent("a read was cut short")))
    }

    async fn commit(&self, change: Change) -> Result<(), StoreFailure> {
        self.committer.change(change, Durable::Now).await
    }

    async fn commit_soon(&self, change: Change) -> Result<(), StoreFailure> {
        self.committer.change(change, Durable::Soon).await
    }

    async fn export(&self) -> Result<Box<dyn Export>, StoreFailure> {
        let (open, health, exports) = (Arc::clone(&self.open), Arc::clone(&self.health), Arc::clone(&self.exports));
        tokio::task::spawn_blocking(move || export::open(open, health, exports))
            .await
            .unwrap_or_else(|_| Err(StoreFailure::permanent("an export was cut short")))
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The lock of the data directory keeps other processes out.
    fn is_shared(&self) -> bool {
        false
    }

    fn health(&self) -> EngineHealth {
        EngineHealth {
            failure: self.health.reason(),
            commits: self.figures.commits.read(),
            groups: self.figures.groups.read(),
            waiting: self.committer.waiting(),
            last_sync: self.figures.last_sync(),
            disk: figures::disk(&self.dir),
        }
    }

    fn fail(&self, why: String) -> StoreFailure {
        self.health.fail(why)
    }
}

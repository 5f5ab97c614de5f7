//! The engine on disk: [`SledEngine`] keeps rows in one embedded sled tree.
//!
//! Reads go straight to the tree, which answers from its cache in a few microseconds. Writes go through one committer
//! thread, and what is acknowledged has reached the disk. The modules: `open` (what has to hold before a directory is used),
//! `committer` (how changes become durable together), `recent` (rows that every check reads), `heads`, `sync` and `witness`
//! (power cuts), `lock` and `health`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::AuditHead;
use doorward_actors::store::chain::verify::{self, AuditReport};
use doorward_actors::store::engine::{Change, Engine, Fault, Question, Row, Rows};
use doorward_actors::store::feed::Feed;
use doorward_actors::store::{Store, StoreFailure, layout, migrations};

mod committer;
#[cfg(test)]
mod committer_tests;
mod error;
mod heads;
mod health;
mod lock;
mod open;
mod recent;
mod sync;
mod witness;

use committer::{Committer, Progress, Writer};
pub use error::OpenError;
use health::Health;
use lock::DirLock;
use recent::{Recent, RecentRows};
use witness::Witness;

use crate::files;

/// How long a caller waits for a change to be durable. A healthy disk needs milliseconds, a busy one a second; one that
/// takes this long is not coming back, and clients have given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// What the engine keeps in memory. Its own default is 1 GiB.
const CACHE_BYTES: u64 = 48 * 1024 * 1024;
/// How often the number of commits is noted outside the engine while there are commits.
const WITNESS_EVERY: Duration = Duration::from_mins(1);

/// How an engine is opened.
#[derive(Debug, Clone, Copy)]
pub struct SledOptions {
    /// How long a caller waits for a change to be durable; one that takes longer fails the engine for good.
    pub write_deadline: Duration,
    /// How much the engine keeps in memory, in bytes.
    pub cache_bytes: u64,
    /// How often the number of commits is noted outside the engine, while there are any.
    pub witness_every: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { write_deadline: WRITE_DEADLINE, cache_bytes: CACHE_BYTES, witness_every: WITNESS_EVERY }
    }
}

/// The durable rows of one data directory, which it owns alone while it is open.
///
/// After the first storage error, or a write that took too long, it is *failed*: it refuses every call, reads too, as
/// those could show changes that never reached the disk. Only a restart of the process helps; see [`failed`](Self::failed).
pub struct SledEngine {
    // Before the tree: it is closed first, so that what is queued still finds the tree.
    committer: Committer,
    /// `None` once closed.
    open: Arc<RwLock<Option<Open>>>,
    health: Arc<Health>,
    recent: Arc<RecentRows>,
    feed: Arc<Feed>,
}

/// The open tree. The lock comes last, as it goes after the tree has let go of its files.
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

/// The batch that writes these rows; `None` removes one.
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
    /// Opens a data directory; makes it, for its owner alone, if it does not exist. Blocks, for as long as recovery takes.
    pub fn open(data_dir: &Path, options: SledOptions) -> Result<Self, OpenError> {
        files::create_private_dir(data_dir).map_err(|error| OpenError::at(data_dir, error))?;
        let lock = Arc::new(DirLock::take(data_dir)?);
        let (db, commits) = open::open_or_make(data_dir, options)?;

        let health = Arc::new(Health::new());
        let recent = Arc::new(RecentRows::new(layout::ALL_ACCOUNTS));
        let feed = Arc::new(Feed::over(&Tree(&db))?);
        let writer = Writer {
            db: db.clone(),
            health: Arc::clone(&health),
            recent: Arc::clone(&recent),
            feed: Arc::clone(&feed),
            progress: Progress::new(Witness::of(data_dir), commits, options.witness_every),
            _lock: Arc::clone(&lock),
        };
        let committer =
            Committer::start(writer, options.write_deadline).map_err(|error| OpenError::at(data_dir, error))?;
        let open = Arc::new(RwLock::new(Some(Open { db, _lock: lock })));
        Ok(Self { committer, open, health, recent, feed })
    }

    /// The store in this engine. A change that makes the audit log larger than this, in bytes, removes its oldest records.
    #[must_use]
    pub fn into_store(self, audit_max_bytes: u64) -> Store {
        Store::new(Arc::new(self), audit_max_bytes)
    }

    /// Walks over the audit log of a data directory that no process has open, in constant memory. `expected` is a head that
    /// was noted elsewhere. Changes no record; a directory of an older layout is refused, as it has no chain yet.
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

    /// Forgets how much the engine of a data directory held, so that the next start takes what it finds there. For an operator who
    /// put an older copy there, or removed the engine, on purpose. What is left of an engine without its data is put aside as
    /// `db.lost`. Says whether anything was known.
    pub fn accept_older_data(data_dir: &Path) -> Result<bool, OpenError> {
        let _lock = DirLock::take(data_dir)?;
        open::put_aside_if_empty(data_dir)?;
        Witness::of(data_dir).forget(data_dir)
    }

    /// Makes the queued changes durable, refuses all further calls and gives the directory back, so that it can be opened
    /// again. Blocks, for at most the write deadline. Dropping the engine does the same and swallows the error.
    pub fn close(&self) -> Result<(), StoreFailure> {
        let outcome = self.committer.close();
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
        outcome
    }

    /// Ends with the reason when the engine fails; the process should then exit, to be started anew. Never ends otherwise.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.health.failed()
    }
}

/// Reads from the tree here and now.
fn read<T>(
    open: &RwLock<Option<Open>>,
    health: &Health,
    read: impl FnOnce(&dyn Rows) -> Result<T, Fault>,
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
        self.committer.change(change).await
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The lock of the data directory keeps other processes out.
    fn is_shared(&self) -> bool {
        false
    }

    fn fail(&self, why: String) -> StoreFailure {
        self.health.fail(why)
    }
}

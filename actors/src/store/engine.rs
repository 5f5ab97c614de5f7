//! The interface of a database: rows under sorted keys, changed in groups, with a feed of what changed.
//!
//! An engine knows nothing of accounts. It reads rows, makes changes durable in one total order,
//! and tells which rows each commit changed. The rules and the layout of the rows belong to the store above it.

use std::fmt;
use std::ops::Bound;

use async_trait::async_trait;

use super::codec::RecordError;
use super::feed::Feed;
use crate::health::EngineHealth;

pub mod memory;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Why a query or a change could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// One record could not be read or written. The change or query fails, and the store continues.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// The failure of a call to the engine. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store failed: {why}")]
pub struct StoreFailure {
    /// What is known about the outcome of the call.
    pub kind: FailureKind,
    /// The reason, for operators.
    pub why: String,
}

/// What is known about the outcome of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing was changed, and the same call may succeed later.
    Transient,
    /// The change may or may not have been made.
    OutcomeUnknown,
    /// The call cannot succeed: the engine has failed until its process restarts, or a record is damaged.
    /// Callers must not assume that the change was made, nor that it was not.
    Permanent,
}

impl StoreFailure {
    /// Creates a permanent failure.
    pub fn permanent(why: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Permanent, why: why.to_string() }
    }
}

/// Rows at about one moment. An engine without snapshots may show two rows of different moments.
/// A query of several rows must then let the row that it reads last decide.
pub trait Rows {
    /// Returns the value under a key.
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// Returns at most `limit` rows between two keys, in the order of their keys.
    fn range_raw(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault>;

    /// Returns whether there is a value under a key.
    fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.get_raw(key)?.is_some())
    }
}

/// Rows that a change reads and writes.
pub trait View: Rows {
    /// Puts a value under a key.
    fn put_raw(&mut self, key: &[u8], value: Vec<u8>);

    /// Removes the value under a key, if there is one.
    fn remove(&mut self, key: &[u8]);

    /// Returns this view for reading.
    fn as_rows(&self) -> &dyn Rows;
}

/// What happens to the writes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The writes are committed.
    Keep,
    /// A rule refused the change, and the writes are discarded.
    Discard,
}

/// A change. The engine may call it several times, each time from the start with more of its rows loaded.
/// So it must have no effect except on the view.
pub type Change = Box<dyn FnMut(&mut dyn View) -> Result<Verdict, Fault> + Send>;

/// A query of many rows. It may be called several times, like a [`Change`].
pub type Question = Box<dyn FnMut(&dyn Rows) -> Result<(), Fault> + Send>;

/// The rows of an engine at one point in the order of its commits. It ends when it is dropped.
#[async_trait]
pub trait Export: Send {
    /// Returns the next rows, in the order of their keys: at most [`PIECE_ROWS`], and about [`PIECE_BYTES`]. No rows are the end.
    ///
    /// # Errors
    /// If the engine fails, or gives up the export because too much changed meanwhile. An export that failed does not go on.
    async fn next(&mut self) -> Result<Vec<Row>, StoreFailure>;
}

/// The maximum number of rows that an export returns at once.
pub const PIECE_ROWS: usize = 1024;
/// The size of the rows, keys and values, after which an export returns them, in bytes.
pub const PIECE_BYTES: usize = 256 * 1024;

/// Takes rows from an iterator up to the size of one piece of an export.
pub fn piece<E>(rows: impl Iterator<Item = Result<Row, E>>) -> Result<Vec<Row>, E> {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        piece.push((key, value));
        if piece.len() == PIECE_ROWS || bytes >= PIECE_BYTES {
            break;
        }
    }
    Ok(piece)
}

/// A database that keeps rows.
///
/// Changes have one total order. Each sees all changes before it, and one that is answered with `Ok` is durable.
/// Concurrent changes may share a commit, and each of them is kept or discarded on its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Returns the value under a key. The read sees everything that was committed before the call.
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFailure>;

    /// Runs a query of many rows, on a thread that may block.
    async fn ask(&self, question: Question) -> Result<(), StoreFailure>;

    /// Makes a change. A refusal, too, is answered only when everything it depends on is durable.
    async fn commit(&self, change: Change) -> Result<(), StoreFailure>;

    /// Makes a change that need not be durable yet: all see it at once, and the next [`commit`](Self::commit) makes it durable. A
    /// crash before that loses it.
    async fn commit_soon(&self, change: Change) -> Result<(), StoreFailure> {
        self.commit(change).await
    }

    /// Opens an export of all rows as they are after one commit, while others go on. Every commit that was acknowledged before the
    /// call is in it. Several exports may be open at once.
    async fn export(&self) -> Result<Box<dyn Export>, StoreFailure>;

    /// Returns the feed of what commits changed.
    fn feed(&self) -> &Feed;

    /// Returns whether other processes may have the same rows open. If not, claims and leases are not needed.
    fn is_shared(&self) -> bool;

    /// Returns what it reports about itself. May block for the time that the file system needs to tell its free space.
    fn health(&self) -> EngineHealth;

    /// Declares the engine failed, because it returned wrong data.
    fn fail(&self, why: String) -> StoreFailure;
}

//! What the store needs of a database: rows under keys, ordered, changed in groups, with a feed of what changed.
//!
//! An engine knows nothing of accounts. It reads rows, makes changes durable under one total order, and tells which rows each
//! commit changed. The rules and the layout of the rows belong to the store above it.

use std::fmt;
use std::ops::Bound;

use async_trait::async_trait;

use super::codec::RecordError;
use super::feed::Feed;

pub mod memory;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What went wrong while a question or a change was worked out.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// One record could not be read or written. The change or question fails; the store goes on.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// The engine could not do what it was asked. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store failed: {why}")]
pub struct StoreFailure {
    /// What can be said of the call.
    pub kind: FailureKind,
    /// Why, for operators.
    pub why: String,
}

/// What can be said of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing was done, and the same call may work later.
    Transient,
    /// The change may have been made or not.
    OutcomeUnknown,
    /// The call cannot work: the engine failed until its process starts again, or a record is damaged. Nothing that was asked may
    /// be taken as done or as not done.
    Permanent,
}

impl StoreFailure {
    /// A failure that stays.
    pub fn permanent(why: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Permanent, why: why.to_string() }
    }
}

/// Rows as they are at one moment, or close enough: an engine without snapshots may show two rows of different moments, and what
/// reads several of them lets the one read last decide.
pub trait Rows {
    /// The value under a key.
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// At most `limit` rows between two keys, in the order of their keys.
    fn range_raw(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault>;

    /// Whether there is a value under a key.
    fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.get_raw(key)?.is_some())
    }
}

/// Rows that a change reads and writes.
pub trait View: Rows {
    /// Puts a value under a key.
    fn put_raw(&mut self, key: &[u8], value: Vec<u8>);

    /// Removes what is under a key, if anything is.
    fn remove(&mut self, key: &[u8]);

    /// This view, to read from.
    fn as_rows(&self) -> &dyn Rows;
}

/// What becomes of the writes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are committed.
    Keep,
    /// A rule refused the change: they are forgotten.
    Discard,
}

/// A change. It may be called several times, each time from its start with more of the rows it names known, and so has no effect
/// but on the view.
pub type Change = Box<dyn FnMut(&mut dyn View) -> Result<Verdict, Fault> + Send>;

/// A question over many rows. It may be called several times, like a [`Change`].
pub type Question = Box<dyn FnMut(&dyn Rows) -> Result<(), Fault> + Send>;

/// A database that keeps rows.
///
/// Changes have one total order. Each sees all changes before it, and one that is answered with `Ok` is durable. Changes that
/// are asked for at the same time may share a commit; each of them is kept or discarded on its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The value under a key. Whatever was committed before this call began is seen.
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFailure>;

    /// Asks a question over many rows, on a thread that may block.
    async fn ask(&self, question: Question) -> Result<(), StoreFailure>;

    /// Makes a change. A refusal too is answered only when what it rests on is durable.
    async fn commit(&self, change: Change) -> Result<(), StoreFailure>;

    /// What commits changed, as they become durable.
    fn feed(&self) -> &Feed;

    /// Whether other processes may have the same rows open. Where they may not, claims and leases are not needed.
    fn is_shared(&self) -> bool;

    /// Declares the engine failed, as something read back from it was wrong.
    fn fail(&self, why: String) -> StoreFailure;
}
